"""Holds callers to their limits."""

from collections.abc import Iterator
from contextlib import contextmanager

from extauthz.keys.model import VirtualKey
from extauthz.limits.errors import LimitsUnavailableError, RateLimitedError, TooManyAtOnceError
from extauthz.limits.fallback import FallbackStore
from extauthz.limits.memory import MemoryStore
from extauthz.limits.rules import parallel_counters, rate_counters
from extauthz.limits.stores import RateStore
from extauthz.limits.valkeystore import ValkeyStore
from ringback.settings.limits import LimitSettings
from ringback.valkey import StoreUnavailableError, Valkey


class Limiter:
    """Counts what callers were admitted to, and refuses what is too much.

    Args:
        store: Where requests per minute are counted. Requests at once are counted in this process:
            those that wait for an upstream here.
    """

    def __init__(self, store: RateStore) -> None:
        self._store = store
        self._at_once: dict[str, int] = {}

    async def take(self, key: VirtualKey, group: str, *names: str) -> None:
        """Count a request that every other rule admits.

        Nothing is counted if it is refused. A key without limits takes no time.

        Args:
            key: The caller's.
            group: The model group.
            names: Other names that the request used for it.

        Raises:
            TooManyAtOnceError: If as many of its requests as may be are being answered: 429.
            RateLimitedError: If it has sent as many in this minute as it may: 429.
            LimitsUnavailableError: If nobody can tell: 503.
        """
        counters = rate_counters(key, group, *names)
        # While the store is asked, too: or else all that come together would be counted there.
        with self.in_flight(key):
            if not counters:
                return
            try:
                exceeded = await self._store.take(counters)
            except StoreUnavailableError as error:
                raise LimitsUnavailableError from error
        if exceeded is not None:
            raise RateLimitedError(exceeded.counter, exceeded.wait_s)

    @contextmanager
    def in_flight(self, key: VirtualKey) -> Iterator[None]:
        """Count a request as one of those at once for as long as the block lasts.

        Raises:
            TooManyAtOnceError: If there are as many as may be: 429.
        """
        self._check_at_once(key)
        names = [counter.name for counter in parallel_counters(key)]
        for name in names:
            self._at_once[name] = self._at_once.get(name, 0) + 1
        try:
            yield
        finally:
            for name in names:
                self._at_once[name] -= 1
                if not self._at_once[name]:
                    del self._at_once[name]

    def _check_at_once(self, key: VirtualKey) -> None:
        for counter in parallel_counters(key):
            if self._at_once.get(counter.name, 0) >= counter.limit:
                raise TooManyAtOnceError(counter)


def make_limiter(valkey: Valkey | None, settings: LimitSettings) -> Limiter:
    """Return what holds callers to their limits.

    Args:
        valkey: Where all workers and replicas count together; None if each counts for itself.
        settings: What happens while it is away.
    """
    if valkey is None:
        return Limiter(MemoryStore())
    store = ValkeyStore(valkey)
    if settings.when_store_fails == "count_locally":
        return Limiter(FallbackStore(store, MemoryStore()))
    return Limiter(store)
