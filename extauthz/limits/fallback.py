"""Counts elsewhere while a store cannot be asked."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from extauthz.limits.rules import Counter
from extauthz.limits.stores import Exceeded, RateStore
from ringback.logs import get_logger
from ringback.valkey import StoreUnavailableError

# A store that hangs costs one request its whole timeout this often, and no other any time.
PAUSE_S: Final = 1.0


class FallbackStore:
    """Asks a store, and another one while the first is away.

    Args:
        store: The one that counts for all.
        fallback: The one of this process.
        now: Time in seconds that never goes back.
    """

    def __init__(
        self,
        store: RateStore,
        fallback: RateStore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._fallback = fallback
        self._now = now
        self._away_until: float | None = None
        self._log = get_logger()

    async def take(self, counters: Sequence[Counter]) -> Exceeded | None:
        """Count one request where that is possible."""
        if self._away_until is not None and self._now() < self._away_until:
            return await self._fallback.take(counters)
        was_away = self._away_until is not None
        if was_away:
            self._away_until = self._now() + PAUSE_S
        try:
            exceeded = await self._store.take(counters)
        except StoreUnavailableError:
            self._away_until = self._now() + PAUSE_S
            if not was_away:
                self._log.warning("limits_counted_locally")
            return await self._fallback.take(counters)
        self._away_until = None
        if was_away:
            self._log.info("limits_shared_again")
        return exceeded
