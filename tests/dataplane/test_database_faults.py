import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from helpers.expect import check_refusal
from helpers.gateway import Gateway
from helpers.gatewayfiles import TOKEN_SECRET, Files, openai_entry
from helpers.http11 import Message
from helpers.litellmrows import hash_of
from helpers.postgres import PASSWORD, Database, PostgresServer
from helpers.recording import RecordingUpstream
from helpers.secretscan import find_secrets
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "postgres"
TOKENS: Final = "LiteLLM_VerificationToken"
# What listens has said so, and later asks now and then whether it is still connected.
LISTENERS: Final = """
    SELECT count(*) FROM pg_stat_activity
     WHERE application_name = 'ringback' AND (query LIKE 'LISTEN %' OR query = 'SELECT 1')"""
WORKERS: Final = 2
SOON_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that reads keys from LiteLLM's database."""

    gateway: Gateway
    server: PostgresServer
    database: Database

    async def key_known_to_all(self, raw: str) -> str:
        """Make a key, let every worker look it up, and return a token of it."""
        self.database.rows.key(raw)
        # Workers are told of it, and forget it: later than they have looked it up, where they are
        # slow to be told.
        await asyncio.sleep(0.5)
        tokens = [await self.gateway.token(key=raw) for _ in range(WORKERS * 8)]
        self.gateway.reset()
        return tokens[-1]

    async def wait_for_listeners(self) -> None:
        """Wait until every worker is told of changes again; it has then forgotten all keys."""
        async with asyncio.timeout(SOON_S):
            while self.database.execute(LISTENERS) != [(WORKERS,)]:  # noqa: ASYNC110  another process
                await asyncio.sleep(0.05)

    async def wait_for(self, status: int, raw: str) -> None:
        """Wait until to mint with a key comes to a status."""
        async with asyncio.timeout(SOON_S):
            while (await self.gateway.mint(key=raw)).status != status:
                pass

    async def wait_for_all(self, status: int, raw: str) -> None:
        """Wait until minting comes to a status whichever worker is asked.

        That takes a moment, and far less than the minute for which answers are remembered.
        """
        async with asyncio.timeout(SOON_S):
            while {(await self.gateway.mint(key=raw)).status for _ in range(WORKERS * 4)} != {
                status
            }:
                pass


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of these tests' own."""
    with PostgresServer() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_house(
    server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[House]:
    """Give the one gateway of this module, which has the role and the triggers of deploy/."""
    database = server.create_database()
    for script in ("role.sql", "notify.sql"):
        database.execute((DEPLOY / script).read_text())
    database.execute(f"ALTER ROLE ringback PASSWORD '{PASSWORD}'")
    files = Files(tmp_path_factory.mktemp("database"))
    async with RecordingUpstream() as openai:
        files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
        files.write_keys()
        files.write_settings(
            database={"url": database.url_of("ringback"), "notify": True},
            key_cache={"revocation_s": 1, "unknown_ttl_s": 60, "ttl_s": 60},
        )
        async with Stack(files.options(workers=WORKERS)) as stack:
            gateway = Gateway(stack, files, openai, openai)
            yield House(gateway, server, database)
            for name, text in gateway.logs().items():
                assert find_secrets(text, PASSWORD, TOKEN_SECRET, "sk-database-") == set(), name


@pytest_asyncio.fixture(loop_scope="session")
async def house(shared_house: House) -> AsyncIterator[House]:
    """Give a gateway whose upstream has received nothing, with a database that works."""
    shared_house.gateway.reset()
    yield shared_house
    # Ends what a test has locked.
    shared_house.database.close()
    shared_house.server.start()
    await shared_house.wait_for_listeners()
    probe = shared_house.database.rows.key()
    await shared_house.wait_for(200, probe)


@asynccontextmanager
async def minting(gateway: Gateway, *keys: str) -> AsyncIterator[dict[str, Counter[int]]]:
    """Mint with each of these keys again and again meanwhile; count the statuses."""
    counts: dict[str, Counter[int]] = {key: Counter() for key in keys}

    async def mint(key: str) -> None:
        while True:
            counts[key][(await gateway.mint(key=key)).status] += 1

    tasks = [asyncio.create_task(mint(key)) for key in keys]
    try:
        yield counts
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def check_unavailable(answer: Message) -> None:
    """Check that nobody could tell whether the key is valid."""
    check_refusal(answer, 503, "key_source_unavailable")
    assert answer.header("retry-after") == "1"


async def test_a_key_of_the_database_mints_and_calls(house: House) -> None:
    """A key that only LiteLLM's database knows opens a call, with the smallest of roles."""
    raw = house.database.rows.key("sk-database-web-key", models=["voice"])
    token = await house.gateway.token(key=raw)
    assert (await house.gateway.call(token)).status == 201
    assert len(house.gateway.openai.received) == 2


async def test_an_outage_under_load(house: House) -> None:
    """While the database is down, known keys mint and call and others get 503, never 401."""
    token = await house.key_known_to_all("sk-database-known-key")
    late = house.database.rows.key("sk-database-late-key")
    async with minting(house.gateway, "sk-database-known-key", late[:-1]) as counts:
        await asyncio.sleep(0.5)
        await asyncio.to_thread(house.server.kill)
        await asyncio.sleep(1.5)
        check_unavailable(await house.gateway.mint(key=late))
        check_unavailable(await house.gateway.mint(key="sk-database-nobody-has"))
        assert (await house.gateway.call(token)).status == 201
        await asyncio.to_thread(house.server.start)
        await house.wait_for(200, late)
    assert counts["sk-database-known-key"].keys() == {200}
    # Known to be unknown, or not asked about while the database was down.
    assert counts[late[:-1]].keys() <= {401, 503}


async def test_upstreams_see_nothing_of_whom_nobody_can_check(house: House) -> None:
    """A refusal for want of the database reaches no upstream, and comes quickly."""
    raw = house.database.rows.key("sk-database-unseen-key")
    await asyncio.to_thread(house.server.stop)
    started = time.monotonic()
    for _ in range(10):
        check_unavailable(await house.gateway.mint(key=raw))
    assert time.monotonic() - started < 5
    assert house.gateway.received == []


async def test_a_database_that_hangs_makes_nobody_wait_for_long(house: House) -> None:
    """A locked table is 503 in bounded time for new keys; known ones do not notice."""
    await house.key_known_to_all("sk-database-patient-key")
    house.database.rows.key("sk-database-stuck-key")
    house.database.execute("BEGIN")
    house.database.execute(f'LOCK TABLE "{TOKENS}" IN ACCESS EXCLUSIVE MODE')
    started = time.monotonic()
    answers = await asyncio.gather(
        *(house.gateway.mint(key="sk-database-stuck-key") for _ in range(30)),
        *(house.gateway.mint(key=f"sk-database-random-{n}") for n in range(30)),
    )
    for answer in answers:
        check_unavailable(answer)
    assert time.monotonic() - started < 8
    assert house.gateway.received == []
    assert (await house.gateway.mint(key="sk-database-patient-key")).status == 200
    house.database.execute("ROLLBACK")
    await house.wait_for(200, "sk-database-stuck-key")


@pytest.mark.parametrize("change", ["block", "delete", "team"])
async def test_a_change_holds_at_once(house: House, change: str) -> None:
    """What LiteLLM takes back in its database is refused at once, whatever was remembered."""
    rows, raw = house.database.rows, f"sk-database-{change}-key"
    team = rows.team()
    rows.key(raw, team_id=team)
    await asyncio.sleep(0.5)
    for _ in range(WORKERS * 8):
        assert (await house.gateway.mint(key=raw)).status == 200
    match change:
        case "block":
            rows.update(TOKENS, {"token": hash_of(raw)}, blocked=True)
        case "delete":
            house.database.execute(f'DELETE FROM "{TOKENS}" WHERE token = %s', hash_of(raw))  # noqa: S608
        case _:
            rows.update("LiteLLM_TeamTable", {"team_id": team}, blocked=True)
    await house.wait_for_all(401, raw)
    house.gateway.reset()
    for _ in range(WORKERS * 4):
        assert (await house.gateway.mint(key=raw)).status == 401
    assert house.gateway.received == []


async def test_a_key_that_is_made_after_it_was_asked_for_works_at_once(house: House) -> None:
    """That a key was unknown is forgotten as soon as there is one."""
    raw = "sk-database-early-key"
    for _ in range(WORKERS * 4):
        check_refusal(await house.gateway.mint(key=raw), 401, "key_unknown")
    house.database.rows.key(raw)
    await house.wait_for_all(200, raw)
