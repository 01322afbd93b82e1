import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.mintbody import InvalidBodyError
from extauthz.transcriptionbody import parse_transcription_request, transcription_answer

NESTED = "session.audio.input.transcription.model"


@pytest.mark.parametrize(
    ("body", "model", "session", "expires_after"),
    [
        # Realistic
        pytest.param(
            {
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "scribe", "prompt": "", "language": "en"},
                "turn_detection": {"type": "server_vad", "threshold": 0.5},
                "input_audio_noise_reduction": {"type": "near_field"},
                "include": ["item.input_audio_transcription.logprobs"],
                "modalities": ["text", "audio"],
            },
            "scribe",
            {
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "scribe", "prompt": "", "language": "en"},
                        "noise_reduction": {"type": "near_field"},
                        "turn_detection": {"type": "server_vad", "threshold": 0.5},
                    }
                },
                "include": ["item.input_audio_transcription.logprobs"],
            },
            None,
            id="everything",
        ),
        pytest.param(
            {
                "input_audio_format": "g711_ulaw",
                "input_audio_transcription": {"model": "scribe"},
                "client_secret": {"expires_after": {"anchor": "created_at", "seconds": 60}},
            },
            "scribe",
            {
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcmu"},
                        "transcription": {"model": "scribe"},
                    }
                },
            },
            {"anchor": "created_at", "seconds": 60},
            id="expiry-of-the-retired-api",
        ),
        pytest.param(
            {"model": "scribe", "expires_after": {"seconds": 60}},
            "scribe",
            {"type": "transcription", "audio": {"input": {}}},
            {"anchor": "created_at", "seconds": 60},
            id="as-in-client-secrets",
        ),
        # Synthetic
        pytest.param(
            {"input_audio_transcription": {"model": "scribe"}, "turn_detection": None},
            "scribe",
            {
                "type": "transcription",
                "audio": {"input": {"transcription": {"model": "scribe"}}},
            },
            None,
            id="null",
        ),
    ],
)
def test_flat_bodies_become_nested(
    body: dict[str, Any],
    model: str,
    session: dict[str, Any],
    expires_after: dict[str, Any] | None,
) -> None:
    """Each member of the retired API has its place in the current one."""
    wanted = parse_transcription_request(json.dumps(body).encode())
    assert (wanted.model, wanted.session, wanted.expires_after) == (model, session, expires_after)
    assert wanted.session_type == "transcription"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        # Realistic
        pytest.param(b"", NESTED, id="empty"),
        pytest.param(b'{"input_audio_transcription":{"language":"en"}}', NESTED, id="no-model"),
        pytest.param(b'{"session":{"type":"transcription"}}', "session", id="current-api"),
        pytest.param(
            b'{"model":"m","input_audio_format":"mp3"}', "input_audio_format", id="format"
        ),
        pytest.param(
            b'{"model":"m","expires_after":{"seconds":5}}', "expires_after.seconds", id="expiry"
        ),
        # Pathological
        pytest.param(b"[]", None, id="list"),
        pytest.param(b'{"input_audio_transcription":{"model":7}}', NESTED, id="model-number"),
        pytest.param(
            b'{"model":"m","input_audio_format":{"type":"audio/pcm"}}',
            "input_audio_format",
            id="format-object",
        ),
        pytest.param(b'{"a\\u0000b":1}', None, id="name-that-cannot-be-shown"),
    ],
)
def test_a_body_is_refused(body: bytes, param: str | None) -> None:
    """What the retired API did not have, or what names no model, is 400."""
    with pytest.raises(InvalidBodyError) as refused:
        parse_transcription_request(body)
    assert refused.value.http_status == 400
    assert refused.value.param == param


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    """Nothing but a refusal comes of nonsense."""
    try:
        wanted = parse_transcription_request(body)
    except InvalidBodyError:
        return
    assert wanted.session_type == "transcription"


SECRET = {"value": "ek_token", "expires_at": 1_756_310_470}


@pytest.mark.parametrize(
    ("answer", "flat"),
    [
        # Realistic
        pytest.param(
            {
                "value": "ek_token",
                "expires_at": 1_756_310_470,
                "session": {
                    "type": "transcription",
                    "object": "realtime.transcription_session",
                    "id": "sess_1",
                    "include": None,
                    "audio": {
                        "input": {
                            "format": {"type": "audio/pcm", "rate": 24000},
                            "transcription": {"model": "gpt-transcribe"},
                            "noise_reduction": None,
                            "turn_detection": {"type": "server_vad"},
                        }
                    },
                },
                "client_secret": SECRET,
            },
            {
                "object": "realtime.transcription_session",
                "id": "sess_1",
                "include": None,
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "gpt-transcribe"},
                "input_audio_noise_reduction": None,
                "turn_detection": {"type": "server_vad"},
                "client_secret": SECRET,
            },
            id="openai",
        ),
        pytest.param(
            {"value": "ek_token", "client_secret": SECRET},
            {"object": "realtime.transcription_session", "client_secret": SECRET},
            id="no-session",
        ),
        # Pathological
        pytest.param(
            {"session": {"audio": {"input": [1]}, "x": "y"}, "client_secret": SECRET},
            {"object": "realtime.transcription_session", "client_secret": SECRET},
            id="odd-session",
        ),
        pytest.param(
            {"session": {"audio": {"input": {"format": {"type": "new"}}}}, "client_secret": SECRET},
            {
                "object": "realtime.transcription_session",
                "input_audio_format": {"type": "new"},
                "client_secret": SECRET,
            },
            id="new-format",
        ),
    ],
)
def test_the_answer_is_flat(answer: dict[str, Any], flat: dict[str, Any]) -> None:
    """Callers find the token in client_secret.value, and the session at the root."""
    assert json.loads(transcription_answer(json.dumps(answer).encode())) == flat
