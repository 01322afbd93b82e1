"""How many calls are open in each of some scopes: keys, teams, users, deployments.

A call takes its slots before its provider hears of it, and holds them until it has ended. What is
taken for a call that is never registered is free again after a lease, so that a crash of anybody in
between leaks nothing.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ringback.settings.supervision import SLOT_LEASE_S


@dataclass(frozen=True, slots=True)
class Scope:
    """Something whose open calls are counted.

    Attributes:
        name: Tells it from all others.
        limit: How many calls may be open in it.
    """

    name: str
    limit: int


class Slots(Protocol):
    """A place where open calls are counted."""

    def start(self) -> None:
        """Be ready; needs a running event loop."""
        ...

    async def stop(self) -> None:
        """Let go of everything."""
        ...

    async def take(self, call_id: str, scopes: Sequence[Scope]) -> Scope | None:
        """Take a slot of each scope, or of none; return the first one that is full, None if taken.

        What a call holds already it is not refused, and may take more.

        Raises:
            StoreUnavailableError: If nobody can tell.
        """
        ...

    def keep(self, call_id: str) -> None:
        """Let a call hold its slots until `release`."""
        ...

    def hand_over(self, call_id: str) -> None:
        """Let another process, which keeps the call now, hold its slots."""
        ...

    def release(self, call_id: str) -> None:
        """Free the slots of a call; nothing happens if it has none."""
        ...


class MemorySlots:
    """Counts the calls of this process.

    Args:
        now: Time in seconds that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # Scope to calls, call to scopes.
        self._calls: dict[str, set[str]] = {}
        self._scopes: dict[str, set[str]] = {}
        # Until when calls hold slots without being registered; the first to end comes first.
        self._leases: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scopes)

    def start(self) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing: what was counted ends with the process."""

    async def take(self, call_id: str, scopes: Sequence[Scope]) -> Scope | None:
        """Take a slot of each scope, or of none."""
        # Without a single await: nothing comes between looking and taking.
        now = self._now()
        self._forget(now)
        for scope in scopes:
            held = self._calls.get(scope.name, ())
            if call_id not in held and len(held) >= scope.limit:
                return scope
        if call_id not in self._scopes or call_id in self._leases:
            self._leases[call_id] = now + SLOT_LEASE_S
            self._leases.move_to_end(call_id)
        for scope in scopes:
            self._calls.setdefault(scope.name, set()).add(call_id)
            self._scopes.setdefault(call_id, set()).add(scope.name)
        return None

    def keep(self, call_id: str) -> None:
        """Let a call hold its slots until `release`."""
        self._leases.pop(call_id, None)

    def hand_over(self, call_id: str) -> None:
        """Free them: no other process knows of what this one counts."""
        self.release(call_id)

    def release(self, call_id: str) -> None:
        """Free the slots of a call."""
        self._leases.pop(call_id, None)
        for name in self._scopes.pop(call_id, ()):
            held = self._calls[name]
            held.remove(call_id)
            if not held:
                del self._calls[name]

    def _forget(self, now: float) -> None:
        while self._leases and next(iter(self._leases.values())) <= now:
            self.release(next(iter(self._leases)))
