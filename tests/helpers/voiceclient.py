"""A WebRTC client on aiortc that talks, listens, and remembers every event."""

import asyncio
import fractions
import json
import re
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from aiortc import (
    AudioStreamTrack,
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

Samples = npt.NDArray[np.int16]
_SAMPLE_RATE: Final = 24000
_FRAME: Final = _SAMPLE_RATE // 50
# A sample above this, of 32767, is no noise of a codec.
_AUDIBLE: Final = 3000


class Recording(AudioStreamTrack):
    """A microphone that plays mono 24 kHz samples once, and then silence."""

    def __init__(self, samples: Samples) -> None:
        super().__init__()
        self._samples = samples
        self._position = 0

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms, on time."""
        await super().recv()
        taken = self._samples[self._position : self._position + _FRAME]
        padded = np.pad(taken, (0, _FRAME - taken.size)).reshape(1, -1)
        frame = AudioFrame.from_ndarray(padded, format="s16", layout="mono")
        frame.sample_rate = _SAMPLE_RATE
        frame.time_base = fractions.Fraction(1, _SAMPLE_RATE)
        frame.pts = self._position
        self._position += _FRAME
        return frame


class VoiceClient:
    """One call as a client sees it. Closes itself at the end of ``async with``.

    Args:
        microphone: What the client says; silence if not given.
        label: Of the data channel; None for no data channel.
    """

    def __init__(
        self, microphone: MediaStreamTrack | None = None, *, label: str | None = "oai-events"
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_connected = asyncio.Event()
        self.is_closed = asyncio.Event()
        self.hears_something = asyncio.Event()
        self.frames_heard = 0
        self.loudest = 0
        self._answer = ""
        self._news = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peer.on("connectionstatechange", self._state_changed)
        self._peer.on("track", self._track_added)
        self._peer.addTrack(microphone or AudioStreamTrack())
        self._channel = self._peer.createDataChannel(label) if label is not None else None
        if self._channel is not None:
            self._channel.on("message", self._message_received)

    @property
    def remote_port(self) -> int:
        """The UDP port that the other side offers."""
        found = re.search(r"^a=candidate:\S+ 1 udp \d+ \S+ (\d+) ", self._answer, re.MULTILINE)
        assert found is not None
        return int(found[1])

    async def offer(self) -> str:
        """Return the SDP offer, with host candidates."""
        await self._peer.setLocalDescription(await self._peer.createOffer())
        return self._peer.localDescription.sdp

    async def accept(self, answer: str) -> None:
        """Take the SDP answer."""
        self._answer = answer
        await self._peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    def send(self, event: dict[str, Any] | str) -> None:
        """Send an event on the data channel."""
        assert self._channel is not None
        self._channel.send(event if isinstance(event, str) else json.dumps(event))

    async def wait_for(self, kind: str, *, count: int = 1, timeout_s: float = 30) -> dict[str, Any]:
        """Return the latest event of a type when ``count`` of them have come.

        Raises:
            TimeoutError: If they don't come in time.
        """

        def matching() -> list[dict[str, Any]]:
            """Return the events of the type."""
            return [event for event in self.events if event["type"] == kind]

        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(matching()) >= count)
        return matching()[count - 1]

    def types(self) -> list[str]:
        """Return the types of the events so far, in order."""
        return [event["type"] for event in self.events]

    async def close(self) -> None:
        """Leave the call."""
        await self._peer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _state_changed(self) -> None:
        if self._peer.connectionState == "connected":
            self.is_connected.set()
        elif self._peer.connectionState in {"closed", "failed"}:
            self.is_closed.set()

    def _track_added(self, track: MediaStreamTrack) -> None:
        self._start(self._listen(track))

    def _message_received(self, text: str) -> None:
        self.events.append(json.loads(text))
        self._start(self._tell())

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            self.frames_heard += 1
            self.loudest = max(self.loudest, int(np.abs(frame.to_ndarray().astype(int)).max()))
            if self.loudest > _AUDIBLE:
                self.hears_something.set()
