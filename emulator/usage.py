"""Token counts that follow from the text and the audio of a conversation. Pure.

Audio rates are OpenAI's published ones: one token per 100 ms of user audio, one per 50 ms of the
model's. Text is counted as four characters a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_USER_MS_PER_TOKEN: Final = 100
_MODEL_MS_PER_TOKEN: Final = 50
_CHARACTERS_PER_TOKEN: Final = 4
# The provider caches the beginning of the input in blocks of this many tokens.
_CACHE_BLOCK_TOKENS: Final = 64
# The events with usage, and what is billed there.
BILLED: Final[Mapping[str, str]] = {
    "response.done": "response",
    "conversation.item.input_audio_transcription.completed": "transcription",
}
# No two parts are alike, so that none can be taken for another.
FULL_USAGE: Final[Mapping[str, Any]] = {
    "total_tokens": 1159,
    "input_tokens": 1021,
    "output_tokens": 138,
    "input_token_details": {
        "text_tokens": 211,
        "audio_tokens": 307,
        "image_tokens": 503,
        "cached_tokens": 384,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 128, "image_tokens": 192},
    },
    "output_token_details": {"text_tokens": 41, "audio_tokens": 97},
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Text and audio tokens of one piece of a conversation."""

    text: int = 0
    audio: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.text + other.text, self.audio + other.audio)

    @property
    def total(self) -> int:
        """Both kinds together."""
        return self.text + self.audio


def count_text(text: str) -> int:
    """Return the tokens of a text, at least one unless it is empty."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def count_user_audio(duration_ms: int) -> int:
    """Return the tokens of audio from the user."""
    return -(-duration_ms // _USER_MS_PER_TOKEN)


def count_model_audio(duration_ms: int) -> int:
    """Return the tokens of audio from the model."""
    return -(-duration_ms // _MODEL_MS_PER_TOKEN)


class Ledger:
    """What a conversation holds, and so what the next response takes as its input."""

    def __init__(self) -> None:
        self._items = Tokens()
        self._cached = Tokens()

    def add(self, tokens: Tokens) -> None:
        """Add an item of the user's."""
        self._items += tokens

    def respond(self, instructions: str, output: Tokens) -> dict[str, Any]:
        """Return the ``usage`` of a response, and add its output to the conversation.

        Cached tokens are a part of the input: the blocks that an earlier response has sent before.

        Args:
            instructions: Of the session or the response.
            output: What the response produced.
        """
        context = Tokens(text=count_text(instructions)) + self._items
        cached = Tokens(
            min(self._cached.text, context.text), min(self._cached.audio, context.audio)
        )
        self._cached = Tokens(_whole_blocks(context.text), _whole_blocks(context.audio))
        self._items += output
        return {
            "total_tokens": context.total + output.total,
            "input_tokens": context.total,
            "output_tokens": output.total,
            "input_token_details": {
                "text_tokens": context.text,
                "audio_tokens": context.audio,
                "image_tokens": 0,
                "cached_tokens": cached.total,
                "cached_tokens_details": {
                    "text_tokens": cached.text,
                    "audio_tokens": cached.audio,
                    "image_tokens": 0,
                },
            },
            "output_token_details": {"text_tokens": output.text, "audio_tokens": output.audio},
        }


def transcription_usage(model: str, duration_ms: int, transcript: str) -> dict[str, Any]:
    """Return the ``usage`` of a transcription: Whisper's in begun seconds, others' in tokens.

    Args:
        model: What transcribes.
        duration_ms: Of the user's audio.
        transcript: What comes of it.
    """
    heard, written = count_user_audio(duration_ms), count_text(transcript)
    if "whisper" in model:
        return _by_duration(heard)
    return {
        "type": "tokens",
        "total_tokens": heard + written,
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": written,
    }


def spoil_usage(said: str | Mapping[str, Any], usage: dict[str, Any]) -> Any:
    """Return what a fault makes of usage.

    Args:
        said: ``zero``, ``null``, ``full``, ``duration`` (of a transcription), or what to return.
        usage: What it was.
    """
    match said:
        case "zero":
            return _zeroed(usage)
        case "null":
            return None
        case "full":
            return dict(FULL_USAGE)
        case "duration":
            return usage if usage["type"] == "duration" else _by_duration(usage["input_tokens"])
        case _:
            return said


def _zeroed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _zeroed(part) for name, part in value.items()}
    return 0 if isinstance(value, int) else value


def _by_duration(heard: int) -> dict[str, Any]:
    return {"type": "duration", "seconds": -(-heard * _USER_MS_PER_TOKEN // 1000)}


def _whole_blocks(tokens: int) -> int:
    return tokens // _CACHE_BLOCK_TOKENS * _CACHE_BLOCK_TOKENS
