import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from helpers.litellmrows import hash_of
from helpers.postgres import BASELINE, Database, PostgresServer
from helpers.postgressource import open_source
from helpers.waiting import until

TRIGGERS = (Path(__file__).parents[3] / "deploy" / "postgres" / "notify.sql").read_text()
ALL = "all"
TOKENS = "LiteLLM_VerificationToken"
# Half of the time after which a listener looks whether it is still connected.
PROMPTLY_S = 5.0
# While all is forgotten this often, further changes wait.
SETTLE_S = 0.2


class Memory:
    """Notes what is to be forgotten."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def forget(self, key_hash: str) -> None:
        """Note one key."""
        self.forgotten.append(key_hash)

    def forget_all(self) -> None:
        """Note all of them."""
        self.forgotten.append(ALL)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own, which they may end."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: PostgresServer) -> Database:
    """A database with the triggers, for all of these tests."""
    database = server.create_database()
    database.execute(TRIGGERS)
    return database


@pytest.fixture
async def memory(database: Database) -> AsyncIterator[Memory]:
    """What listens to that database; it has forgotten nothing yet."""
    memory = Memory()
    async with open_source(database.url, memory, notify=True):
        await until(lambda: memory.forgotten == [ALL])
        memory.forgotten.clear()
        yield memory


async def test_a_changed_key_is_forgotten_at_once(database: Database, memory: Memory) -> None:
    """A key that is made, blocked or deleted is forgotten, and it alone."""
    raw = database.rows.key()
    token = hash_of(raw)
    await until(lambda: memory.forgotten == [token], PROMPTLY_S)
    database.rows.update(TOKENS, {"token": token}, blocked=True)
    await until(lambda: memory.forgotten == [token] * 2, PROMPTLY_S)
    database.execute(f'DELETE FROM "{TOKENS}" WHERE token = %s', token)  # noqa: S608
    await until(lambda: memory.forgotten == [token] * 3, PROMPTLY_S)


async def test_a_key_takes_its_old_hashes_with_it(database: Database, memory: Memory) -> None:
    """Keys in their time of grace are forgotten with the one that they stand for."""
    raw = database.rows.key()
    database.rows.deprecated("sk-old", raw)
    await until(lambda: memory.forgotten == [hash_of(raw), hash_of("sk-old")], PROMPTLY_S)
    memory.forgotten.clear()
    database.rows.update(TOKENS, {"token": hash_of(raw)}, blocked=True)
    await until(lambda: set(memory.forgotten) == {hash_of(raw), hash_of("sk-old")}, PROMPTLY_S)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows, team: rows.update("LiteLLM_TeamTable", {"team_id": team}, blocked=True),
        lambda rows, team: rows.member("u", team),
        lambda rows, _: rows.user(),
        lambda rows, _: rows.budget(),
        lambda rows, _: rows.model_aliases({}),
        lambda rows, _: rows.organization(),
        lambda rows, _: rows.project(),
        lambda rows, _: rows.access_group(),
    ],
    ids=["team", "member", "user", "budget", "aliases", "organization", "project", "group"],
)
async def test_what_many_keys_belong_to_makes_all_forgotten(
    database: Database, memory: Memory, change: Callable[..., None]
) -> None:
    """A change of anything but a key is one of many keys."""
    team = database.rows.team()
    await until(lambda: memory.forgotten == [ALL], PROMPTLY_S)
    change(database.rows, team)
    await until(lambda: memory.forgotten[:2] == [ALL] * 2, PROMPTLY_S)


async def test_what_is_booked_with_every_request_is_not_told(
    database: Database, memory: Memory
) -> None:
    """Spend is told when it reaches a budget or falls, not before; of keys and of teams."""
    token, unlimited = hash_of(database.rows.key(max_budget=10)), hash_of(database.rows.key())
    team = database.rows.team()
    await until(lambda: memory.forgotten == [token, unlimited, ALL], PROMPTLY_S)
    memory.forgotten.clear()
    for spend in range(1, 10):
        database.rows.update(TOKENS, {"token": token}, spend=spend, updated_by="x")
        database.rows.update("LiteLLM_TeamTable", {"team_id": team}, spend=spend)
        database.rows.update(TOKENS, {"token": unlimited}, spend=spend)
    # As long as what is told of teams may take.
    await asyncio.sleep(0.3)
    assert memory.forgotten == []
    database.rows.update(TOKENS, {"token": token}, spend=10)
    await until(lambda: memory.forgotten == [token], PROMPTLY_S)
    database.rows.update(TOKENS, {"token": token}, spend=0)
    await until(lambda: memory.forgotten == [token, token], PROMPTLY_S)
    database.rows.update("LiteLLM_TeamTable", {"team_id": team}, spend=0)
    await until(lambda: memory.forgotten == [token, token, ALL], PROMPTLY_S)


async def test_many_changes_make_all_forgotten_only_now_and_then(
    database: Database, memory: Memory
) -> None:
    """A thousand users that are made at once do not empty the memory a thousand times."""
    started = time.monotonic()
    database.execute(
        'INSERT INTO "LiteLLM_UserTable" (user_id) SELECT generate_series(1, 1000)::text'
    )
    for number in range(30):
        database.rows.user(user_id=f"user {number}")
    await until(lambda: ALL in memory.forgotten, PROMPTLY_S)
    await asyncio.sleep(0.3)
    assert set(memory.forgotten) == {ALL}
    assert len(memory.forgotten) <= 1 + (time.monotonic() - started) / SETTLE_S


async def test_an_emptied_table_makes_all_forgotten(database: Database, memory: Memory) -> None:
    """TRUNCATE is told as well."""
    database.execute(f'TRUNCATE "{TOKENS}" CASCADE')
    await until(lambda: memory.forgotten, PROMPTLY_S)
    assert set(memory.forgotten) == {ALL}


async def test_a_lost_connection_makes_all_forgotten(
    server: PostgresServer, database: Database, memory: Memory
) -> None:
    """After a server that ended, changes may have been missed: all is forgotten."""
    server.kill()
    await asyncio.to_thread(server.start)
    await until(lambda: memory.forgotten == [ALL])
    token = hash_of(database.rows.key())
    await until(lambda: memory.forgotten == [ALL, token], PROMPTLY_S)


async def test_strange_payloads_make_all_forgotten(database: Database, memory: Memory) -> None:
    """Whoever may speak on the channel can make us ask again, and nothing more."""
    for payload in ("", "x" * 7000, "A" * 64):
        database.execute("SELECT pg_notify('ringback_keys', %s)", payload)
    await until(lambda: memory.forgotten, PROMPTLY_S)
    await asyncio.sleep(0.3)
    assert set(memory.forgotten) == {ALL}


async def test_without_the_setting_nobody_listens(database: Database) -> None:
    """There is no further connection unless ``notify`` is set; PgBouncer has none to offer."""
    for url, notify in ((database.url, False), (f"{database.url}?pgbouncer=true", True)):
        memory = Memory()
        async with open_source(url, memory, notify=notify):
            await asyncio.sleep(0.1)
        assert memory.forgotten == []


async def test_the_triggers_fit_an_old_schema_and_can_be_made_again(
    server: PostgresServer,
) -> None:
    """notify.sql passes over missing tables, and a second run changes nothing."""
    database = server.create_database(BASELINE)
    database.execute(TRIGGERS)
    database.execute(TRIGGERS)
    memory = Memory()
    async with open_source(database.url, memory, notify=True):
        await until(lambda: memory.forgotten == [ALL])
        token = hash_of(database.rows.key())
        database.rows.update(TOKENS, {"token": token}, blocked=True)
        await until(lambda: memory.forgotten == [ALL, token, token], PROMPTLY_S)


async def test_triggers_cost_litellm_little(database: Database) -> None:
    """To book the spend of a thousand keys takes much less than a second."""
    database.execute(
        f'INSERT INTO "{TOKENS}" (token, models)'  # noqa: S608
        " SELECT md5(n::text) || md5(n::text), '{a,b,c}' FROM generate_series(1, 1000) n"
    )
    started = time.monotonic()
    database.execute(f'UPDATE "{TOKENS}" SET spend = spend + 0.5')  # noqa: S608
    assert time.monotonic() - started < 2
