"""Counts open calls in Valkey, for all workers and replicas together."""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Final, cast

from callkeeper.slots import Scope
from ringback.logs import get_logger
from ringback.settings.supervision import SLOT_LEASE_S
from ringback.valkey import StoreUnavailableError, Valkey, end

# A scope is a sorted set of its calls, each scored by the time, in milliseconds of the server's
# clock, until which it holds its slot. The record of a call is the set of its scopes. All of them
# expire with their last lease.

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# A call holds a slot of each scope until its lease ends.
_HOLD: Final = """
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
  redis.call('SADD', KEYS[1], KEYS[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: the record, then the scopes. ARGV: the call, milliseconds of a lease, then the limit of each
# scope. Returns the number of the first scope that is full, 0 if slots were taken.
_TAKE: Final = (
    _NOW
    + """
for i = 2, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  local is_full = redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[i + 1])
  if is_full and not redis.call('ZSCORE', KEYS[i], ARGV[1]) then return i - 1 end
end
"""
    + _HOLD
    + "return 0"
)

# KEYS and ARGV as above, without limits: what is open holds its slots, and takes again what the
# server has lost.
_RENEW: Final = _NOW + _HOLD

# Two of three renewals may fail.
_RENEWALS: Final = 3
# So many calls are renewed in one round trip.
_BATCH: Final = 200


class ValkeySlots:
    """Counts calls by leases: those of a process that dies end by themselves.

    All names share the hash tag ``{slots}``: a script touches the keys of one slot only.

    Args:
        valkey: Where.
        lease_s: For how long a call holds its slots when nobody renews them.
    """

    def __init__(self, valkey: Valkey, *, lease_s: float = SLOT_LEASE_S) -> None:
        self._valkey = valkey
        self._lease_s = lease_s
        self._lease_ms = int(lease_s * 1000)
        # The calls that are kept here, each with the names of its scopes; None if not known yet.
        self._kept: dict[str, tuple[str, ...] | None] = {}
        # So that no renewal that is on its way brings back what is released.
        self._lock = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._releasing: set[asyncio.Task[None]] = set()
        self._log = get_logger()

    def start(self) -> None:
        """Begin to renew leases; needs a running event loop."""
        self._renewing = asyncio.create_task(self._renew_again_and_again())

    async def stop(self) -> None:
        """Renew nothing any more; whoever takes the calls over does it."""
        if self._renewing is not None:
            await end(self._renewing)
        await asyncio.gather(*self._releasing)

    async def take(self, call_id: str, scopes: Sequence[Scope]) -> Scope | None:
        """Take a slot of each scope, or of none.

        Raises:
            StoreUnavailableError: If the server does not tell. The slots may be taken.
        """
        names = [self._valkey.name("{slots}", "in", scope.name) for scope in scopes]
        limits = [scope.limit for scope in scopes]
        full = await self._valkey.run_script(
            _TAKE, [self._record(call_id), *names], [call_id, self._lease_ms, *limits]
        )
        return scopes[full - 1] if full else None

    def keep(self, call_id: str) -> None:
        """Let a call hold its slots until `release`, or until this process ends."""
        self._kept.setdefault(call_id, None)

    def hand_over(self, call_id: str) -> None:
        """Renew the slots of a call no more; they are held until their lease ends."""
        self._kept.pop(call_id, None)

    def release(self, call_id: str) -> None:
        """Free the slots of a call, soon; if that fails they are free when its lease ends."""
        self._kept.pop(call_id, None)
        task = asyncio.create_task(self._release(call_id))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _release(self, call_id: str) -> None:
        record = self._record(call_id)
        try:
            async with self._lock, self._valkey.guarded():
                client = self._valkey.client
                names = await cast("Awaitable[set[bytes]]", client.smembers(record))
                if names:
                    async with client.pipeline() as pipeline:
                        for name in names:
                            pipeline.zrem(name, call_id)
                        pipeline.delete(record)
                        await pipeline.execute()
        except StoreUnavailableError:
            self._log.warning("slots_not_released", call=call_id)

    async def _renew_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            calls = list(self._kept)
            # The client logs it when the server is away; what it lost is taken again afterwards.
            with suppress(StoreUnavailableError):
                for first in range(0, len(calls), _BATCH):
                    async with self._lock:
                        await self._renew(calls[first : first + _BATCH])

    async def _renew(self, calls: Sequence[str]) -> None:
        """Renew the leases of those calls that are still kept here."""
        client = self._valkey.client
        new = [call for call in calls if self._kept.get(call, ()) is None]
        async with self._valkey.guarded(), client.pipeline(transaction=False) as pipeline:
            for call in new:
                pipeline.smembers(self._record(call))
            for call, names in zip(new, await pipeline.execute(), strict=True):
                if call in self._kept:
                    self._kept[call] = tuple(name.decode() for name in names)
            renew = client.register_script(_RENEW)
            for call in calls:
                if names := self._kept.get(call):
                    await renew([self._record(call), *names], [call, self._lease_ms], pipeline)
            await pipeline.execute()

    def _record(self, call_id: str) -> str:
        return self._valkey.name("{slots}", "of", call_id)
