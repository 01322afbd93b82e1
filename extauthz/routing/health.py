"""How busy and how fast deployments are, as far as this worker has seen."""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

# Of each deployment the last requests count, unless they are too old to say anything.
_SAMPLES: Final = 10
_MAX_AGE_S: Final = 600.0


class Health:
    """Counts requests that are under way, and remembers how long the last ones took.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._busy: Counter[str] = Counter()
        self._samples: dict[str, deque[tuple[float, float]]] = {}

    def begin(self, deployment_id: str) -> None:
        """Note that a request begins."""
        self._busy[deployment_id] += 1

    def end(self, deployment_id: str, seconds: float | None) -> None:
        """Note that a request ended.

        Args:
            deployment_id: Where.
            seconds: How long it took; None if that says nothing about the deployment's speed.
        """
        self._busy[deployment_id] -= 1
        if seconds is not None:
            samples = self._samples.setdefault(deployment_id, deque(maxlen=_SAMPLES))
            samples.append((self._clock(), seconds))

    def busy(self, deployment_id: str) -> int:
        """Return how many requests are under way."""
        return self._busy[deployment_id]

    def latency_s(self, deployment_id: str) -> float:
        """Return the mean time of the last requests; 0 where nothing is known, so that it will."""
        oldest = self._clock() - _MAX_AGE_S
        recent = [s for at, s in self._samples.get(deployment_id, ()) if at >= oldest]
        return sum(recent) / len(recent) if recent else 0.0
