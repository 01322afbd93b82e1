"""The WebRTC side of a call: aiortc, reduced to text messages and frames of audio."""

import asyncio
import contextlib
import fractions
from collections.abc import Callable
from typing import Final

import aioice
import numpy as np
import numpy.typing as npt
from aiortc import (
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCRtpSender,
    RTCRtpTransceiver,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame
from av.frame import Frame

from emulator.errors import invalid_offer
from emulator.ice import IceOptions, NoPortError, gather_on
from emulator.voice import SAMPLE_RATE, Samples

# What the real provider accepts; never G722, which browsers offer too.
_CODECS: Final = ("audio/opus", "audio/PCMU", "audio/PCMA")
_TIME_BASE: Final = fractions.Fraction(1, SAMPLE_RATE)
# Frames that may wait for the encoder before new ones are dropped.
_MAX_WAITING_FRAMES: Final = 10


class OutgoingAudio(MediaStreamTrack):
    """The audio that the client hears: whatever frames `push` gives it."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[AudioFrame] = asyncio.Queue(_MAX_WAITING_FRAMES)
        self._position = 0

    def push(self, samples: Samples) -> None:
        """Send 20 ms of mono samples at 24 kHz."""
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = _TIME_BASE
        frame.pts = self._position
        self._position += samples.size
        if not self._frames.full():
            self._frames.put_nowait(frame)

    async def recv(self) -> Frame:
        """Return the next frame, when it is there."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self._frames.get()


class _Connection(RTCPeerConnection):
    """A peer connection whose connecting can be waited for when it is closed.

    aiortc starts its private ``__connect`` as a task that nobody keeps, and that task fails when
    the connection is closed under way. Here it is kept, and that failure is what closing means.
    """

    def __init__(self) -> None:
        # No STUN server: the default of aiortc would ask one on the internet.
        super().__init__(RTCConfiguration(iceServers=[]))
        self._connecting: set[asyncio.Task[None]] = set()

    async def _RTCPeerConnection__connect(self) -> None:  # noqa: N802 - __connect, mangled
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - aiortc runs it as a task
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        with contextlib.suppress(InvalidStateError):
            await super()._RTCPeerConnection__connect()  # type: ignore[misc]

    async def close(self) -> None:
        """End the connection, and everything that was to make it one."""
        await super().close()
        if self._connecting:
            await asyncio.wait(self._connecting)


class Peer:
    """One peer connection that answers an offer.

    Args:
        ice: Where it can be reached.
        on_open: Called when the client's data channel is open.
        on_message: Called with each message on it.
        on_audio: Called with the client's audio: mono samples at 24 kHz.
    """

    def __init__(
        self,
        ice: IceOptions,
        *,
        on_open: Callable[[], None],
        on_message: Callable[[str | bytes], None],
        on_audio: Callable[[Samples], None],
    ) -> None:
        self._ice = ice
        self._on_open = on_open
        self._on_message = on_message
        self._on_audio = on_audio
        self._voice = OutgoingAudio()
        self._channel: RTCDataChannel | None = None
        self._ice_connections: list[aioice.Connection] = []
        self._listener: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self.is_gone = False
        self._connection = _Connection()
        self._connection.on("connectionstatechange", self._connection_changed)
        self._connection.on("datachannel", self._channel_opened)

    @property
    def has_channel(self) -> bool:
        """Whether the offer asked for data channels."""
        return self._connection.sctp is not None

    @property
    def channel_label(self) -> str | None:
        """The label of the open data channel."""
        return self._channel.label if self._channel is not None else None

    async def answer(self, offer: str) -> str:
        """Return the SDP answer to an offer, with every candidate in it.

        Raises:
            ApiError: 400 ``invalid_offer`` if aiortc can't use the offer.
            NoPortError: If no UDP port is free.
        """
        transceiver = self._connection.addTransceiver(self._voice, direction="sendrecv")
        transceiver.setCodecPreferences(
            [
                codec
                for codec in RTCRtpSender.getCapabilities("audio").codecs
                if codec.mimeType in _CODECS
            ]
        )
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._prepare_transports(transceiver)
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except NoPortError:
            raise
        except Exception as exc:
            # aiortc meets bad offers with whatever exception comes of them.
            raise invalid_offer() from exc
        if transceiver.receiver.track is not None:
            self._listener = asyncio.create_task(self._listen(transceiver.receiver.track))
        return self._connection.localDescription.sdp

    def _prepare_transports(self, used: RTCRtpTransceiver) -> None:
        """Decline every media section but one of audio; say where ICE shall gather."""
        transports = []
        for transceiver in self._connection.getTransceivers():
            transports.append(transceiver.receiver.transport)
            if transceiver is not used:
                transceiver.direction = "inactive"
        if self._connection.sctp is not None:
            transports.append(self._connection.sctp.transport)
        for transport in set(transports):
            ice_connection = transport.transport._connection  # noqa: SLF001 - see gather_on
            gather_on(ice_connection, self._ice)
            self._ice_connections.append(ice_connection)

    async def wait_connected(self) -> bool:
        """Return True when the client is connected, False when it can't be any more."""
        await self._settled.wait()
        return not self.is_gone

    def send(self, text: str) -> None:
        """Send a message on the data channel, if it is open."""
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(text)

    def play(self, samples: Samples) -> None:
        """Send 20 ms of mono samples at 24 kHz."""
        self._voice.push(samples)

    async def close(self) -> None:
        """End the connection, also for the client."""
        self.is_gone = True
        self._settled.set()
        await self._connection.close()
        for ice_connection in self._ice_connections:
            # One that had just connected while it was closed has begun its consent checks since.
            await ice_connection.close()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    def _connection_changed(self) -> None:
        state = self._connection.connectionState
        if state in {"failed", "closed"}:
            self.is_gone = True
        if state in {"connected", "failed", "closed"}:
            self._settled.set()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self._channel is None:
            self._channel = channel
            channel.on("message", self._on_message)
            self._on_open()

    async def _listen(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, AudioFrame):
                self._on_audio(to_mono(frame))


def to_mono(frame: AudioFrame) -> Samples:
    """Return the samples of a decoded frame as mono at 24 kHz.

    aiortc decodes Opus to 48 kHz stereo and G.711 to 8 kHz mono, both as packed 16-bit samples.
    """
    channels = frame.layout.nb_channels
    mono: npt.NDArray[np.float64] = frame.to_ndarray().reshape(-1, channels).mean(axis=1)
    if frame.sample_rate > SAMPLE_RATE:
        mono = mono.reshape(-1, frame.sample_rate // SAMPLE_RATE).mean(axis=1)
    else:
        mono = np.repeat(mono, SAMPLE_RATE // frame.sample_rate)
    return mono.astype(np.int16)
