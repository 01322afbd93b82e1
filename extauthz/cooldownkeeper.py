"""Tells of deployments that are left alone: logs, metrics and, through the store, other workers."""

import asyncio
from typing import Final

from extauthz.metrics import COOLDOWNS, COOLED
from extauthz.routing.cooldown import Cooldowns
from extauthz.routing.failures import FailureKind, is_kind
from ringback.logs import get_logger
from ringback.valkey import StoreUnavailableError, Valkey, end

# How soon a worker learns what another one found out. Mints never wait for the store.
_POLL_S: Final = 0.5
# A sorted set: `KIND DEPLOYMENT` by the end of the cooldown in milliseconds of the server's clock,
# so that the clocks of replicas do not matter.
_NAME: Final = "cooldowns"
_NOW: Final = (
    "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000) "
)
_WRITE: Final = (
    _NOW + "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) "
    "redis.call('ZADD', KEYS[1], 'GT', now + ARGV[1], ARGV[2]) "
    "local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES') "
    "redis.call('PEXPIREAT', KEYS[1], string.format('%d', last[2]))"
)
_READ: Final = (
    _NOW + "local found = redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf', 'WITHSCORES') "
    "for i = 2, #found, 2 do found[i] = found[i] - now end "
    "return found"
)


class CooldownKeeper:
    """Shares cooldowns with all who use the same store; without one it only tells of them.

    While the store is away each worker goes by what it finds out itself.

    Args:
        cooldowns: Those of this worker.
        valkey: The store, if any.
        poll_s: Time between two looks at it.
    """

    def __init__(
        self, cooldowns: Cooldowns, valkey: Valkey | None = None, *, poll_s: float = _POLL_S
    ) -> None:
        self._cooldowns = cooldowns
        self._valkey = valkey
        self._poll_s = poll_s
        self._polling: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._is_away = False
        self._log = get_logger()

    def start(self) -> None:
        """Begin to learn from others."""
        if self._valkey is not None:
            self._polling = asyncio.create_task(self._poll(self._valkey))

    async def stop(self) -> None:
        """Stop learning, and telling others."""
        await end(*self._writing, *([self._polling] if self._polling else []))

    def tell(self, deployment_id: str, seconds: float, kind: FailureKind) -> None:
        """Tell of a deployment that is left alone from now on.

        Args:
            deployment_id: Which.
            seconds: For how long.
            kind: Why.
        """
        self._log.warning(
            "deployment_cooled", deployment=deployment_id, seconds=seconds, reason=kind
        )
        COOLDOWNS.labels(deployment_id, kind).inc()
        self._show(deployment_id)
        if self._valkey is not None:
            task = asyncio.create_task(self._write(self._valkey, deployment_id, seconds, kind))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _write(
        self, valkey: Valkey, deployment_id: str, seconds: float, kind: FailureKind
    ) -> None:
        args = [int(seconds * 1000), f"{kind} {deployment_id}"]
        try:
            await valkey.run_script(_WRITE, [valkey.name(_NAME)], args)
        except StoreUnavailableError:
            self._note(is_away=True)

    async def _poll(self, valkey: Valkey) -> None:
        while True:
            try:
                found = await valkey.run_script(_READ, [valkey.name(_NAME)], [])
            except StoreUnavailableError:
                self._note(is_away=True)
            else:
                self._note(is_away=False)
                for member, left_ms in zip(found[::2], found[1::2], strict=True):
                    self._learn(member, left_ms / 1000)
            await asyncio.sleep(self._poll_s)

    def _learn(self, member: bytes, left_s: float) -> None:
        kind, _, deployment_id = member.decode(errors="replace").partition(" ")
        if is_kind(kind):
            self._cooldowns.impose(deployment_id, left_s, kind)
            self._show(deployment_id)

    def _show(self, deployment_id: str) -> None:
        COOLED.labels(deployment_id).set_function(
            lambda: float(self._cooldowns.left_s(deployment_id) > 0)
        )

    def _note(self, *, is_away: bool) -> None:
        if is_away and not self._is_away:
            self._log.warning("cooldowns_not_shared")
        elif self._is_away and not is_away:
            self._log.info("cooldowns_shared")
        self._is_away = is_away
