"""Keeps the collector of garbage from stopping everything for a moment.

An open call is a hundred objects, and a full collection of Python's looks at every object that
there is: with thousands of calls it takes half a second, finds next to nothing, and comes again and
again while calls come and go. So where there are many objects, those that have been there for some
seconds are left alone (`gc.freeze`). Calls that end leave some that only a full collection finds,
aiohttp's above all: there is one when as many were left alone as there were after the last one.
"""

import asyncio
import gc
from typing import Final

_EVERY_S: Final = 5.0
# Python's own collections of so many take some hundredths of a second. A service at rest has fewer.
_FEW: Final = 100_000
# What 10,000 open calls are, or 20,000 that have ended: 200 MB.
_MANY: Final = 1_000_000


class Tidier:
    """Has garbage collected seldom and little by little, where there are many objects.

    Args:
        few: So many new objects are not worth to be left alone.
        many: A full collection comes after so many at the earliest.
    """

    def __init__(self, few: int = _FEW, many: int = _MANY) -> None:
        self._few = few
        self._many = self._limit = many
        self._left_alone = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.create_task(self._go_on())

    async def stop(self) -> None:
        """Leave everything to Python again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if self._left_alone:
                gc.unfreeze()

    def tidy(self) -> None:
        """Leave alone what is there, after a full collection if that is due."""
        # Without those that are left alone already.
        new = len(gc.get_objects())
        if new < self._few:
            return
        self._left_alone += new
        if self._left_alone > self._limit:
            gc.unfreeze()
            gc.collect()
            self._left_alone = 0
            self._limit = max(self._many, len(gc.get_objects()))
        gc.freeze()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            self.tidy()
