"""Tokens that open one call and no second one (``token.single_use``)."""

import heapq
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from extauthz.errors import TokenUncheckedError
from ringback.settings import TokenSettings
from ringback.tokens.claims import CallClaims
from ringback.valkey import Valkey

# KEYS: the token. ARGV: the request that spends it, milliseconds to remember that.
_TAKE: Final = """
local taken = redis.call('GET', KEYS[1])
if taken then return taken == ARGV[1] and 1 or 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


class UsesUnavailableError(TokenUncheckedError):
    """Nobody can tell whether a token has been spent: 503."""

    code = "token_uses_unavailable"


class Uses(Protocol):
    """Knows which tokens have been spent."""

    async def take(self, claims: CallClaims, request_id: str) -> bool:
        """Spend a token, and tell whether that was possible.

        Args:
            claims: Of the token.
            request_id: Of the request that it is spent on. Envoy asks a second worker about a
                request when the first one dies, and that is no second use.

        Raises:
            StoreUnavailableError: If nobody can tell. The token may be spent.
        """
        ...

    async def give_back(self, claims: CallClaims) -> None:
        """Let a token that `take` has just spent be spent again.

        Raises:
            StoreUnavailableError: If it may have stayed as it was.
        """
        ...


class MemoryUses:
    """Remembers in this process alone, so there may be no other one.

    What a process before this one has let in nobody knows any more, so tokens that are older than
    this process count as spent.

    Args:
        now: The time in seconds since the epoch.
        leeway_s: How long after its expiry a token is remembered, for a clock that is set back.
    """

    def __init__(self, now: Callable[[], float], leeway_s: float) -> None:
        self._now = now
        self._leeway_s = leeway_s
        self._began = math.floor(now())
        self._taken: dict[str, str] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._taken)

    async def take(self, claims: CallClaims, request_id: str) -> bool:
        """Spend a token, and tell whether that was possible."""
        # Without a single await: nothing comes between looking and taking.
        self._forget()
        if claims.iat <= self._began:
            return False
        if (taken := self._taken.get(claims.jti)) is not None:
            return taken == request_id
        self._taken[claims.jti] = request_id
        heapq.heappush(self._ends, (claims.exp + self._leeway_s, claims.jti))
        return True

    async def give_back(self, claims: CallClaims) -> None:
        """Let a token that `take` has just spent be spent again."""
        self._taken.pop(claims.jti, None)

    def _forget(self) -> None:
        now = self._now()
        while self._ends and self._ends[0][0] <= now:
            self._taken.pop(heapq.heappop(self._ends)[1], None)


class ValkeyUses:
    """Remembers in Valkey, for all workers and replicas together.

    A server that fails over to a replica may lose the last moments of what it was told.

    Args:
        valkey: Where.
        now: The time in seconds since the epoch.
        leeway_s: How far the clocks of replicas may be apart: a token is remembered until it has
            expired for the last of them.
    """

    def __init__(self, valkey: Valkey, now: Callable[[], float], leeway_s: float) -> None:
        self._valkey = valkey
        self._now = now
        self._leeway_s = leeway_s

    async def take(self, claims: CallClaims, request_id: str) -> bool:
        """Spend a token, and tell whether that was possible."""
        left_s = claims.exp - self._now() + self._leeway_s + 1
        arguments = [request_id, max(1, int(left_s * 1000))]
        return bool(await self._valkey.run_script(_TAKE, [self._name(claims)], arguments))

    async def give_back(self, claims: CallClaims) -> None:
        """Let a token that `take` has just spent be spent again."""
        async with self._valkey.guarded():
            await self._valkey.client.delete(self._name(claims))

    def _name(self, claims: CallClaims) -> str:
        return self._valkey.name("spent", claims.jti)


def make_uses(
    valkey: Valkey | None, settings: TokenSettings, now: Callable[[], float] = time.time
) -> Uses | None:
    """Return what knows which tokens have been spent; None if they may be used until they expire.

    Args:
        valkey: Where all workers and replicas share; None if this is the only worker.
        settings: How tokens may be used.
        now: The time in seconds since the epoch.
    """
    if not settings.single_use:
        return None
    if valkey is None:
        return MemoryUses(now, settings.leeway_s)
    return ValkeyUses(valkey, now, settings.leeway_s)
