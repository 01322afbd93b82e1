"""The retired beta's shapes, which Azure's preview still speaks: flat sessions, other names. Pure.

A conversation works with the current shapes; `to_beta` and `from_beta` stand between it and a
client of the preview. Only what a call needs is translated.
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-preview-api-migration-guide
"""

from collections.abc import Mapping
from typing import Any, Final

from emulator import errors
from emulator.shapes import Session, parse_json_object

# The preview's keys live for a minute.
EXPIRES_S: Final = 60

_EVENT_TYPES: Final = {
    "conversation.item.added": "conversation.item.created",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
}
_CONTENT_TYPES: Final = {"output_audio": "audio", "output_text": "text"}
# The beta knows no such event.
_ABSENT: Final = "conversation.item.done"
_FIELDS: Final = frozenset(
    {
        "input_audio_format",
        "input_audio_noise_reduction",
        "input_audio_transcription",
        "instructions",
        "max_response_output_tokens",
        "modalities",
        "model",
        "output_audio_format",
        "speed",
        "temperature",
        "tool_choice",
        "tools",
        "turn_detection",
        "voice",
    }
)
_SAME_NAME: Final = ("instructions", "model", "tool_choice", "tools")
_INPUT: Final = {
    "input_audio_noise_reduction": "noise_reduction",
    "input_audio_transcription": "transcription",
    "turn_detection": "turn_detection",
}
_OUTPUT: Final = ("speed", "voice")


def parse_preview_session(body: bytes) -> Session:
    """Return the session that the flat body of ``POST realtimeapi/sessions`` asks for.

    Raises:
        ApiError: 400 without ``model``, and for fields that only the current API has.
    """
    flat = parse_json_object(body)
    if not flat.get("model"):
        raise errors.missing_parameter("model")
    return _nested(flat, "")


def make_preview_session(session: Session) -> dict[str, Any]:
    """Return the flat session object for a full current one."""
    audio = session["audio"]
    given = {name: session[name] for name in ("id", "object", "expires_at", *_SAME_NAME)}
    given |= {flat: audio["input"][name] for flat, name in _INPUT.items()}
    given |= {name: audio["output"][name] for name in _OUTPUT}
    is_spoken = session["output_modalities"] == ["audio"]
    return given | {
        "modalities": ["text", "audio"] if is_spoken else ["text"],
        "input_audio_format": "pcm16",
        "output_audio_format": "pcm16",
        "max_response_output_tokens": session["max_output_tokens"],
        "temperature": 0.8,
    }


def from_beta(event: dict[str, Any]) -> dict[str, Any]:
    """Return a client's event in the current shape.

    Raises:
        ApiError: 400 ``unknown_parameter`` for the fields of a current session.
    """
    match event:
        case {"type": "session.update", "session": dict(flat)}:
            return {**event, "session": _nested(flat, "session.")}
        case {"type": "response.create", "response": {"modalities": modalities, **others}}:
            return {**event, "response": {**others, "output_modalities": _modalities(modalities)}}
        case _:
            return event


def to_beta(event: dict[str, Any]) -> dict[str, Any] | None:
    """Return an event in the beta's shape, or None if the beta has none like it."""
    if event["type"] == _ABSENT:
        return None
    renamed = {**event, "type": _EVENT_TYPES.get(event["type"], event["type"])}
    if "session" in renamed:
        renamed["session"] = make_preview_session(renamed["session"])
    if "item" in renamed:
        renamed["item"] = _item(renamed["item"])
    if "response" in renamed:
        response = dict(renamed["response"])
        is_spoken = response.pop("output_modalities") == ["audio"]
        output = [_item(item) for item in response["output"]]
        modalities = ["text", "audio"] if is_spoken else ["text"]
        renamed["response"] = {**response, "modalities": modalities, "output": output}
    return renamed


def _nested(flat: Mapping[str, Any], path: str) -> Session:
    for name in flat:
        if name not in _FIELDS:
            raise errors.unknown_parameter(path + name)
    session: Session = {"type": "realtime"}
    session |= {name: flat[name] for name in _SAME_NAME if name in flat}
    if "modalities" in flat:
        session["output_modalities"] = _modalities(flat["modalities"])
    if "max_response_output_tokens" in flat:
        session["max_output_tokens"] = flat["max_response_output_tokens"]
    audio_input = {name: flat[each] for each, name in _INPUT.items() if each in flat}
    audio_output = {name: flat[name] for name in _OUTPUT if name in flat}
    return session | {"audio": {"input": audio_input, "output": audio_output}}


def _modalities(value: object) -> list[str]:
    return ["audio"] if isinstance(value, list) and "audio" in value else ["text"]


def _item(item: dict[str, Any]) -> dict[str, Any]:
    content = [
        {**part, "type": _CONTENT_TYPES.get(part["type"], part["type"])}
        for part in item.get("content", [])
    ]
    return {**item, "content": content} if "content" in item else item
