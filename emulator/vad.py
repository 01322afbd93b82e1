"""Voice activity detection by energy: enough to take turns with a person or a test signal. Pure."""

from dataclasses import dataclass
from typing import Final

# Root mean square, 1.0 = full scale. Quiet speech has about 0.02, room noise after a browser's
# noise suppression less than 0.002.
_SPEECH_RMS: Final = 0.01
# Sound must last this long to count as speech, so that clicks and the 50 ms beeps of a browser's
# fake microphone don't.
_MIN_SPEECH_MS: Final = 120


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Someone began to speak; ``at_ms`` on the clock of the received audio."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Someone stopped speaking at ``at_ms`` after ``duration_ms`` of speech."""

    at_ms: int
    duration_ms: int


Activity = SpeechStarted | SpeechStopped


class VoiceActivity:
    """Finds where speech begins and ends in a stream of frames."""

    def __init__(self) -> None:
        self._clock_ms = 0
        self._loud_ms = 0
        self._quiet_ms = 0
        self._started_ms: int | None = None

    def push(self, rms: float, duration_ms: int, *, silence_ms: int) -> Activity | None:
        """Take the next frame; return what it changed.

        Args:
            rms: Its root mean square, 1.0 = full scale.
            duration_ms: Its length.
            silence_ms: How much silence ends speech (``silence_duration_ms`` of server VAD).
        """
        self._clock_ms += duration_ms
        if rms >= _SPEECH_RMS:
            self._loud_ms += duration_ms
            self._quiet_ms = 0
        else:
            self._loud_ms = 0
            self._quiet_ms += duration_ms
        if self._started_ms is None:
            if self._loud_ms >= _MIN_SPEECH_MS:
                self._started_ms = self._clock_ms - self._loud_ms
                return SpeechStarted(self._started_ms)
        elif self._quiet_ms >= silence_ms:
            end_ms = self._clock_ms - self._quiet_ms
            stopped = SpeechStopped(end_ms, end_ms - self._started_ms)
            self._started_ms = None
            return stopped
        return None
