"""Audio inside events, as WebSocket sessions carry it: base64 of 16-bit mono PCM at 24 kHz.

Pure numpy.
"""

import base64
from typing import Final

import numpy as np

from emulator.script import Utterance
from emulator.voice import SAMPLE_RATE, Samples, synthesize

_FRAME_MS: Final = 20
_FRAME: Final = SAMPLE_RATE * _FRAME_MS // 1000


def loudness(samples: Samples) -> float:
    """Return the root mean square of samples, 1.0 = full scale."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) / 32768


class SocketAudio:
    """The microphone and the voice of a session whose audio is in its events."""

    def __init__(self) -> None:
        self._held = b""

    def hear(self, pcm: bytes) -> list[tuple[float, int]]:
        """Return loudness and length in milliseconds of each whole frame that has come in."""
        held = self._held + pcm
        whole = len(held) // (2 * _FRAME) * _FRAME
        self._held = held[2 * whole :]
        frames = np.frombuffer(held, dtype="<i2", count=whole).reshape(-1, _FRAME)
        return [(loudness(frame), _FRAME_MS) for frame in frames]

    def speak(self, utterance: Utterance, start_ms: int, end_ms: int) -> str:
        """Return the audio of a part of an utterance, as events carry it."""
        start, end = (at_ms * SAMPLE_RATE // 1000 for at_ms in (start_ms, end_ms))
        samples = synthesize(utterance)[start:end]
        return base64.b64encode(samples.astype("<i2").tobytes()).decode()
