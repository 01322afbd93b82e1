"""Conversation items: what a client may add to a conversation, and how much of it counts. Pure."""

import base64
from typing import Any, Final

from emulator import errors
from emulator.usage import Tokens, count_text, count_user_audio

Item = dict[str, Any]

# 16-bit mono samples at 24 kHz.
PCM_BYTES_PER_MS: Final = 48
_TYPES: Final = (
    "message",
    "function_call",
    "function_call_output",
    "mcp_approval_response",
)
_ROLES: Final = ("user", "assistant", "system")


def parse_item(value: object, fallback_id: str) -> Item:
    """Return the item of a ``conversation.item.create`` event, completed.

    Args:
        value: The event's ``item``.
        fallback_id: Its id if the client gave none.

    Raises:
        ApiError: If it is no item.
    """
    if value is None:
        raise errors.missing_parameter("item")
    if not isinstance(value, dict):
        raise errors.invalid_type("item", "an object")
    if value.get("type") not in _TYPES:
        raise errors.invalid_value("item.type", f"one of {', '.join(_TYPES)}")
    if value["type"] == "message":
        if value.get("role") not in _ROLES:
            raise errors.invalid_value("item.role", f"one of {', '.join(_ROLES)}")
        content = value.get("content")
        if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
            raise errors.invalid_type("item.content", "an array of objects")
    item_id = value.get("id") or fallback_id
    if not isinstance(item_id, str):
        raise errors.invalid_type("item.id", "a string")
    return {**value, "id": item_id, "object": "realtime.item", "status": "completed"}


def user_audio_item(item_id: str) -> Item:
    """Return the item that committed microphone audio becomes."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }


def count_item(item: Item) -> Tokens:
    """Return the tokens of an item that a client added."""
    text = str(item.get("output", "")) + str(item.get("arguments", ""))
    audio_ms = 0
    for part in item["content"] if item["type"] == "message" else []:
        text += str(part.get("text") or part.get("transcript") or "")
        audio_ms += audio_length_ms(part.get("audio") or "")
    return Tokens(count_text(text), count_user_audio(audio_ms))


def audio_length_ms(audio: object) -> int:
    """Return the length of base64 audio, taken as 24 kHz PCM.

    Raises:
        ApiError: If it is no base64 text.
    """
    return len(parse_audio(audio)) // PCM_BYTES_PER_MS


def parse_audio(audio: object) -> bytes:
    """Return the samples of base64 audio.

    Raises:
        ApiError: If it is no base64 text.
    """
    if not isinstance(audio, str):
        raise errors.invalid_type("audio", "a base64-encoded string")
    try:
        return base64.b64decode(audio, validate=True)
    except ValueError as exc:
        raise errors.invalid_value("audio", "base64-encoded audio") from exc
