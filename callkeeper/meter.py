"""What the events of a call's sideband say about its use. Pure: dictionaries in, `Usage` out.

https://platform.openai.com/docs/api-reference/realtime-server-events
"""

from collections import OrderedDict
from collections.abc import Iterable, KeysView, Mapping
from types import MappingProxyType
from typing import Any, Final

from callkeeper.model import Tokens, Usage

RESPONSE_DONE: Final = "response.done"
TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
_SESSION_EVENTS: Final = frozenset({"session.created", "session.updated"})
# Who begins to speak, or ceases to.
SPEECH: Final = MappingProxyType(
    {
        "input_audio_buffer.speech_started": ("caller", True),
        "input_audio_buffer.speech_stopped": ("caller", False),
        "output_audio_buffer.started": ("model", True),
        "output_audio_buffer.stopped": ("model", False),
        "output_audio_buffer.cleared": ("model", False),
    }
)
# What shows that somebody is there: either side speaks or writes.
ACTIVITY: Final = frozenset(
    {*SPEECH, "input_audio_buffer.committed", "response.created", RESPONSE_DONE, TRANSCRIBED}
)
# All events that are worth parsing; the rest, transcripts in small pieces above all, is most.
HEEDED: Final = ACTIVITY | _SESSION_EVENTS

# A provider repeats an event soon or never. Sinks know ids for longer.
_IDS_KEPT: Final = 256
# More than any context holds; whatever is above is no count.
_MAX_COUNT: Final = 10**9
_MAX_ID_CHARS: Final = 256


class Meter:
    """Reads the events of one call, in the order in which they come.

    Args:
        seen: Ids of usages that another one has read.
        transcriber: As of the attribute.
    """

    __slots__ = ("_seen", "transcriber")

    def __init__(self, seen: Iterable[str] = (), transcriber: str = "") -> None:
        self._seen: OrderedDict[str, None] = OrderedDict.fromkeys(seen)
        self.transcriber = transcriber
        """Name of the model that transcribes. The event of a transcription does not have it; that
        of the session does."""

    @property
    def seen(self) -> KeysView[str]:
        """Ids of the usages that were read last."""
        return self._seen.keys()

    def read(self, event: Mapping[str, Any], now: float) -> Usage | None:
        """Return what an event has used; None if nothing, or if it was read before.

        What is malformed counts as nothing: a provider that changes its events must not end calls.

        Args:
            event: As JSON has it.
            now: In seconds since 1970.
        """
        kind = event.get("type")
        if kind == RESPONSE_DONE:
            response = _mapping(event.get("response"))
            tokens = response_tokens(_mapping(response.get("usage")))
            return self._once(Usage(_text(response.get("id")), "response", "", tokens, now))
        if kind == TRANSCRIBED:
            tokens = transcription_tokens(_mapping(event.get("usage")))
            model = self.transcriber
            return self._once(Usage(_item_id(event), "transcription", model, tokens, now))
        if kind in _SESSION_EVENTS:
            self.transcriber = _transcriber(_mapping(event.get("session")))
        return None

    def _once(self, usage: Usage) -> Usage | None:
        if not usage.id or usage.tokens == Tokens() or usage.id in self._seen:
            return None
        self._seen[usage.id] = None
        if len(self._seen) > _IDS_KEPT:
            self._seen.popitem(last=False)
        return usage


def response_tokens(usage: Mapping[str, Any]) -> Tokens:
    """Return the tokens of a response.

    Cached tokens are a part of the input. What the provider does not split is text, and what it
    says to be cached without saying of which kind comes off text, audio and images in this order.

    Args:
        usage: ``response.usage``; may be empty.
    """
    details = _mapping(usage.get("input_token_details"))
    text, audio, image = (
        _count(details.get(name)) for name in ("text_tokens", "audio_tokens", "image_tokens")
    )
    text += max(0, _count(usage.get("input_tokens")) - text - audio - image)
    cached = _cached(details, text, audio, image)
    written = _mapping(usage.get("output_token_details"))
    text_out, audio_out = (_count(written.get(name)) for name in ("text_tokens", "audio_tokens"))
    text_out += max(0, _count(usage.get("output_tokens")) - text_out - audio_out)
    return Tokens(
        text_in=text - cached[0],
        audio_in=audio - cached[1],
        image_in=image - cached[2],
        cached_text_in=cached[0],
        cached_audio_in=cached[1],
        cached_image_in=cached[2],
        text_out=text_out,
        audio_out=audio_out,
    )


def transcription_tokens(usage: Mapping[str, Any]) -> Tokens:
    """Return what a transcription is billed by: tokens, or the seconds of its audio.

    Args:
        usage: Of the event; may be empty.
    """
    if usage.get("type") == "duration":
        seconds: object = usage.get("seconds")
        # Not isinstance: True is an int too.
        if (type(seconds) is int or type(seconds) is float) and 0 <= seconds <= _MAX_COUNT:
            return Tokens(seconds=float(seconds))
        return Tokens()
    return response_tokens(usage)


def _cached(details: Mapping[str, Any], *counts: int) -> list[int]:
    """Return how much of text, audio and images was cached: of none more than there was."""
    split = details.get("cached_tokens_details")
    if isinstance(split, Mapping):
        names = ("text_tokens", "audio_tokens", "image_tokens")
        return [
            min(_count(split.get(name)), count) for name, count in zip(names, counts, strict=True)
        ]
    left, cached = _count(details.get("cached_tokens")), []
    for count in counts:
        cached.append(min(left, count))
        left -= cached[-1]
    return cached


def _transcriber(session: Mapping[str, Any]) -> str:
    audio = _mapping(_mapping(session.get("audio")).get("input"))
    return _text(_mapping(audio.get("transcription")).get("model"))


def _item_id(event: Mapping[str, Any]) -> str:
    """Return an id of what was transcribed: an item's first part has the item's."""
    item, part = _text(event.get("item_id")), _count(event.get("content_index"))
    return f"{item}/{part}" if item and part else item


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _MAX_ID_CHARS else ""


def _count(value: object) -> int:
    # Not isinstance: True is an int too.
    return value if type(value) is int and 0 <= value <= _MAX_COUNT else 0
