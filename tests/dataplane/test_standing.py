"""Calls end with the rights and the money of those who pay for them: real Envoy, real Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest
import pytest_asyncio

from callsapi.v1.calls_pb2 import CallState
from extauthz.revocations import Revocation, save_revocations
from helpers.gateway import until
from helpers.litellmrows import Rows, hash_of
from helpers.postgres import Database
from helpers.supervised import Supervised, supervised
from helpers.voiceclient import VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

DEPLOY: Final = Path(__file__).parents[2] / "deploy" / "postgres"
# From the change in the database to the end at the provider.
MOST_S: Final = 5.0
TIMEOUT_S: Final = 3.0
# In dollars: enough for a few responses.
SOME: Final = 0.02
# In dollars; the emulator's shortest response costs more.
LITTLE: Final = 0.0001


@pytest.fixture(scope="module")
def revoked_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the file that lists revoked tokens; there are none."""
    path = tmp_path_factory.mktemp("tokens") / "revoked.yaml"
    save_revocations(path, ())
    return path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, shared_database: Database, revoked_file: Path
) -> AsyncIterator[Supervised]:
    """Give a gateway that looks keys up in the database, and writes there what calls cost."""
    async with supervised(
        tmp_path_factory.mktemp("standing"),
        more={
            "database": {"url": shared_database.url},
            "token": {"revoked_file": str(revoked_file)},
        },
        mode="auto",
        sinks=["litellm"],
        standing_timeout_s=TIMEOUT_S,
    ) as gateway:
        yield gateway


@asynccontextmanager
async def talking(
    gateway: Supervised, *keys: str, tokens: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[list[tuple[VoiceClient, CallState]]]:
    """Open a call with each key, or its token, and give them once callkeeper listens to all."""

    async def join(client: VoiceClient, key: str) -> CallState:
        answer = await gateway.call(tokens.get(key, key), await client.offer())
        assert answer.status_code == 201, answer.text
        await client.accept(answer.text)
        await asyncio.wait_for(client.is_connected.wait(), 20)
        await until(lambda: attached(gateway, key) is not None)
        return attached(gateway, key) or CallState()

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(VoiceClient()) for _ in keys]
        calls = await asyncio.gather(*map(join, clients, keys))
        yield list(zip(clients, calls, strict=True))


def attached(gateway: Supervised, key: str) -> CallState | None:
    """Return the call of a key that has only one, once callkeeper listens to it."""
    named = gateway.named("call.attached")
    return next((each.call for each in named if each.call.payer.key_hash == hash_of(key)), None)


async def mint(gateway: Supervised, key: str) -> str:
    """Return a token."""
    answer = await gateway.http.post(
        f"{gateway.stack.url}/v1/realtime/client_secrets",
        headers={"authorization": f"Bearer {key}"},
        json={"model": "gpt-realtime"},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["value"])


async def hangups(gateway: Supervised) -> int:
    """Return how many calls the emulator was told to hang up."""
    return sum(call["ended_because"] == "hangup" for call in await gateway.at_provider())


Change = Callable[[Rows, str], None]


def key_change(**columns: object) -> Change:
    """Return what changes a key."""
    return lambda rows, key: rows.update(
        "LiteLLM_VerificationToken", {"token": hash_of(key)}, **columns
    )


CHANGES: Final[dict[str, Change]] = {
    "key_blocked": key_change(blocked=True),
    "key_expired": key_change(expires=datetime(2026, 1, 1, tzinfo=UTC)),
    "not_allowed": key_change(models=["another"]),
    "team_blocked": lambda rows, _: rows.update(
        "LiteLLM_TeamTable", {"team_id": "blocked-later"}, blocked=True
    ),
    "team_budget": lambda rows, _: rows.update(
        "LiteLLM_TeamTable", {"team_id": "poor-later"}, spend=5.1
    ),
}


async def test_a_call_ends_with_the_rights_of_its_key(
    gateway: Supervised, shared_database: Database, revoked_file: Path
) -> None:
    """What changes in the database ends calls within 5 s; whose payers do not change go on."""
    rows = shared_database.rows
    rows.team(team_id="blocked-later")
    rows.team(team_id="poor-later", max_budget=5, spend=5)
    keys = {name: rows.key() for name in ("key_blocked", "key_expired", "not_allowed")}
    keys["team_blocked"] = rows.key(team_id="blocked-later")
    keys["team_budget"] = rows.key(team_id="poor-later")
    deleted, revoked, untouched = rows.key(), rows.key(), rows.key()
    tokens = {key: await mint(gateway, key) for key in (revoked, untouched)}
    named = (*keys.values(), deleted, revoked, untouched)
    async with talking(gateway, *named, tokens=tokens) as calls:
        before, (*_, (_, last)) = await hangups(gateway), calls
        changed_at = time.time()
        for name, key in keys.items():
            CHANGES[name](rows, key)
        shared_database.execute(
            'DELETE FROM "LiteLLM_VerificationToken" WHERE token = %s', hash_of(deleted)
        )
        (*_, (_, of_token), _) = calls
        revocation = Revocation("token_id", of_token.token_id, int(changed_at))
        save_revocations(revoked_file, [revocation])
        reasons = [*keys, "key_deleted", "revoked"]
        for (_, call), reason in zip(calls, reasons, strict=False):
            ended = await gateway.end_of(call)
            assert ended.call.reason == reason
            assert ended.at - changed_at < MOST_S
        assert await hangups(gateway) == before + len(calls) - 1
        assert not gateway.named("call.ended", last)


async def test_a_call_ends_with_the_money_of_its_payers(
    gateway: Supervised, shared_database: Database
) -> None:
    """A response that uses a budget up is the last one, long before the database says so."""
    rows = shared_database.rows
    rows.team(team_id="poor", max_budget=LITTLE)
    rows.user(user_id="poor", max_budget=LITTLE)
    frugal = rows.key(max_budget=SOME)
    keys = {
        "key_budget": rows.key(max_budget=LITTLE),
        "team_budget": rows.key(team_id="poor"),
        "user_budget": rows.key(user_id="poor"),
        "model_budget": rows.key(model_max_budget={"gpt-realtime": {"budget_limit": LITTLE}}),
        "max_cost": rows.key(metadata={"ringback_max_call_cost": LITTLE}),
    }
    async with talking(gateway, *keys.values(), frugal) as ((*calls, last)):

        async def spend(client: VoiceClient, call: CallState, reason: str) -> float:
            client.send({"type": "response.create"})
            await client.wait_for("response.done")
            done_at = time.time()
            ended = await gateway.end_of(call)
            assert (ended.call.reason, ended.call.cost_microdollars > 100) == (reason, True)
            return ended.at - done_at

        before = await hangups(gateway)
        named = zip(calls, keys, strict=True)
        took = await asyncio.gather(
            *(spend(*call, reason) for call, reason in named), spend_on(gateway, *last)
        )
        assert max(took[:-1]) < MOST_S
        assert await hangups(gateway) == before + len(keys) + 1


async def spend_on(gateway: Supervised, client: VoiceClient, call: CallState) -> float:
    """Ask for responses until the call has ended; check that this was neither early nor late.

    Meanwhile the database shows the first responses: nothing counts twice.
    """
    while not gateway.named("call.ended", call):
        if not client.is_closed.is_set():
            client.send({"type": "response.create"})
        await asyncio.sleep(1)
    costs = [event.call.cost_microdollars for event in gateway.named("call.usage", call)]
    assert len(costs) > 1
    assert costs[-2] < SOME * 1e6 <= costs[-1]
    assert gateway.named("call.ended", call)[0].call.reason == "key_budget"
    return 0.0


async def test_calls_outlast_a_short_outage_of_extauthz(
    gateway: Supervised, shared_database: Database
) -> None:
    """When nobody can tell for too long, only calls go on that have no limit and no budget."""
    limited, free = shared_database.rows.key(max_budget=5), shared_database.rows.key()
    child = gateway.stack.supervisor._running["extauthz-0"].child
    async with talking(gateway, limited, free) as calls:
        before, ((_, first), (_, second)) = await hangups(gateway), calls
        stopped_at = time.time()
        await gateway.stack.supervisor.stop(["extauthz-0"])
        ended = await gateway.end_of(first)
        assert ended.call.reason == "unknown_standing"
        # The last answer came within the interval before; to stop takes its time.
        assert TIMEOUT_S - 1.5 < ended.at - stopped_at < TIMEOUT_S + 6
        assert await hangups(gateway) == before + 1
        assert not gateway.named("call.ended", second)
        await gateway.stack.supervisor.start(child)
    async with asyncio.timeout(10):
        readyz = f"{gateway.stack.url}/readyz"
        while not (await gateway.http.get(readyz)).is_success:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.1)
    assert '"event": "standing_unknown"' in gateway.stack.logs("callkeeper-0")


async def test_only_calls_with_a_budget_need_callkeeper(
    gateway: Supervised, shared_database: Database
) -> None:
    """While it is down, a key with one is refused and its call hung up, and another key calls."""
    limited, free = shared_database.rows.key(max_budget=5), shared_database.rows.key()
    before = await hangups(gateway)
    async with (
        gateway.without_callkeeper("is down"),
        VoiceClient() as first,
        VoiceClient() as second,
    ):
        refused = await gateway.call(limited, await first.offer())
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "supervision_unavailable"
        assert (await gateway.last_at_provider(state="ended"))["ended_because"] == "hangup"
        answer = await gateway.call(free, await second.offer())
        assert answer.status_code == 201
        await second.accept(answer.text)
        await asyncio.wait_for(second.is_connected.wait(), 20)
        assert await hangups(gateway) == before + 1


async def test_a_call_ends_as_soon_as_the_database_tells(
    tmp_path: Path, database: Database
) -> None:
    """With NOTIFY it does not matter for how long what is known of a key may be used."""
    database.execute((DEPLOY / "notify.sql").read_text())
    key = database.rows.key()
    more = {"database": {"url": database.url, "notify": True}, "key_cache": {"ttl_s": 60}}
    async with (
        supervised(tmp_path, more=more, mode="auto", standing_max_age_s=60) as gateway,
        talking(gateway, key) as [(client, call)],
    ):
        # Within a few rounds of questions nobody has changed anything.
        await asyncio.sleep(2)
        assert gateway.named("call.ended", call) == []
        changed_at = time.time()
        CHANGES["key_blocked"](database.rows, key)
        ended = await gateway.end_of(call)
        assert ended.call.reason == "key_blocked"
        assert ended.at - changed_at < MOST_S
        await asyncio.wait_for(client.is_closed.wait(), 5)
