"""Tells watchers what happens to calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from callkeeper.callevents import TOLD, Tell, event_of_state
from callkeeper.calls import CallState
from callkeeper.model import Call
from callkeeper.translate import write_state
from callsapi.v1.calls_pb2 import Event

# Some seconds of a busy worker. Whoever is behind that far is cut off.
_WAITING: Final = 1000


class SlowWatcherError(Exception):
    """A watcher does not take what it is told."""

    def __str__(self) -> str:
        return "the watcher is too slow"


class News:
    """Passes events on to whoever watches.

    Args:
        takers: Told of those in `TOLD`; none of them waits.
    """

    def __init__(self, takers: Sequence[Tell] = ()) -> None:
        self._takers = tuple(takers)
        self._watchers: set[asyncio.Queue[Event | None]] = set()

    def tell(self, name: str, call: Call, state: CallState) -> None:
        """Tell all watchers what happened to a call."""
        now = time.time()
        if name in TOLD:
            for take in self._takers:
                take(event_of_state(name, call, state, now))
        if not self._watchers:
            return
        event = Event(name=name, at=now, call=write_state(call, state))
        for queue in tuple(self._watchers):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._watchers.discard(queue)

    @contextmanager
    def watch(self) -> Iterator[AsyncIterator[Event]]:
        """Give what happens from now on, until `close`.

        Iterating raises `SlowWatcherError` when some of it had to be left out.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_WAITING)
        self._watchers.add(queue)
        try:
            yield self._events(queue)
        finally:
            self._watchers.discard(queue)

    def close(self) -> None:
        """End all watching."""
        for queue in tuple(self._watchers):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def _events(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        while True:
            if queue not in self._watchers and queue.empty():
                raise SlowWatcherError
            event = await queue.get()
            if event is None:
                return
            yield event
