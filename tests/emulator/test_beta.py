from typing import Any

import pytest

from emulator.beta import from_beta, make_preview_session, parse_preview_session, to_beta
from emulator.errors import ApiError
from emulator.shapes import make_session

FLAT = (
    b'{"model": "voice", "modalities": ["text", "audio"], "voice": "sage", '
    b'"input_audio_format": "pcm16", "turn_detection": null, "max_response_output_tokens": 100, '
    b'"input_audio_transcription": {"model": "whisper"}, "instructions": "Be brief."}'
)


def test_flat_sessions_become_nested_and_flat_again() -> None:
    """Each field of the beta has its place in a current session."""
    nested = parse_preview_session(FLAT)
    assert nested == {
        "type": "realtime",
        "model": "voice",
        "instructions": "Be brief.",
        "output_modalities": ["audio"],
        "max_output_tokens": 100,
        "audio": {
            "input": {"transcription": {"model": "whisper"}, "turn_detection": None},
            "output": {"voice": "sage"},
        },
    }
    flat = make_preview_session(make_session(nested, "sess_1", expires_at=7))
    assert flat["id"] == "sess_1"
    assert flat["modalities"] == ["text", "audio"]
    assert flat["max_response_output_tokens"] == 100
    assert flat["input_audio_transcription"] == {"model": "whisper"}
    assert "type" not in flat
    assert "audio" not in flat


@pytest.mark.parametrize("name", ["type", "output_modalities", "audio", "max_output_tokens"])
def test_fields_of_today_are_refused(name: str) -> None:
    """The preview knows none of them, in a mint as in an update."""
    with pytest.raises(ApiError, match=f"Unknown parameter: '{name}'."):
        parse_preview_session(f'{{"model": "voice", "{name}": 1}}'.encode())
    with pytest.raises(ApiError, match=f"Unknown parameter: 'session.{name}'."):
        from_beta({"type": "session.update", "session": {name: 1}})


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(
            {"type": "session.update", "session": {"modalities": ["text"]}},
            {"output_modalities": ["text"]},
            id="session",
        ),
        pytest.param(
            {"type": "response.create", "response": {"modalities": ["text", "audio"]}},
            {"output_modalities": ["audio"]},
            id="response",
        ),
        pytest.param({"type": "response.create"}, {}, id="bare-response"),
        pytest.param({"type": "session.update", "session": 1}, {}, id="no-object"),
        pytest.param({"type": ["session.update"]}, {}, id="type-is-an-array"),
    ],
)
def test_client_events_are_brought_up_to_date(
    event: dict[str, Any], expected: dict[str, Any]
) -> None:
    """What the conversation itself refuses is left as it is."""
    read = from_beta(event)
    assert read["type"] == event["type"]
    if expected:
        inner = read.get("session") or read["response"]
        assert expected.items() <= inner.items()


def test_server_events_get_their_old_names() -> None:
    """Items have other content types, and the end of an item is not told."""
    item: dict[str, Any] = {
        "id": "item_1",
        "content": [{"type": "output_audio", "transcript": "Hello"}],
    }
    added = to_beta({"type": "conversation.item.added", "item": item})
    assert added is not None
    assert added["type"] == "conversation.item.created"
    assert added["item"]["content"][0] == {"type": "audio", "transcript": "Hello"}
    assert to_beta({"type": "conversation.item.done", "item": item}) is None
    assert item["content"][0]["type"] == "output_audio"
    speech = {"type": "input_audio_buffer.speech_started", "item_id": "item_1"}
    assert to_beta(speech) == speech
