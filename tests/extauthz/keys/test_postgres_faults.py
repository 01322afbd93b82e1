import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import KeyQuery
from extauthz.keys.postgres import PostgresSource
from helpers.litellmrows import hash_of
from helpers.postgres import PASSWORD, Database, PostgresServer
from helpers.postgressource import find, open_source
from helpers.waiting import until
from ringback.postgresconnect import Database as Connector
from ringback.secrets import Secret
from ringback.settings.database import DatabaseSettings

LOCK = 'LOCK TABLE "LiteLLM_VerificationToken" IN ACCESS EXCLUSIVE MODE'
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def made(server: PostgresServer) -> Database:
    """A database for all of these tests."""
    return server.create_database()


@pytest.fixture
def database(server: PostgresServer, made: Database) -> Iterator[Database]:
    """The database of a server that runs before and after the test."""
    yield made
    # Ends what a test has locked.
    made.close()
    server.start()


async def outcome(source: PostgresSource, raw: str) -> str:
    """Return what a lookup comes to."""
    try:
        key = await find(source, raw)
    except KeySourceUnavailableError:
        return "unavailable"
    return "unknown" if key is None else "found"


@asynccontextmanager
async def load(source: PostgresSource, raw: str, lookups: int = 8) -> AsyncIterator[dict[str, int]]:
    """Look up a key again and again meanwhile; count what it comes to."""
    counts = {"found": 0, "unknown": 0, "unavailable": 0}

    async def look_up() -> None:
        while True:
            counts[await outcome(source, raw)] += 1
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(look_up()) for _ in range(lookups)]
    try:
        yield counts
    finally:
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError)
            for end in await asyncio.gather(*tasks, return_exceptions=True)
        )


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_server_that_ends_and_comes_back(
    server: PostgresServer, database: Database, how: str
) -> None:
    """Under load, a server that ends makes lookups 503 and never unknown, and is found again."""
    raw = database.rows.key()
    async with open_source(database.url) as source, load(source, raw) as counts:
        await until(lambda: counts["found"] > 20)
        await asyncio.to_thread(getattr(server, how))
        await until(lambda: counts["unavailable"] > 20)
        before = dict(counts)
        await asyncio.sleep(0.1)
        assert counts["found"] == before["found"]
        await asyncio.to_thread(server.start)
        await until(lambda: counts["found"] > before["found"] + 20)
    assert counts["unknown"] == 0


async def test_a_server_that_is_not_there_at_the_start(
    server: PostgresServer, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    """A source starts without its server, says so loudly, and finds keys once it is there."""
    raw = database.rows.key()
    server.stop()
    async with open_source(database.url) as source:
        assert await outcome(source, raw) == "unavailable"
        log = capfd.readouterr().out
        assert "database_unavailable" in log
        assert PASSWORD not in log
        server.start()
        await until(lambda: source._query is not None)
        assert await outcome(source, raw) == "found"
        assert "database_available" in capfd.readouterr().out


async def test_wrong_passwords_are_unavailable(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that lets nobody in is 503; the log names the reason and not the password."""
    async with open_source(database.url_of("postgres", "not-the-password")) as source:
        assert await outcome(source, "sk-any") == "unavailable"
    log = capfd.readouterr().out
    assert "InvalidPasswordError" in log
    assert "not-the-password" not in log


async def test_a_statement_that_takes_too_long_is_given_up(database: Database) -> None:
    """A lookup that the database cannot answer in time is 503; the next one works."""
    raw = database.rows.key()
    async with open_source(database.url, statement_timeout_s=1) as source:
        assert await outcome(source, raw) == "found"
        database.execute("BEGIN")
        database.execute(LOCK)
        started = time.monotonic()
        assert await outcome(source, raw) == "unavailable"
        assert 0.9 < time.monotonic() - started < 5
        database.execute("ROLLBACK")
        assert await outcome(source, raw) == "found"


async def test_an_exhausted_pool_is_told_quickly(database: Database) -> None:
    """Who finds no free connection in time gets 503 before those are done who have one."""
    raw = database.rows.key()
    async with open_source(
        database.url, pool_size=2, acquire_timeout_s=0.5, statement_timeout_s=10
    ) as source:
        assert await outcome(source, raw) == "found"
        database.execute("BEGIN")
        database.execute(LOCK)
        busy = [asyncio.create_task(outcome(source, raw)) for _ in range(2)]
        await until(lambda: database.execute(WAITING) == [(2,)])
        started = time.monotonic()
        late = await asyncio.gather(*(outcome(source, raw) for _ in range(50)))
        assert set(late) == {"unavailable"}
        assert time.monotonic() - started < 5
        database.execute("ROLLBACK")
        assert await asyncio.gather(*busy) == ["found", "found"]
        assert await outcome(source, raw) == "found"


async def test_more_lookups_than_connections_wait_their_turn(database: Database) -> None:
    """Two connections answer two hundred lookups at once, and there are never more."""
    raw = database.rows.key()
    async with open_source(f"{database.url}?connection_limit=2", acquire_timeout_s=10) as source:
        found = await asyncio.gather(*(outcome(source, raw) for _ in range(200)))
        assert set(found) == {"found"}
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ringback'"
        assert database.execute(query) == [(2,)]


async def test_lookups_that_are_given_up_leave_no_connection_behind(database: Database) -> None:
    """A caller that goes away while its key is looked up costs no connection."""
    raw = database.rows.key()
    async with open_source(database.url, pool_size=2) as source:
        for _ in range(20):
            task = asyncio.create_task(outcome(source, raw))
            await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await outcome(source, raw) == "found"


async def test_a_silent_server_costs_no_more_than_the_timeouts() -> None:
    """An address that accepts and never answers is 503 in bounded time, also at the start."""
    connections: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, w: connections.append(w), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    url = f"postgresql://ringback:{PASSWORD}@127.0.0.1:{port}/litellm"
    started = time.monotonic()
    async with open_source(url, connect_timeout_s=0.3, acquire_timeout_s=0.3) as source:
        assert await outcome(source, "sk-any") == "unavailable"
        assert time.monotonic() - started < 4
    for writer in connections:
        writer.close()
    silent.close()
    await silent.wait_closed()


async def test_a_source_that_is_not_running_is_unavailable(database: Database) -> None:
    """Before its start and after its end, a source answers 503."""
    source = PostgresSource(Connector(DatabaseSettings(), Secret(database.url)))
    with pytest.raises(KeySourceUnavailableError):
        await find(source, "sk-any")
    await source.start()
    assert await find(source, "sk-any") is None
    await source.stop()
    with pytest.raises(KeySourceUnavailableError):
        await source.find(KeyQuery(hash_of("sk-any")))


async def test_nothing_can_be_written(database: Database) -> None:
    """Connections of the source are read-only, whatever the role may do."""
    async with open_source(database.url) as source:
        assert source._pool is not None
        shown = await source._pool.fetchval("SHOW default_transaction_read_only")
        assert shown == "on"


async def test_pgbouncer_needs_nothing_that_stays(database: Database) -> None:
    """With ``pgbouncer=true`` no statement is prepared for longer than one lookup."""
    raw = database.rows.key()
    async with open_source(f"{database.url}?pgbouncer=true&connection_limit=1") as source:
        assert await outcome(source, raw) == "found"
        assert source._pool is not None
        prepared = await source._pool.fetch("SELECT name FROM pg_prepared_statements")
        assert [row["name"] for row in prepared if row["name"]] == []
        assert await source._pool.fetchval("SHOW statement_timeout") == "0"
