"""A call: its peer, its conversation, those who listen in, and its end."""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from emulator.echo import Echo
from emulator.events import Conversation
from emulator.faults import Faults
from emulator.metering import Meter
from emulator.observers import Inbox, Observers
from emulator.offers import parse_offer, put_rejected_back, set_rejected_aside
from emulator.options import Options
from emulator.pcm import loudness
from emulator.peer import Peer
from emulator.responses import Event
from emulator.sessions import Credential, Dialect
from emulator.voice import SAMPLE_RATE, Samples, synthesize

_TICK_MS: Final = 20
_FRAME: Final = SAMPLE_RATE * _TICK_MS // 1000
_SILENCE: Final[Samples] = np.zeros(_FRAME, dtype=np.int16)
# What a last event needs to reach the client before the connection goes.
_FAREWELL_S: Final = 0.2
_EVENT_TYPES_KEPT: Final = 1000
# What ``webrtcfilter=on`` of Azure lets through to the data channel.
_FILTER: Final = frozenset(
    {
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.input_audio_transcription.completed",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "response.output_audio_transcript.delta",
        "response.output_audio_transcript.done",
        "response.output_text.delta",
        "response.output_text.done",
    }
)
# Why a call has ended that lasted as long as it may.
SESSION_CAP: Final = "session cap"


class Call:
    """One WebRTC call from offer to end.

    Args:
        call_id: ``rtc_u0_...``.
        dialect: Whose API it was made with.
        credential: What it was made with.
        conversation: Its session.
        options: Of the emulator.
        faults: Of the emulator.
        cap_s: After this many seconds the call ends.
        filtered: Whether the data channel carries only what Azure's ``webrtcfilter`` lets through.
        on_end: Called once, when it is over.
    """

    def __init__(
        self,
        call_id: str,
        dialect: Dialect,
        credential: Credential,
        conversation: Conversation,
        options: Options,
        *,
        faults: Faults,
        cap_s: float,
        filtered: bool,
        on_end: Callable[["Call"], None],
    ) -> None:
        self.call_id = call_id
        self.dialect = dialect
        self.credential = credential
        self.state = "connecting"
        self.ended_because: str | None = None
        self.controls: list[str] = []
        self.cap_s = cap_s
        self.observers = Observers(faults)
        # Until so many seconds from when it went live, and with which status.
        self.refuses_sidebands = (0.0, 0)
        self._meter = Meter(faults)
        self._conversation = conversation
        self._options = options
        self._filtered = filtered
        self._on_end = on_end
        self._echo = Echo() if options.voice == "echo" else None
        self._offer = self._answer = ""
        self._started_at = time.time()
        self._live_since: float | None = None
        self._live_until: float | None = None
        self._audio_bytes_received = 0
        self._events_received: deque[str] = deque(maxlen=_EVENT_TYPES_KEPT)
        self._events_sent: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._peer = Peer(
            options.ice,
            on_open=self._channel_opened,
            on_message=self._message_received,
            on_audio=self._audio_received,
        )

    @property
    def is_live(self) -> bool:
        """Whether the peer is connected."""
        return self.state == "live"

    @property
    def live_s(self) -> float:
        """For how many seconds the peer has been connected, or was until the call ended."""
        if self._live_since is None:
            return 0.0
        return (self._live_until or time.monotonic()) - self._live_since

    @property
    def has_ended(self) -> bool:
        """Whether the call is over."""
        return self.state == "ended"

    async def answer(self, offer: bytes) -> str:
        """Return the SDP answer; from then on the call runs until it ends.

        Raises:
            ApiError: 400 ``invalid_offer``.
            NoPortError: If no UDP port is free.
        """
        try:
            self._offer = offer.decode(errors="replace")
            accepted, rejected = set_rejected_aside(parse_offer(offer))
            self._answer = put_rejected_back(await self._peer.answer(accepted), rejected)
        except BaseException:
            await self._peer.close()
            raise
        self._task = asyncio.create_task(self._run(), name=f"call {self.call_id}")
        # A task that is cancelled before its first step would not clean up.
        await asyncio.sleep(0)
        return self._answer

    async def end(self, reason: str) -> None:
        """End the call, and return when its peer is closed."""
        if self._task is None:
            return
        if not self.has_ended:
            self.state, self.ended_because = "ended", reason
            self._task.cancel()
        await asyncio.wait([self._task])

    def control(self, text: str | bytes, inbox: Inbox) -> None:
        """Take an event from one who listens in."""
        self._deliver(self._conversation.receive(text), reply=inbox.put_nowait)

    def record(self) -> dict[str, Any]:
        """Return what is kept of the call for ``GET /emulator/counters``."""
        return {
            "call_id": self.call_id,
            "state": self.state,
            "ended_because": self.ended_because,
            "live_s": round(self.live_s, 3),
            **self.observers.snapshot(),
            "bills": self._meter.bills(),
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the call for ``GET /emulator/calls``."""
        return {
            **self.record(),
            "dialect": self.dialect.name.lower(),
            "model": self._conversation.session.get("model"),
            "started_at": self._started_at,
            "audio_bytes_received": self._audio_bytes_received,
            "controls": self.controls,
            "channel": self._peer.channel_label,
            "events_received": list(self._events_received),
            "events_sent": dict(self._events_sent),
            "offer": self._offer,
            "answer": self._answer,
        }

    # --- The course of the call -------------------------------------------------------------------

    async def _run(self) -> None:
        reason = "error"
        try:
            reason = await self._connect_and_converse()
        except asyncio.CancelledError:
            # `end` has set the reason; there is nothing left to cancel but this task itself.
            pass
        finally:
            self.state, self.ended_because = "ended", self.ended_because or reason
            self._live_until = time.monotonic()
            self.observers.end()
            self._on_end(self)
            await self._peer.close()

    async def _connect_and_converse(self) -> str:
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                is_connected = await self._peer.wait_connected()
        except TimeoutError:
            return "never connected"
        if not is_connected:
            return "connection failed"
        self.state = "live"
        self._live_since = time.monotonic()
        self.observers.watch()
        if not self._peer.has_channel:
            self._deliver(self._conversation.open())
        try:
            async with asyncio.timeout(self.cap_s):
                await self._converse()
        except TimeoutError:
            self._deliver(self._conversation.expire(self.cap_s))
            await asyncio.sleep(_FAREWELL_S)
            return SESSION_CAP
        return "client left"

    async def _converse(self) -> None:
        """Send 20 ms of audio every 20 ms, and let the conversation advance with it."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._peer.is_gone:
            self._peer.play(self._next_frame())
            self._deliver(self._conversation.advance(_TICK_MS))
            due = max(due + _TICK_MS / 1000, loop.time() - 1)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _next_frame(self) -> Samples:
        voice = _SILENCE
        playback = self._conversation.playback
        if playback is not None:
            samples = synthesize(playback.response.utterance)
            start = playback.position_ms * SAMPLE_RATE // 1000
            voice = samples[start : start + _FRAME]
            voice = np.pad(voice, (0, _FRAME - voice.size))
        if self._echo is None:
            return voice
        mixed = voice.astype(np.int32) + self._echo.take(_FRAME)
        return mixed.clip(-32768, 32767).astype(np.int16)

    # --- What the peer reports --------------------------------------------------------------------

    def _channel_opened(self) -> None:
        self._deliver(self._conversation.open())

    def _message_received(self, text: str | bytes) -> None:
        self._events_received.append(event_type(text))
        self._deliver(self._conversation.receive(text), reply=self._send)

    def _audio_received(self, samples: Samples) -> None:
        self._audio_bytes_received += samples.nbytes
        if self._echo is not None:
            self._echo.put(samples)
        length_ms = samples.size * 1000 // SAMPLE_RATE
        self._deliver(self._conversation.hear(loudness(samples), length_ms))

    def _deliver(self, events: list[Event], reply: Callable[[str], None] | None = None) -> None:
        """Give events to the data channel and all who listen in; an error only to its cause."""
        for event in map(self._meter.settle, events):
            text = json.dumps(event)
            self._events_sent[event["type"]] += 1
            if reply is not None and event["type"] == "error":
                reply(text)
                continue
            self._send(text, event["type"])
            self.observers.tell(event["type"], text)

    def _send(self, text: str, kind: str = "error") -> None:
        if not self._filtered or kind in _FILTER:
            self._peer.send(text)


def event_type(text: str | bytes) -> str:
    """Return the type of a client's event, or what is wrong with it."""
    try:
        event = json.loads(text)
    except ValueError:
        return "(no JSON)"
    return str(event.get("type")) if isinstance(event, dict) else "(no object)"
