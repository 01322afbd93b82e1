"""The talking half of the emulated model: generates responses, and plays them in turn. Pure."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from emulator.history import History
from emulator.responses import Event, Reason, Response, ResponseIds, Speak
from emulator.script import Utterance
from emulator.shapes import Session

# The model is this much faster than its own voice.
_GENERATION_SPEED: Final = 4


@dataclass(slots=True)
class Playback:
    """Audio on its way to the client: a response, and how much of it has been sent."""

    response: Response
    position_ms: int = 0


class Speaker:
    """Generates responses and plays them, one after the other.

    Args:
        history: Of the conversation.
        make_id: Makes ids from prefixes.
        speak: Puts the audio into events; then nothing is played.
    """

    def __init__(
        self, history: History, make_id: Callable[[str], str], speak: Speak | None = None
    ) -> None:
        self.generating: Response | None = None
        self.has_spoken = False
        """Whether the conversation holds audio of the model."""
        self._generated_ms = 0
        self._queue: deque[Playback] = deque()
        self._history = history
        self._make_id = make_id
        self._conversation_id = make_id("conv")
        self._speak = speak

    @property
    def playback(self) -> Playback | None:
        """What is being played."""
        return self._queue[0] if self._queue else None

    @property
    def is_busy(self) -> bool:
        """Whether anything is being generated or played."""
        return self.generating is not None or bool(self._queue)

    def begin(
        self, utterance: Utterance, session: Session, request: Mapping[str, Any]
    ) -> list[Event]:
        """Begin a response; text is generated at once, speech as time passes."""
        ids = ResponseIds(
            self._make_id("resp"),
            self._make_id("item"),
            self._conversation_id,
            self._history.last_id,
        )
        response = Response(ids, utterance, session, request, self._speak)
        self.generating, self._generated_ms = response, 0
        self._history.put(response.item("in_progress"))
        events = response.start()
        if not response.is_spoken:
            return events + self._generate(utterance.duration_ms)
        if self._speak is not None:
            return events
        self._queue.append(Playback(response))
        return events + (_started(self._queue[0]) if len(self._queue) == 1 else [])

    def advance(self, elapsed_ms: int) -> list[Event]:
        """Let time pass: words are generated, audio is played."""
        self._generated_ms += elapsed_ms * _GENERATION_SPEED
        events = self._generate(self._generated_ms)
        playback = self.playback
        if playback is not None:
            playback.position_ms += elapsed_ms
            if playback.position_ms >= playback.response.utterance.duration_ms:
                self._queue.popleft()
                response_id = playback.response.ids.response
                events.append({"type": "output_audio_buffer.stopped", "response_id": response_id})
                if self._queue:
                    events += _started(self._queue[0])
        return events

    def cut(self, reason: Reason) -> list[Event]:
        """Stop what is being generated and played."""
        events: list[Event] = []
        if self.generating is not None:
            response, self.generating = self.generating, None
            self._history.put(response.item("incomplete"))
            events += response.finish(self._history.ledger, "cancelled", reason)
        for playback in self._queue:
            events += _cleared(playback)
        self._queue.clear()
        return events

    def _generate(self, until_ms: int) -> list[Event]:
        response = self.generating
        if response is None:
            return []
        events = response.generate(until_ms)
        self.has_spoken = self.has_spoken or (response.is_spoken and bool(events))
        if response.is_generated:
            self.generating = None
            self._history.put(response.item("completed"))
            events += response.finish(self._history.ledger, "completed")
        return events


def _started(playback: Playback) -> list[Event]:
    response_id = playback.response.ids.response
    return [{"type": "output_audio_buffer.started", "response_id": response_id}]


def _cleared(playback: Playback) -> list[Event]:
    ids = playback.response.ids
    truncated = {
        "type": "conversation.item.truncated",
        "item_id": ids.item,
        "content_index": 0,
        "audio_end_ms": playback.position_ms,
    }
    return [{"type": "output_audio_buffer.cleared", "response_id": ids.response}, truncated]
