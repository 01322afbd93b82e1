"""A delay line: what comes in goes out again a little later. Pure numpy."""

from typing import Final

import numpy as np

from emulator.voice import SAMPLE_RATE, Samples

_DELAY_SAMPLES: Final = SAMPLE_RATE * 400 // 1000
# When the microphone's clock runs faster than ours, what is older than this is dropped.
_MAX_SAMPLES: Final = SAMPLE_RATE * 2


class Echo:
    """Returns the samples that were put in, 400 ms late."""

    def __init__(self) -> None:
        self._held: Samples = np.zeros(0, dtype=np.int16)
        self._is_flowing = False

    def put(self, samples: Samples) -> None:
        """Take samples from the microphone."""
        self._held = np.concatenate((self._held, samples))[-_MAX_SAMPLES:]

    def take(self, count: int) -> Samples:
        """Return the next samples; silence until enough have come in, and again after a gap."""
        if not self._is_flowing and self._held.size < _DELAY_SAMPLES:
            return np.zeros(count, dtype=np.int16)
        self._is_flowing = self._held.size >= count
        taken, self._held = self._held[:count], self._held[count:]
        return np.pad(taken, (0, count - taken.size))
