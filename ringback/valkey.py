"""A client of Valkey or Redis: every operation ends in a bounded time, every failure is one error.

Names of keys and channels begin with the prefix of the settings. One server or a primary with
replicas behind one address; Redis Cluster is not spoken.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from ringback.logs import describe, get_logger
from ringback.settings.store import StoreSettings

# A connection that was kept while the server restarted fails once, at its first use.
_RETRIES: Final = 1
# Idle connections are tried before they are used again after this many seconds.
_HEALTH_CHECK_S: Final = 30
_CANCEL_AGAIN_S: Final = 0.1


class StoreUnavailableError(Exception):
    """The store did not answer in time, or refused; its own words stay in the cause."""

    def __str__(self) -> str:
        return "the store cannot be asked"


class Valkey:
    """A pool of connections; none is opened before the first use.

    Attributes:
        client: For whatever has no method here; use it inside of `guarded`. Answers are bytes.

    Args:
        settings: Whose ``url`` is set.
    """

    def __init__(self, settings: StoreSettings) -> None:
        # Not above: without a store no worker needs it at its start.
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        if settings.url is None:
            raise ValueError("a store needs its URL")
        options: dict[str, Any] = {
            "max_connections": settings.connections,
            "timeout": settings.timeout_s,
            "socket_timeout": settings.timeout_s,
            "socket_connect_timeout": settings.timeout_s,
            "retry": Retry(NoBackoff(), _RETRIES),
            "health_check_interval": _HEALTH_CHECK_S,
            "protocol": 2,
        }
        url = settings.url.reveal()
        if url.startswith("rediss:") and settings.ca_file is not None:
            options["ssl_ca_certs"] = str(settings.ca_file)
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(url, **options)
        self.client: Redis = Redis.from_pool(pool)
        self._failures = (RedisError, OSError, TimeoutError)
        self._prefix = settings.prefix
        self._timeout_s = settings.timeout_s
        self._is_down = False
        self._log = get_logger()

    def name(self, *parts: str) -> str:
        """Return the name of a key or channel: the prefix and the parts, joined by colons."""
        return ":".join((self._prefix, *parts))

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[None]:
        """Bound the time of what happens inside, and make all its failures one error.

        Raises:
            StoreUnavailableError: If the server is away, too slow, or refuses a command.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except self._failures as error:
            if not self._is_down:
                self._log.error("store_down", **describe(error))
            self._is_down = True
            raise StoreUnavailableError from error
        if self._is_down:
            self._log.info("store_up")
        self._is_down = False

    async def run_script(self, script: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a Lua script in one round trip and return what it returns.

        Only a server that does not know it yet, after a restart for example, needs two more.

        Args:
            script: Lua 5.1.
            keys: Names of all keys that it touches, from `name`.
            args: Numbers and text.

        Raises:
            StoreUnavailableError: As `guarded`.
        """
        async with self.guarded():
            return await self.client.register_script(script)(keys=list(keys), args=list(args))

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose(close_connection_pool=True)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks that use the client, and return once they have ended.

    The client loses a cancellation that arrives while it connects, so one is not always enough.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
