"""How a worker is: whether it is alive, whether it can serve, how late its event loop runs."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Gauge, Histogram

LAG_SECONDS: Final = Histogram(
    "ringback_event_loop_lag_seconds",
    "How much later than asked for the event loop came back",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
TASKS: Final = Gauge("ringback_event_loop_tasks", "Tasks of the event loop, whatever they wait for")

# Between two looks at the clock.
_INTERVAL_S: Final = 0.25
# A loop that has not come back for so long will not: nothing on it may block for even a second.
_DEAD_S: Final = 10.0


class Vitals:
    """Written by the event loop, read by the thread that answers health checks.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_ready = False
        """Requests can be decided: from the end of the start to the signal to stop."""
        self._clock = clock
        self._beat: float | None = None

    @property
    def is_alive(self) -> bool:
        """The event loop comes back, or has not begun."""
        return self._beat is None or self._clock() - self._beat < _DEAD_S

    async def watch(self) -> None:
        """Look at the clock again and again, for ever."""
        loop = asyncio.get_running_loop()
        TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
        while True:
            asked = self._clock()
            self._beat = asked
            await asyncio.sleep(_INTERVAL_S)
            LAG_SECONDS.observe(max(0.0, self._clock() - asked - _INTERVAL_S))
