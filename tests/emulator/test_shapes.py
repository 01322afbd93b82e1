import json
from typing import Any

import pytest
from openai.types.realtime import ClientSecretCreateResponse

from emulator.errors import ApiError
from emulator.shapes import (
    check_session,
    make_session,
    parse_client_secret_request,
    parse_json_object,
    update_session,
)

REALTIME = {"type": "realtime", "model": "gpt-realtime"}


def encoded(value: object) -> bytes:
    """Return a JSON body."""
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("body", "expires_s", "session_type"),
    [
        # Realistic
        pytest.param(encoded({"session": REALTIME}), 600, "realtime", id="session-only"),
        pytest.param(
            encoded(
                {
                    "expires_after": {"anchor": "created_at", "seconds": 60},
                    "session": {"type": "transcription"},
                }
            ),
            60,
            "transcription",
            id="transcription-for-a-minute",
        ),
        # Synthetic
        pytest.param(b"", 600, "realtime", id="no-body"),
        pytest.param(b"{}", 600, "realtime", id="empty-object"),
        pytest.param(encoded({"expires_after": {"seconds": 10}}), 10, "realtime", id="shortest"),
        pytest.param(encoded({"expires_after": {"seconds": 7200}}), 7200, "realtime", id="longest"),
    ],
)
def test_client_secret_requests_are_read(body: bytes, expires_s: int, session_type: str) -> None:
    """Lifetime and session have OpenAI's defaults."""
    request = parse_client_secret_request(body, model_required=False)
    assert request.expires_s == expires_s
    assert request.session["type"] == session_type


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        # Realistic
        pytest.param({"model": "gpt-realtime"}, "unknown_parameter", "model", id="beta-model"),
        pytest.param(
            {"session": {"model": "gpt-realtime"}},
            "missing_required_parameter",
            "session.type",
            id="no-type",
        ),
        pytest.param(
            {"session": {"type": "realtime", "voice": "alloy"}},
            "unknown_parameter",
            "session.voice",
            id="beta-voice",
        ),
        pytest.param(
            {"session": {"type": "transcription", "instructions": "x"}},
            "unknown_parameter",
            "session.instructions",
            id="instructions-for-a-transcription",
        ),
        pytest.param(
            {"session": {"type": "realtime", "output_modalities": ["audio", "text"]}},
            "invalid_value",
            "session.output_modalities",
            id="both-modalities",
        ),
        # Synthetic
        pytest.param(
            {"expires_after": {"seconds": 9}}, "invalid_value", "expires_after.seconds", id="9-s"
        ),
        pytest.param(
            {"expires_after": {"seconds": 7201}},
            "invalid_value",
            "expires_after.seconds",
            id="7201-s",
        ),
        pytest.param(
            {"expires_after": {"anchor": "now"}},
            "invalid_value",
            "expires_after.anchor",
            id="anchor",
        ),
        pytest.param(
            {"expires_after": {"minutes": 1}},
            "unknown_parameter",
            "expires_after.minutes",
            id="minutes",
        ),
        pytest.param(
            {"session": {"type": "realtime", "audio": {"input": {"turn_detection": {}}}}},
            "invalid_value",
            "session.audio.input.turn_detection.type",
            id="turn-detection-empty",
        ),
        pytest.param(
            {"session": {"type": "realtime", "audio": {"input": {"turn_detection": {"a": 1}}}}},
            "invalid_value",
            "session.audio.input.turn_detection.type",
            id="turn-detection-without-type",
        ),
        # Pathological
        pytest.param([], "invalid_json", None, id="array"),
        pytest.param({"session": []}, "invalid_type", "session", id="session-array"),
        pytest.param({"session": {"type": []}}, "invalid_value", "session.type", id="type-array"),
        pytest.param(
            {"session": {"type": "realtime", "audio": 1}},
            "invalid_type",
            "session.audio",
            id="audio-number",
        ),
        pytest.param({"expires_after": 600}, "invalid_type", "expires_after", id="bare-number"),
        pytest.param(
            {"expires_after": {"seconds": True}},
            "invalid_type",
            "expires_after.seconds",
            id="seconds-true",
        ),
    ],
)
def test_client_secret_requests_are_refused(
    body: object, code: str | None, param: str | None
) -> None:
    """Each mistake is a 400 that names the parameter."""
    with pytest.raises(ApiError) as refused:
        parse_client_secret_request(encoded(body), model_required=False)
    assert refused.value.status == 400
    assert (refused.value.code, refused.value.param) == (code, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({}, "session", id="nothing"),
        pytest.param({"session": {"type": "realtime"}}, "session.model", id="no-model"),
        pytest.param({"session": {"model": "gpt-realtime"}}, "session.type", id="no-type"),
    ],
)
def test_azure_wants_type_and_model(body: object, param: str) -> None:
    """Azure mints nothing without a session that names its type and deployment."""
    with pytest.raises(ApiError) as refused:
        parse_client_secret_request(encoded(body), model_required=True)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param("null", id="null"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    """Whatever the text is, the answer is a 400."""
    with pytest.raises(ApiError, match="could not parse"):
        parse_json_object(text)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(REALTIME, id="realtime"),
        pytest.param({"type": "transcription"}, id="transcription"),
        pytest.param(
            {
                "type": "realtime",
                "model": "gpt-realtime-mini",
                "instructions": "Sing.",
                "audio": {
                    "input": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}},
                    "output": {"voice": "marin"},
                },
            },
            id="configured",
        ),
    ],
)
def test_sessions_are_what_openais_sdk_expects(config: dict[str, Any]) -> None:
    """The session object validates strictly against the SDK's model, and keeps what was asked."""
    session = make_session(config, "sess_1", expires_at=0)
    answer = {"value": "ek_1", "expires_at": 1, "session": session}
    parsed = ClientSecretCreateResponse.model_validate(answer)
    assert parsed.session.type == config["type"]
    for name in config.keys() - {"audio"}:
        assert session[name] == config[name]


def test_a_session_takes_only_what_an_update_names() -> None:
    """Nested audio settings are merged, others replaced, and null switches off."""
    session = make_session(
        REALTIME | {"audio": {"output": {"voice": "marin", "speed": 1.2}}}, "sess_1", expires_at=0
    )
    updated = update_session(
        session,
        {
            "type": "realtime",
            "model": "another",
            "tools": [{"type": "function", "name": "f"}],
            "audio": {"input": {"turn_detection": None}, "output": {"voice": "cedar"}},
        },
    )
    assert updated["audio"]["output"] == session["audio"]["output"] | {"voice": "cedar"}
    assert updated["audio"]["input"]["turn_detection"] is None
    assert updated["tools"] == [{"type": "function", "name": "f"}]
    assert updated["model"] == "gpt-realtime"
    assert session["tools"] == []


def test_a_session_keeps_its_type() -> None:
    """An update can't make a transcription of a conversation."""
    session = make_session(REALTIME, "sess_1", expires_at=0)
    with pytest.raises(ApiError) as refused:
        update_session(session, {"type": "transcription"})
    assert refused.value.param == "session.type"


def test_a_whole_session_may_come_back() -> None:
    """A client may send the session object that it got, read-only fields and all."""
    session = make_session(REALTIME, "sess_1", expires_at=5)
    check_session(session)
    assert update_session(session, session | {"id": "sess_2"}) == session
