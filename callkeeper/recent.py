"""Calls that ended a moment ago, for whoever wants to know why. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from callkeeper.calls import CallState
from callkeeper.model import Call

# Long enough for a page or a person to ask.
_KEEP_S: Final = 300.0
# About 10 MB; a worker that ends more in five minutes forgets the oldest ones sooner.
_MAX_CALLS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Ended:
    """One call that has ended.

    Attributes:
        call: The call.
        handle: What the caller knows it by.
        state: How it was at its end.
        ended_at: When that was, in seconds since 1970.
    """

    call: Call
    handle: str
    state: CallState
    ended_at: float


class RecentCalls:
    """Remembers calls for some minutes after their end."""

    def __init__(self) -> None:
        # In the order of their ends.
        self._ended: dict[str, Ended] = {}
        self._ids: dict[str, str] = {}

    def add(self, ended: Ended) -> None:
        """Remember a call, and forget those that ended long ago."""
        self._ended[ended.call.id] = ended
        self._ids[ended.handle] = ended.call.id
        while (oldest := next(iter(self._ended.values()))) is not ended and (
            len(self._ended) > _MAX_CALLS or _is_over(oldest, ended.ended_at)
        ):
            del self._ended[oldest.call.id]
            if self._ids.get(oldest.handle) == oldest.call.id:
                del self._ids[oldest.handle]

    def find(self, name: str, now: float) -> Ended | None:
        """Return a call by its id or its handle.

        Args:
            name: Either.
            now: In seconds since 1970.
        """
        ended = self._ended.get(self._ids.get(name, name))
        return None if ended is None or _is_over(ended, now) else ended

    def since(self, now: float) -> Iterator[Ended]:
        """Give the calls that are remembered, in the order of their ends.

        Args:
            now: In seconds since 1970.
        """
        return (ended for ended in list(self._ended.values()) if not _is_over(ended, now))


def _is_over(ended: Ended, now: float) -> bool:
    return now - ended.ended_at > _KEEP_S
