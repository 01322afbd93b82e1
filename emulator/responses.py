"""One response of the emulated model: the events from response.created to response.done. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from emulator import errors
from emulator.script import Utterance
from emulator.shapes import Session
from emulator.usage import Ledger, Tokens, count_model_audio, count_text

Event = dict[str, Any]
# The base64 audio of an utterance between two times in milliseconds.
Speak = Callable[[Utterance, int, int], str]
Status = Literal["completed", "cancelled"]
Reason = Literal["turn_detected", "client_cancelled"]

_REQUEST_FIELDS: Final = frozenset(
    {
        "audio",
        "conversation",
        "input",
        "instructions",
        "max_output_tokens",
        "metadata",
        "output_modalities",
        "parallel_tool_calls",
        "prompt",
        "reasoning",
        "tool_choice",
        "tools",
    }
)


@dataclass(frozen=True, slots=True)
class ResponseIds:
    """The names of a response, of its one output item and of the conversation around it."""

    response: str
    item: str
    conversation: str
    previous_item: str | None


def check_response_request(value: object) -> dict[str, Any]:
    """Return the ``response`` of a ``response.create`` event, or nothing if it is absent.

    Raises:
        ApiError: If it is no object, or has fields that the API doesn't know.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.invalid_type("response", "an object")
    for name in value:
        if name not in _REQUEST_FIELDS:
            raise errors.unknown_parameter(f"response.{name}")
    if value.get("output_modalities", ["audio"]) not in (["audio"], ["text"]):
        raise errors.invalid_value("response.output_modalities", "['audio'] or ['text']")
    if not isinstance(value.get("instructions", ""), str):
        raise errors.invalid_type("response.instructions", "a string")
    return value


class Response:
    """A response while it is generated.

    Methods return events without ``event_id``; the conversation numbers them.

    Args:
        ids: Its names.
        utterance: What it says.
        session: The session that it belongs to.
        request: The ``response`` of the ``response.create`` event, checked.
        speak: Returns the audio of a part of the utterance, where events carry it.
    """

    def __init__(
        self,
        ids: ResponseIds,
        utterance: Utterance,
        session: Session,
        request: Mapping[str, Any],
        speak: Speak | None = None,
    ) -> None:
        self.ids = ids
        self.utterance = utterance
        self._session = session
        self._request = request
        self._modalities = request.get("output_modalities") or session["output_modalities"]
        self._words_done = 0
        self._spoken_ms = 0
        self._speak = speak

    @property
    def is_spoken(self) -> bool:
        """Whether it is audio; otherwise it is text."""
        return bool(self._modalities == ["audio"])

    @property
    def is_generated(self) -> bool:
        """Whether every word of it has been generated."""
        return self._words_done == len(self.utterance.words)

    @property
    def text(self) -> str:
        """The words so far."""
        return " ".join(self.utterance.words[: self._words_done])

    def start(self) -> list[Event]:
        """Return the events that announce the response and its item."""
        part = {"type": "audio", "transcript": ""} if self.is_spoken else self._text_part("text")
        return [
            {"type": "response.created", "response": self._resource("in_progress", None, None)},
            _rate_limits(),
            {
                "type": "response.output_item.added",
                "response_id": self.ids.response,
                "output_index": 0,
                "item": self.item("in_progress"),
            },
            {
                "type": "conversation.item.added",
                "previous_item_id": self.ids.previous_item,
                "item": self.item("in_progress"),
            },
            {"type": "response.content_part.added", **self._part_place(), "part": part},
        ]

    def generate(self, until_ms: int) -> list[Event]:
        """Return the deltas of the words that are spoken by ``until_ms`` of the audio."""
        kind = "output_audio_transcript" if self.is_spoken else "output_text"
        deltas: list[Event] = []
        ends = self.utterance.word_ends_ms
        while not self.is_generated and ends[self._words_done] <= until_ms:
            space = " " if self._words_done else ""
            delta = space + self.utterance.words[self._words_done]
            deltas.append({"type": f"response.{kind}.delta", **self._part_place(), "delta": delta})
            if self.is_spoken and self._speak is not None:
                audio = self._speak(self.utterance, self._spoken_ms, ends[self._words_done])
                place = self._part_place()
                deltas.append({"type": "response.output_audio.delta", **place, "delta": audio})
            self._spoken_ms = ends[self._words_done]
            self._words_done += 1
        return deltas

    def finish(self, ledger: Ledger, status: Status, reason: Reason | None = None) -> list[Event]:
        """Return the events that end the response, and book its tokens.

        Args:
            ledger: Of the conversation.
            status: What it ended as.
            reason: Why it was cancelled.
        """
        audio_tokens = count_model_audio(self._spoken_ms) if self.is_spoken else 0
        instructions = self._request.get("instructions") or self._session["instructions"] or ""
        usage = ledger.respond(instructions, Tokens(count_text(self.text), audio_tokens))
        item = self.item("completed" if status == "completed" else "incomplete")
        response = self._resource(status, reason, usage) | {"output": [item]}
        item_done = {
            "type": "response.output_item.done",
            "response_id": self.ids.response,
            "output_index": 0,
            "item": item,
        }
        return [
            *self._content_done(),
            {
                "type": "conversation.item.done",
                "previous_item_id": self.ids.previous_item,
                "item": item,
            },
            item_done,
            {"type": "response.done", "response": response},
        ]

    def _content_done(self) -> list[Event]:
        place = self._part_place()
        if not self.is_spoken:
            return [
                {"type": "response.output_text.done", **place, "text": self.text},
                {
                    "type": "response.content_part.done",
                    **place,
                    "part": self._text_part("text"),
                },
            ]
        part = {"type": "audio", "transcript": self.text}
        return [
            {"type": "response.output_audio.done", **place},
            {
                "type": "response.output_audio_transcript.done",
                **place,
                "transcript": self.text,
            },
            {"type": "response.content_part.done", **place, "part": part},
        ]

    def item(self, status: str) -> dict[str, Any]:
        """Return the output item, with its content unless it is still in progress."""
        content: list[dict[str, Any]] = []
        if status != "in_progress":
            spoken = {"type": "output_audio", "transcript": self.text}
            content = [spoken if self.is_spoken else self._text_part("output_text")]
        return {
            "id": self.ids.item,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _text_part(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "text": self.text}

    def _part_place(self) -> dict[str, Any]:
        return {
            "response_id": self.ids.response,
            "item_id": self.ids.item,
            "output_index": 0,
            "content_index": 0,
        }

    def _resource(
        self, status: str, reason: Reason | None, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        output = self._session["audio"]["output"]
        out_of_band = self._request.get("conversation") == "none"
        return {
            "object": "realtime.response",
            "id": self.ids.response,
            "status": status,
            "status_details": {"type": status, "reason": reason} if reason else None,
            "output": [],
            "conversation_id": None if out_of_band else self.ids.conversation,
            "output_modalities": self._modalities,
            "max_output_tokens": self._request.get(
                "max_output_tokens", self._session["max_output_tokens"]
            ),
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": usage,
            "metadata": self._request.get("metadata"),
        }


def _rate_limits() -> Event:
    limits = (("requests", 5000, 4999, 0.012), ("tokens", 800000, 795500, 0.337))
    return {
        "type": "rate_limits.updated",
        "rate_limits": [
            {"name": name, "limit": limit, "remaining": remaining, "reset_seconds": reset_s}
            for name, limit, remaining, reset_s in limits
        ],
    }
