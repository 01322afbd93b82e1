"""The event protocol as a state machine: an event, a frame of audio or time in, events out.

Sans-I/O: no clock, no network, and no audio but what events carry. The call or session that owns a
conversation feeds it and delivers what it returns.
https://platform.openai.com/docs/api-reference/realtime-server-events
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from emulator import errors
from emulator.beta import from_beta, to_beta
from emulator.errors import ApiError
from emulator.history import History
from emulator.items import PCM_BYTES_PER_MS, parse_audio
from emulator.pcm import SocketAudio
from emulator.responses import Event, Response, check_response_request
from emulator.script import ANSWERS, GREETING, Utterance
from emulator.shapes import Session, parse_json_object, update_session
from emulator.speaker import Playback, Speaker
from emulator.usage import transcription_usage
from emulator.vad import SpeechStarted, SpeechStopped, VoiceActivity

# Clients configure the session first: the greeting waits for that.
_GREET_AFTER_MS: Final = 700
_MIN_COMMIT_MS: Final = 100
# Semantic VAD has no such setting.
_SILENCE_MS: Final = 600
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


def random_id(prefix: str) -> str:
    """Return a fresh id such as ``item_5f0c...``."""
    return f"{prefix}_{secrets.token_hex(10)}"


class Conversation:
    """The session of one call.

    Args:
        session: Its full session object.
        greet: Whether the emulator speaks first.
        answer_turns: Whether it answers when someone has spoken, if the session wants that too.
        speaks_beta: Whether the client knows only the beta's shapes.
        audio: Reads and writes the audio in events, if that is where it is (WebSocket).
        make_id: Makes ids from prefixes.
    """

    def __init__(
        self,
        session: Session,
        *,
        greet: bool = True,
        answer_turns: bool = True,
        speaks_beta: bool = False,
        audio: SocketAudio | None = None,
        make_id: Callable[[str], str] = random_id,
    ) -> None:
        self.session = session
        self._make_id = make_id
        self._history = History(make_id)
        self._speaker = Speaker(self._history, make_id, audio.speak if audio else None)
        self._audio = audio
        self._speaks_beta = speaks_beta
        self._is_realtime = session["type"] == "realtime"
        self._answer_turns = answer_turns and self._is_realtime
        self._answers_given = 0
        self._greet = greet and self._is_realtime
        self._greet_in_ms: int | None = None
        self._greeting: Response | None = None
        self._voice_activity = VoiceActivity()
        self._buffered_ms = 0
        self._turn_item_id = ""
        self._handlers: Mapping[str, Callable[[dict[str, Any]], list[Event]]] = {
            "conversation.item.create": self._history.create,
            "conversation.item.delete": self._history.delete,
            "conversation.item.retrieve": self._history.retrieve,
            "conversation.item.truncate": self._history.truncate,
            "input_audio_buffer.append": self._append_audio,
            "input_audio_buffer.clear": self._clear_audio,
            "input_audio_buffer.commit": self._commit_audio,
            "output_audio_buffer.clear": self._clear_output,
            "response.cancel": self._cancel_response,
            "response.create": self._create_response,
            "session.update": self._update_session,
        }

    @property
    def playback(self) -> Playback | None:
        """What the client shall hear now."""
        return self._speaker.playback

    # --- What happens to the call -----------------------------------------------------------------

    def open(self) -> list[Event]:
        """Begin: the client can hear events now."""
        if self._greet:
            self._greet_in_ms = _GREET_AFTER_MS
        return self._numbered([{"type": "session.created", "session": self.session}])

    def receive(self, text: str | bytes) -> list[Event]:
        """Take an event from a client; an ``error`` in the answer is for that client alone."""
        event_id: object = None
        try:
            event = parse_json_object(text)
            event_id = event.get("event_id")
            if self._speaks_beta:
                event = from_beta(event)
            kind = event.get("type")
            if kind is None:
                raise errors.missing_parameter("type")
            handler = self._handlers.get(kind) if isinstance(kind, str) else None
            if handler is None:
                raise errors.invalid_value("type", f"one of {', '.join(sorted(self._handlers))}")
            return self._numbered(handler(event))
        except ApiError as exc:
            return self._numbered([_error(exc, event_id)])

    def hear(self, rms: float, duration_ms: int) -> list[Event]:
        """Take a frame of microphone audio: its loudness (1.0 = full scale) and its length."""
        return self._numbered(self._hear(rms, duration_ms))

    def _hear(self, rms: float, duration_ms: int) -> list[Event]:
        self._buffered_ms += duration_ms
        turn_detection = self.session["audio"]["input"]["turn_detection"]
        if turn_detection is None:
            return []
        silence_ms = turn_detection.get("silence_duration_ms", _SILENCE_MS)
        match self._voice_activity.push(rms, duration_ms, silence_ms=silence_ms):
            case SpeechStarted(at_ms):
                return self._start_turn(at_ms, turn_detection)
            case SpeechStopped(at_ms, length_ms):
                return self._end_turn(at_ms, length_ms, turn_detection)
            case None:
                return []

    def advance(self, elapsed_ms: int) -> list[Event]:
        """Let time pass: the greeting comes due, words are generated, audio is played."""
        events: list[Event] = []
        if self._greet_in_ms is not None:
            self._greet_in_ms -= elapsed_ms
            if self._greet_in_ms <= 0:
                events += self._begin(GREETING, {})
                self._greeting = self._speaker.generating
        return self._numbered(events + self._speaker.advance(elapsed_ms))

    def expire(self, cap_s: float) -> list[Event]:
        """End: the session has lasted as long as it may."""
        return self._numbered([_error(errors.session_expired(cap_s), None)])

    # --- Turns ------------------------------------------------------------------------------------

    def _start_turn(self, at_ms: int, turn_detection: Mapping[str, Any]) -> list[Event]:
        self._turn_item_id = self._make_id("item")
        self._greet_in_ms = None
        started = {
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": max(0, at_ms - turn_detection.get("prefix_padding_ms", 0)),
            "item_id": self._turn_item_id,
        }
        interrupts = turn_detection["interrupt_response"]
        return [started, *(self._speaker.cut("turn_detected") if interrupts else [])]

    def _end_turn(
        self, at_ms: int, length_ms: int, turn_detection: Mapping[str, Any]
    ) -> list[Event]:
        stopped = {
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": at_ms,
            "item_id": self._turn_item_id,
        }
        events = [stopped, *self._commit(self._turn_item_id, length_ms)]
        answers = self._answer_turns and turn_detection["create_response"]
        if answers and not self._speaker.is_busy:
            events += self._begin(self._next_answer(), {})
        return events

    def _commit(self, item_id: str, length_ms: int) -> list[Event]:
        """Turn the input audio buffer into an item of the user's."""
        self._buffered_ms = 0
        committed = {
            "type": "input_audio_buffer.committed",
            "previous_item_id": self._history.last_id,
            "item_id": item_id,
        }
        events = [committed, *self._history.add_user_audio(item_id, length_ms)]
        transcription = self.session["audio"]["input"]["transcription"]
        if transcription is None:
            return events
        transcript = f"({length_ms / 1000:.1f} seconds of audio; the emulator does not listen)"
        place = {"item_id": item_id, "content_index": 0}
        completed = {
            "type": f"{_TRANSCRIPTION}.completed",
            **place,
            "transcript": transcript,
            "usage": transcription_usage(_model(transcription), length_ms, transcript),
        }
        delta = {"type": f"{_TRANSCRIPTION}.delta", **place, "delta": transcript}
        return [*events, delta, completed]

    def _begin(self, utterance: Utterance, request: Mapping[str, Any]) -> list[Event]:
        self._greet_in_ms = None
        return self._speaker.begin(utterance, self.session, request)

    def _next_answer(self) -> Utterance:
        self._answers_given += 1
        return ANSWERS[(self._answers_given - 1) % len(ANSWERS)]

    # --- Client events ----------------------------------------------------------------------------

    def _update_session(self, event: dict[str, Any]) -> list[Event]:
        if "session" not in event:
            raise errors.missing_parameter("session")
        session = update_session(self.session, event["session"])
        if self._speaker.has_spoken and _voice(session) != _voice(self.session):
            raise errors.voice_is_fixed()
        self.session = session
        return [{"type": "session.updated", "session": self.session}]

    def _create_response(self, event: dict[str, Any]) -> list[Event]:
        request = check_response_request(event.get("response"))
        if not self._is_realtime:
            raise errors.invalid_value("type", "no response.create in a transcription session")
        events: list[Event] = []
        playback, greeting = self.playback, self._greeting
        if playback is not None and playback.response is greeting:
            # A greeting that nobody asked for gives way to what the client wants.
            events += self._speaker.cut("client_cancelled")
        active = self._speaker.generating
        if active is not None:
            raise ApiError(
                400,
                "Conversation already has an active response in progress: "
                f"{active.ids.response}. Wait until it is finished before creating a new one.",
                code="conversation_already_has_active_response",
            )
        return events + self._begin(self._next_answer(), request)

    def _cancel_response(self, event: dict[str, Any]) -> list[Event]:
        active, wanted = self._speaker.generating, event.get("response_id")
        if active is None or wanted not in (None, active.ids.response):
            raise ApiError(
                400,
                "Cancellation failed: no active response found",
                code="response_cancel_not_active",
            )
        return self._speaker.cut("client_cancelled")

    def _clear_output(self, _: dict[str, Any]) -> list[Event]:
        return self._speaker.cut("client_cancelled")

    def _append_audio(self, event: dict[str, Any]) -> list[Event]:
        pcm = parse_audio(event.get("audio"))
        if self._audio is None:
            self._buffered_ms += len(pcm) // PCM_BYTES_PER_MS
            return []
        return [each for frame in self._audio.hear(pcm) for each in self._hear(*frame)]

    def _clear_audio(self, _: dict[str, Any]) -> list[Event]:
        self._buffered_ms = 0
        return [{"type": "input_audio_buffer.cleared"}]

    def _commit_audio(self, _: dict[str, Any]) -> list[Event]:
        if self._buffered_ms < _MIN_COMMIT_MS:
            raise ApiError(
                400,
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{_MIN_COMMIT_MS}ms of audio, but buffer only has {self._buffered_ms}ms.",
                code="input_audio_buffer_commit_empty",
            )
        return self._commit(self._make_id("item"), self._buffered_ms)

    def _numbered(self, events: list[Event]) -> list[Event]:
        shaped = [to_beta(event) for event in events] if self._speaks_beta else events
        return [{"event_id": self._make_id("event"), **event} for event in shaped if event]


def _voice(session: Session) -> object:
    return session["audio"].get("output", {}).get("voice")


def _model(transcription: object) -> str:
    return str(transcription.get("model")) if isinstance(transcription, dict) else ""


def _error(refusal: ApiError, event_id: object) -> Event:
    return {"type": "error", "error": {**refusal.error(), "event_id": event_id}}
