"""Gives slots of open calls back to callkeeper, beside the requests that have no use for them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from grpc import aio

from callsapi.v1.calls_pb2 import ReleaseRequest
from callsapi.v1.calls_pb2_grpc import CallsStub
from ringback.grpcpeers import Peers
from ringback.logs import get_logger
from ringback.settings.supervision import SLOT_LEASE_S

_PAUSE_S: Final = 0.2
# Far more than are given back in a moment; slots above that come back by themselves.
_MAX_WAITING: Final = 10_000


class SlotReturns:
    """Gives slots back one after the other, for as long as they would not come back by themselves.

    Args:
        callkeeper: Whom to; started and stopped elsewhere.
        timeout_s: For one of them.
        now: Time in seconds that never goes back.
    """

    def __init__(
        self,
        callkeeper: Peers[CallsStub],
        timeout_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callkeeper = callkeeper
        self._timeout_s = timeout_s
        self._now = now
        # Ids to the end of their leases; the first to end comes first.
        self._waiting: dict[str, float] = {}
        self._working: asyncio.Task[None] | None = None
        self._log = get_logger()

    def add(self, slot_id: str) -> None:
        """Give back the slots of an id, soon."""
        if len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting[slot_id] = self._now() + SLOT_LEASE_S
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Try once more what has not been given back, and leave the rest."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        while self._waiting and await self._give_back_first():
            pass

    async def _work(self) -> None:
        is_away = False
        while self._waiting:
            if await self._give_back_first():
                is_away = False
                continue
            if not is_away:
                self._log.warning("slots_not_given_back", count=len(self._waiting))
            is_away = True
            await asyncio.sleep(_PAUSE_S)

    async def _give_back_first(self) -> bool:
        """Give back the slots of one id, unless their lease is over; tell whether that is done."""
        slot_id, until = next(iter(self._waiting.items()))
        if self._now() < until:
            request = ReleaseRequest(id=slot_id)
            try:
                await self._callkeeper.ask(lambda stub: stub.Release, request, self._timeout_s)
            except aio.AioRpcError:
                return False
        del self._waiting[slot_id]
        return True
