"""A source's answers, remembered: one lookup for many requests, and none while it is down."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys.memory import KeyMemory, Lifetimes, Remembered
from extauthz.keys.model import KeyQuery, VirtualKey
from extauthz.keys.sources import RemoteSource
from extauthz.metrics import KEY_CACHE, KEY_CACHE_BYTES, KEY_CACHE_ENTRIES, KEY_LOOKUPS
from ringback.logs import describe, get_logger

# Between two questions about a key while the source does not answer them.
PROBE_S: Final = 1.0
# A failure that is older tells nothing of the source as it is now.
_NOTED_S: Final = 5.0
# Between two lines in the log that say so.
_REPEAT_S: Final = 5.0
_HASH_CHARS: Final = 64


class KeyNotAskableError(KeySourceUnavailableError):
    """The source could be asked only with the key itself, which a token does not hold: 503."""

    code = "key_not_askable"

    def __str__(self) -> str:
        return (
            "The key of this token cannot be checked again here. Mint a new token and use it at "
            "once; if that does not help, tell the operator."
        )


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A question that is under way."""

    asked_at: float
    task: "asyncio.Task[VirtualKey | None]"


class CachedSource:
    """Asks a source of LiteLLM keys once per key and lifetime, whatever many requests want to know.

    While the source is down, keys that it knew keep working for a bounded time, and of each of
    them one request waits to find out; what is not remembered then is 503.

    Args:
        name: Of the source, for logs and metrics.
        source: Started and stopped with this one; every lookup of it ends in bounded time.
        memory: Where answers are kept.
        lifetimes: How long they are used.
        now: A monotonic time in seconds.
    """

    def __init__(
        self,
        name: str,
        source: RemoteSource,
        memory: KeyMemory,
        lifetimes: Lifetimes,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lifetimes = lifetimes
        """Another configuration may set others."""
        self.name = name
        """Of the source, in logs and metrics."""
        self._source = source
        self._memory = memory
        self._now = now
        self._lookups: dict[tuple[str, bool], _Lookup] = {}
        self._running: set[asyncio.Task[VirtualKey | None]] = set()
        self._is_down = False
        self._told_at = -_REPEAT_S
        self._log = get_logger()

    async def start(self) -> None:
        """Start the source."""
        await self._source.start()

    async def stop(self) -> None:
        """End all lookups and stop the source."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._source.stop()

    def forget(self, key_hash: str) -> None:
        """Ask again for a key from now on, by whatever hash it is found."""
        self._memory.forget(key_hash, self._now())
        self._measure()

    def forget_all(self) -> None:
        """Ask again for every key from now on."""
        self._memory.forget_all(self._now())
        self._measure()

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key, valid or not, or None if the source does not know it.

        Raises:
            KeySourceUnavailableError: If the source is down and did not know the key lately: 503.
        """
        if not _is_litellm_key(query):
            return None
        now = self._now()
        answer = self._memory.get(query.hash)
        if answer is not None and self.lifetimes.is_fresh(answer, now, query.max_age_s):
            self._count("hit" if answer.key else "hit_unknown")
            return answer.key
        if (
            answer is not None
            # Noted for this key and not for the source: it may be the fault of a single key.
            and answer.retry_at is not None
            and now < answer.retry_at + _NOTED_S
            and self.lifetimes.is_usable(answer, now)
        ):
            if now >= answer.retry_at:
                self._memory.postpone(query.hash, now + PROBE_S)
                self._look_up(query)
            self._count("stale")
            return answer.key
        try:
            # One waiter that goes away takes nothing from the others.
            key = await asyncio.shield(self._look_up(query))
        except KeySourceUnavailableError as error:
            answer = self._memory.get(query.hash)
            if answer is None or not self._outlasts(answer, error):
                self._count("unavailable")
                raise
            self._count("stale")
            return answer.key
        self._count("miss")
        return key

    def _outlasts(self, answer: Remembered, error: KeySourceUnavailableError) -> bool:
        """Tell whether an answer may be used although the source told nothing new."""
        now = self._now()
        if isinstance(error, KeyNotAskableError) and not self.lifetimes.is_fresh(answer, now, None):
            # The source is up: there is no outage to wait for the end of.
            return False
        return self.lifetimes.is_usable(answer, now)

    def _look_up(self, query: KeyQuery) -> "asyncio.Task[VirtualKey | None]":
        """Return the lookup that is under way for a key, else a new one."""
        # Some sources cannot answer without the key itself: one must not wait for the other.
        place = (query.hash, query.secret is None)
        now = self._now()
        running = self._lookups.get(place)
        if running is not None and self._may_join(running, query, now):
            return running.task
        lookup = _Lookup(now, asyncio.create_task(self._ask(query, now)))
        self._lookups[place] = lookup
        self._running.add(lookup.task)

        def end(task: "asyncio.Task[VirtualKey | None]") -> None:
            self._running.discard(task)
            if self._lookups.get(place) is lookup:
                del self._lookups[place]
            # Whoever waited may be gone.
            if not task.cancelled():
                task.exception()

        lookup.task.add_done_callback(end)
        return lookup.task

    def _may_join(self, lookup: _Lookup, query: KeyQuery, now: float) -> bool:
        if self._memory.is_outdated(query.hash, lookup.asked_at):
            return False
        return query.max_age_s is None or now - lookup.asked_at <= query.max_age_s

    async def _ask(self, query: KeyQuery, now: float) -> VirtualKey | None:
        read_at = time.time()
        try:
            key = await self._source.find(query)
        except KeyNotAskableError:
            raise
        except KeySourceUnavailableError as error:
            KEY_LOOKUPS.labels(self.name, "unavailable").inc()
            self._memory.postpone(query.hash, self._now() + PROBE_S)
            self._tell_down(error)
            raise
        KEY_LOOKUPS.labels(self.name, "found" if key else "unknown").inc()
        if self._is_down:
            self._is_down = False
            self._log.info("key_source_up", source=self.name)
        key = key and replace(key, read_at=read_at)
        self._memory.put(query.hash, Remembered(key, now))
        self._measure()
        return key

    def _tell_down(self, error: KeySourceUnavailableError) -> None:
        now = self._now()
        if self._is_down or now - self._told_at < _REPEAT_S:
            return
        self._is_down, self._told_at = True, now
        self._log.error("key_source_down", source=self.name, **describe(error.__cause__ or error))

    def _count(self, outcome: str) -> None:
        KEY_CACHE.labels(self.name, outcome).inc()

    def _measure(self) -> None:
        KEY_CACHE_ENTRIES.labels(self.name, "known").set(len(self._memory))
        KEY_CACHE_ENTRIES.labels(self.name, "unknown").set(self._memory.unknown)
        KEY_CACHE_BYTES.labels(self.name).set(self._memory.size_bytes)


def _is_litellm_key(query: KeyQuery) -> bool:
    """Tell whether LiteLLM can have such a key: ``sk-...``, known by its sha256 in hex."""
    if query.secret is not None and not query.secret.reveal().startswith("sk-"):
        return False
    return len(query.hash) == _HASH_CHARS
