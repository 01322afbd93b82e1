"""Counts requests in this process alone."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from extauthz.limits.rules import WINDOW_S, Counter
from extauthz.limits.stores import Exceeded

# Each has a key or a team behind it that exists: far more than send requests in one minute.
MAX_COUNTERS: Final = 200_000


class MemoryStore:
    """Counts in a fixed window from the first request on.

    What a minute has not seen is forgotten. If there are too many counters for that the oldest
    ones begin anew.

    Args:
        now: Time in seconds that never goes back.
        max_counters: How many there may be at once.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, *, max_counters: int = MAX_COUNTERS
    ) -> None:
        self._now = now
        self._max_counters = max_counters
        # Name to the end of the window and the requests in it; the first to end comes first, since
        # all windows are of one length.
        self._windows: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._windows)

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Count one request in all counters, or in none if any of them is full."""
        # Without a single await: nothing comes between looking and counting.
        now = self._now()
        self._forget(now)
        full = [
            Exceeded(counter, self._windows.get(counter.name, (now + WINDOW_S, 0))[0] - now)
            for counter in counters
            if self._windows.get(counter.name, (0, 0))[1] >= counter.limit
        ]
        if full:
            return max(full, key=lambda exceeded: exceeded.wait_s)
        for counter in counters:
            end, count = self._windows.get(counter.name, (now + WINDOW_S, 0))
            self._windows[counter.name] = (end, count + 1)
        return None

    def _forget(self, now: float) -> None:
        while self._windows:
            name, (end, _) = next(iter(self._windows.items()))
            if end > now and len(self._windows) < self._max_counters:
                return
            del self._windows[name]
