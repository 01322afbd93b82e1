import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from callkeeper.model import Tokens, Usage
from callkeeper.pricelists import open_price_book
from callkeeper.prices import PricedDeployment
from helpers.charges import spent
from helpers.expect import check_refusal
from helpers.gateway import OFFER, SDP_TYPE, Caller, CallerAt, bearer, until
from helpers.gatewayfiles import Files, openai_entry
from helpers.http11 import Message
from helpers.litellmrows import hash_of
from helpers.load import flood
from helpers.meteredprovider import MeteredProvider, metered_provider
from helpers.postgres import Database, PostgresServer
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="function")]

CALLS: Final = 200
AT_ONCE: Final = 20
SETTLED_S: Final = 3.0
_BOOK = open_price_book()
_DEPLOYMENT = PricedDeployment("openai", "gpt-realtime")


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A Postgres that the test kills."""
    with PostgresServer() as server:
        yield server


@asynccontextmanager
async def gateway_of(
    folder: Path, provider: MeteredProvider, database: Database
) -> AsyncIterator[Stack]:
    """Run a gateway whose keys and whose spend are in a database."""
    files = Files(folder)
    files.write_config([openai_entry("voice", f"{provider.url}/v1")])
    files.write_keys()
    files.write_settings(
        database={"url": database.url},
        supervision={
            "mode": "required",
            "sinks": ["litellm"],
            "spool_folder": str(folder / "spool"),
        },
    )
    async with Stack(files.options()) as stack:
        yield stack


def port_of(stack: Stack) -> int:
    """Return where downstreams connect."""
    return int(stack.url.rpartition(":")[2])


def insert_keys(database: Database) -> list[str]:
    """Insert two keys of one user, of which one is of a team, and a third key of nobody."""
    rows = database.rows
    rows.team(team_id="team", members_with_roles=[{"user_id": "user", "role": "user"}])
    rows.insert("LiteLLM_UserTable", user_id="user")
    return [rows.key(team_id="team", user_id="user"), rows.key(user_id="user"), rows.key()]


async def call_often(caller: Caller, keys: list[str]) -> None:
    """Open many calls, with each key in turn; one that is refused is tried again."""
    numbers = iter(range(CALLS))

    async def call() -> Message:
        headers = [bearer(keys[next(numbers) % len(keys)]), SDP_TYPE]
        while True:
            answer = await caller.post("/v1/realtime/calls?model=voice", headers, OFFER)
            await asyncio.sleep(0.3)
            if answer.status == 201:
                return answer
            check_refusal(answer, 503)

    await flood(call, CALLS, at_once=AT_ONCE)


def costs(used: Mapping[str, Tokens]) -> dict[str, int]:
    """Return what responses cost, in micro-dollars."""
    return {
        name: _BOOK.cost(Usage(name, "response", "", tokens, 0), _DEPLOYMENT).microdollars
        for name, tokens in used.items()
    }


def logged(database: Database) -> dict[str, tuple[str, int]]:
    """Return who pays for each response, and what, by LiteLLM's log."""
    rows = database.execute('SELECT request_id, api_key, spend FROM "LiteLLM_SpendLogs"')
    return {name: (key, round(dollars * 1_000_000)) for name, key, dollars in rows}


def check_books(database: Database, keys: list[str]) -> None:
    """Check that spend of keys, team and user is the sum of the log, to the micro-dollar."""
    sums: Counter[str] = Counter()
    for key, cost in logged(database).values():
        sums[key] += cost
    hashes = [hash_of(key) for key in keys]
    assert sums.keys() <= set(hashes)
    assert spent(database, "LiteLLM_VerificationToken", "token") == +sums
    assert spent(database, "LiteLLM_TeamTable", "team_id") == {"team": sums[hashes[0]]}
    of_user = sums[hashes[0]] + sums[hashes[1]]
    assert spent(database, "LiteLLM_UserTable", "user_id") == {"user": of_user}


async def test_spend_of_calls_is_what_they_used(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    """After 200 short calls, during which Postgres was killed, LiteLLM's tables say what was used.

    To the micro-dollar, for key, team and user; nothing is lost, nothing counts twice.
    """
    database = own_postgres.create_database()
    keys = insert_keys(database)
    async with (
        metered_provider() as provider,
        gateway_of(tmp_path, provider, database) as stack,
    ):
        calling = asyncio.create_task(call_often(CallerAt(port_of(stack)), keys))
        await until(lambda: provider.offers > CALLS / 3)
        await asyncio.to_thread(own_postgres.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_postgres.start)
        await calling
        await until(lambda: len(provider.ended) == provider.offers)
        used = {name: tokens for each in provider.used.values() for name, tokens in each.items()}
        assert len(used) == provider.offers * provider.turns
        await until(lambda: len(logged(database)) == len(used))
    assert {name: cost for name, (_, cost) in logged(database).items()} == costs(used)
    check_books(database, keys)


async def test_spend_is_never_more_than_was_used(tmp_path: Path, database: Database) -> None:
    """Callkeeper is killed again and again: what it heard before is written, and nothing twice."""
    keys = insert_keys(database)
    async with (
        metered_provider(turns=5, pause_s=0.2) as provider,
        gateway_of(tmp_path, provider, database) as stack,
    ):
        calling = asyncio.create_task(call_often(CallerAt(port_of(stack)), keys))
        for share in (0.2, 0.4, 0.7):
            await until(lambda share=share: provider.offers > CALLS * share)  # type: ignore[misc]
            os.kill(stack.pid_of("callkeeper-0"), signal.SIGKILL)
        await calling
        # Calls that nobody listens to any more go on for as long as they like.
        await asyncio.sleep(SETTLED_S)
    used = {name: tokens for each in provider.used.values() for name, tokens in each.items()}
    written = {name: cost for name, (_, cost) in logged(database).items()}
    assert written.items() <= costs(used).items()
    check_books(database, keys)
    # What was heard more than a moment before a death is there.
    heard = sum(1 for count in provider.heard.values() if count)
    assert len(written) > heard * 0.8
