"""Virtual keys from LiteLLM's Postgres: one prepared query for each lookup, nothing is written."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys.model import KeyQuery, VirtualKey
from extauthz.keys.postgreschanges import ChangeListener, Forgetful
from extauthz.keys.postgresprobe import UnusableDatabaseError, probe
from extauthz.keys.postgresquery import Query
from extauthz.keys.records import Owners, parse_key, parse_owners
from extauthz.keys.rowvalues import BadRowError
from ringback.logs import describe, get_logger
from ringback.postgresconnect import Connection, Database, Pool

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 5.0
# LiteLLM may be upgraded meanwhile, and its tables with it.
_PROBE_S: Final = 300.0
# The same trouble is told again after this time.
_REPEAT_S: Final = 5.0
_CLOSE_S: Final = 1.0
# SQLSTATE of undefined columns and tables, of denied reading and of plans that do not fit any more.
_SCHEMA_CHANGED: Final = frozenset({"42703", "42P01", "42501", "0A000"})

_T = TypeVar("_T")


class PostgresSource:
    """Finds keys in LiteLLM's tables, valid or not.

    A database that is down or unusable is no reason not to start: lookups are 503 until it is back,
    and the log says so.

    Args:
        database: Where the keys are.
        now: The time in seconds since the epoch.
    """

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self.memory: Forgetful | None = None
        """What forgets keys that change (``database.notify``); set before `start`."""
        self._database = database
        self._now = now
        self._pool: Pool | None = None
        self._query: Query | None = None
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._listener: ChangeListener | None = None
        self._down_since: float | None = None
        self._told_at: dict[str, float] = {}
        self._log = get_logger()

    async def start(self) -> None:
        """Connect, and look at what the database holds; goes on with both if they fail."""
        self._pool = await self._database.open_pool()
        await self._prepare()
        self._keeper = asyncio.create_task(self._keep_prepared())
        if not self._database.settings.notify or self.memory is None:
            return
        if self._database.url.is_pooled:
            self._log.warning("database_notify_off", reason="PgBouncer does not pass on NOTIFY")
            return
        self._listener = ChangeListener(self._database, self.memory)
        self._listener.start()

    async def stop(self) -> None:
        """Close all connections."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._listener is not None:
            await self._listener.stop()
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key with this hash, or its successor while it rotates, or None.

        Raises:
            KeySourceUnavailableError: If the database cannot be asked, or if what it answers
                cannot be used: 503.
        """
        if not _HASH.fullmatch(query.hash):
            # No sha256 in hex, so not LiteLLM's.
            return None
        row = await self._fetch(lambda built: built.key, query.hash)
        return None if row is None else self._parse(parse_key, row)

    async def scopes(self, team: str | None, user: str | None) -> Owners:
        """Return what a team and a user without a key are held to; `Owners.of` adds it to a key.

        Args:
            team: Its id.
            user: Its id.

        Raises:
            KeySourceUnavailableError: As `find`.
        """
        row = await self._fetch(lambda built: built.owners, team, user)
        return Owners() if row is None else self._parse(parse_owners, row)

    async def _fetch(
        self, statement: Callable[[Query], str], *values: str | None
    ) -> Mapping[str, Any] | None:
        if self._pool is None or self._query is None:
            raise KeySourceUnavailableError
        try:
            async with self._connection(self._pool) as connection:
                row = await connection.fetchrow(statement(self._query), *values)
        except Exception as error:
            self._tell_down(error)
            raise KeySourceUnavailableError from error
        self._tell_up()
        return None if row is None else dict(row)

    @asynccontextmanager
    async def _connection(self, pool: Pool) -> AsyncIterator[Connection]:
        async with pool.acquire(timeout=self._database.settings.acquire_timeout_s) as connection:
            if not self._database.url.is_pooled:
                yield connection
                return
            # Within a transaction PgBouncer does not change the server.
            async with connection.transaction(readonly=True):
                yield connection

    def _parse(self, parse: Callable[[Mapping[str, Any], datetime], _T], row: Any) -> _T:
        try:
            return parse(row, datetime.fromtimestamp(self._now(), UTC))
        except BadRowError as error:
            if self._is_news(error.column):
                self._log.error(
                    "database_row_unusable", column=error.column, expected=error.expected
                )
            raise KeySourceUnavailableError from error

    async def _keep_prepared(self) -> None:
        retry_s = _RETRY_S
        while True:
            if self._query is not None:
                retry_s = _RETRY_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE_S):
                        await self._changed.wait()
                self._changed.clear()
            if not await self._prepare():
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _MAX_RETRY_S)

    async def _prepare(self) -> bool:
        """Make the query for what the database holds now; tell whether that worked."""
        assert self._pool is not None  # noqa: S101  start has opened it
        try:
            async with self._connection(self._pool) as connection:
                query = await probe(connection, self._database.url.schema)
        except UnusableDatabaseError as error:
            # A query of before stays: what it needs may still be there after an upgrade of LiteLLM.
            if self._is_news(str(error)):
                self._log.error(
                    "database_unusable", problem=error.problem, columns=list(error.columns)
                )
            return False
        except Exception as error:  # noqa: BLE001  whatever it is, try again
            self._tell_down(error)
            return False
        self._tell_up()
        if query != self._query:
            self._query = query
            self._tell_prepared(query)
        return True

    def _tell_prepared(self, query: Query) -> None:
        for lack in query.lacks:
            self._log.warning("database_lacks", missing=lack.name, meaning=lack.meaning)
        self._log.info("database_ready", lacks=len(query.lacks))

    def _tell_down(self, error: Exception) -> None:
        sqlstate = getattr(error, "sqlstate", None)
        if sqlstate in _SCHEMA_CHANGED:
            self._changed.set()
        if self._down_since is None:
            self._down_since = time.monotonic()
        if self._is_news(f"{type(error).__name__} {sqlstate}"):
            self._log.error("database_unavailable", sqlstate=sqlstate, **describe(error))

    def _tell_up(self) -> None:
        if self._down_since is not None:
            down_s = round(time.monotonic() - self._down_since, 3)
            self._down_since = None
            if self._is_news("available"):
                self._log.info("database_available", down_s=down_s)

    def _is_news(self, trouble: str) -> bool:
        """Tell whether a trouble was not told lately; there are few different ones."""
        now = time.monotonic()
        if now - self._told_at.get(trouble, -_REPEAT_S) < _REPEAT_S:
            return False
        self._told_at[trouble] = now
        return True
