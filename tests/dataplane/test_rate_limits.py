"""Limits through the real Envoy: two workers that count in one real Valkey.

Limits are those of a key file and of LiteLLM's real tables.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
import pytest_asyncio

from extauthz.keys import Limits, VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import Gateway, bearer, until
from helpers.gatewayfiles import Files, openai_entry
from helpers.http11 import Message
from helpers.load import Load
from helpers.postgres import Database, PostgresServer
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, minted_reply
from helpers.rulecases import (
    Build,
    budget_key,
    key,
    member_key,
    organization_key,
    project_key,
    team_key,
    user_key,
)
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.waiting import SOON_S
from helpers.wsclient import shake_hands
from ringback.cli.stack import Stack
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# One for each test, since a window outlasts them all.
LIMITS: Final = {
    "sk-mints-five-a-minute": Limits(rpm=5),
    "sk-mints-and-calls-two": Limits(rpm=2),
    "sk-denied-models-first": Limits(rpm=1),
    "sk-one-at-a-time": Limits(parallel=1),
    "sk-none-at-all": Limits(parallel=0),
    "sk-tokens-that-are-gone": Limits(rpm=1),
    "sk-websocket-by-key": Limits(rpm=1),
    "sk-websocket-by-token": Limits(rpm=2),
    "sk-under-load": Limits(rpm=30),
    "sk-while-the-store-is-down": Limits(rpm=100),
    "sk-without-a-limit": Limits(),
}
TIMEOUT_S: Final = 3.0
WORKERS: Final = 2
ONE: Final = {"rpm_limit": 1}
MODEL_LIMIT: Final = {"metadata": {"model_rpm_limit": {"voice": 1}}}
# Of the tables: a key that may ask once, and whose limit the refusal names.
TABLES: Final[dict[str, tuple[Build, str]]] = {
    "key": (key(**ONE), "This API key is limited to 1 per minute, counting requests for all"),
    "budget-of-the-key": (budget_key(ONE), "This API key is"),
    "model-of-the-key": (key(**MODEL_LIMIT), "This API key is limited to 1 per minute, counting"),
    "team": (team_key(ONE), "The team of this API key is"),
    "model-of-the-team": (team_key(MODEL_LIMIT), "The team of this API key is"),
    "member": (member_key(ONE), "The user of this API key, as a member of its team, is"),
    "user": (user_key(ONE), "The user of this API key is"),
    "organization": (organization_key(ONE, 0, by_team=False), "The organization of this API key"),
    "organization-of-the-team": (organization_key(ONE, 0, by_team=True), "The organization of"),
    "project": (project_key(ONE), "The project of this API key is"),
    "lowest": (team_key(ONE, rpm_limit=50), "The team of this API key is"),
}


@pytest.fixture(scope="module")
def valkey() -> ValkeyProcess:
    """The store that the workers share; started by `limited`."""
    return ValkeyProcess()


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Database:
    """LiteLLM's database."""
    return postgres.create_database()


@pytest.fixture(scope="module")
def table_keys(database: Database) -> dict[str, str]:
    """The keys of `TABLES`, by name."""
    return {name: build(database.rows) for name, (build, _) in TABLES.items()}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def limited(
    valkey: ValkeyProcess, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """A gateway with two workers and keys with limits."""
    files = Files(tmp_path_factory.mktemp("limited"))
    with valkey:
        async with RecordingUpstream() as openai, RecordingUpstream() as unused:
            files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
            save_keys(
                files.keys,
                [
                    VirtualKey(
                        hash_key(Secret(raw)), alias=raw[3:], models=("voice",), limits=limits
                    )
                    for raw, limits in LIMITS.items()
                ],
            )
            files.write_settings(
                store={"url": valkey.url, "timeout_s": TIMEOUT_S}, database={"url": database.url}
            )
            async with Stack(files.options(workers=WORKERS)) as stack:
                gateway = Gateway(stack, files, openai, unused)
                yield gateway
                for name, text in gateway.logs().items():
                    assert find_secrets(text, valkey.url) == set(), name


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _fresh(limited: Gateway) -> None:
    """Forget what the upstream received."""
    limited.reset()


def count_logged(limited: Gateway, event: str) -> int:
    """Return how often the workers have logged an event by now."""
    return "".join(limited.logs().values()).count(f'"{event}"')


def check_wait(answer: Message) -> None:
    """Check that an answer says how long to wait: some seconds of this minute."""
    assert 30 <= int(answer.header("retry-after") or 0) <= 60


async def test_workers_share_a_limit(limited: Gateway) -> None:
    """However requests spread over the workers, as many mint as the limit says."""
    answers = await asyncio.gather(*(limited.mint(key="sk-mints-five-a-minute") for _ in range(20)))
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) == 15
    for answer in refused:
        check_refusal(answer, 429, "rate_limited")
        check_wait(answer)
        assert answer.error["type"] == "throttling_error"
    assert len(limited.received) == 5


async def test_calls_count_too(limited: Gateway) -> None:
    """A mint and a call are two requests; the third, a call, never leaves."""
    token = await limited.token(key="sk-mints-and-calls-two")
    assert (await limited.call(token)).status == 201
    limited.reset()
    answer = await limited.call(token)
    check_refusal(answer, 429, "rate_limited")
    check_wait(answer)
    check_refusal(await limited.mint(key="sk-mints-and-calls-two"), 429, "rate_limited")
    assert limited.received == []


async def test_refused_requests_are_not_counted(limited: Gateway) -> None:
    """What another rule refuses takes nothing from the limit."""
    for _ in range(3):
        answer = await limited.mint("other", key="sk-denied-models-first")
        check_refusal(answer, 403, "model_denied")
    assert (await limited.mint(key="sk-denied-models-first")).status == 200
    # The model is looked at before the limit.
    answer = await limited.mint("other", key="sk-denied-models-first")
    check_refusal(answer, 403, "model_denied")
    assert len(limited.received) == 1


async def test_tokens_without_a_deployment_are_not_counted(limited: Gateway) -> None:
    """A token whose deployment is gone takes nothing from the limit of its key."""
    raw = "sk-tokens-that-are-gone"
    token = limited.seal(key_hash=hash_key(Secret(raw)), deployment="gone")
    for _ in range(3):
        check_refusal(await limited.call(token), 401)
    assert limited.received == []
    assert (await limited.mint(key=raw)).status == 200


@pytest.mark.parametrize("name", TABLES)
async def test_limits_of_litellm(limited: Gateway, table_keys: dict[str, str], name: str) -> None:
    """Whoever has the limit in LiteLLM's tables, the second request is too much at both ends."""
    token = await limited.token(key=table_keys[name])
    limited.reset()
    for answer in (await limited.mint(key=table_keys[name]), await limited.call(token)):
        check_refusal(answer, 429, "rate_limited")
        check_wait(answer)
        assert answer.error["message"].startswith(TABLES[name][1])
    assert limited.received == []


async def test_websockets_count_too(limited: Gateway) -> None:
    """A WebSocket is a request of its key, and of its token's key."""
    target = "/v1/realtime?model=voice"
    token = await limited.token(key="sk-websocket-by-token")
    for credential in ("sk-websocket-by-key", token):
        headers = [("origin", ORIGIN), bearer(credential)]
        limited.reset()
        assert (await shake_hands(limited, target, *headers)).status == 101
        assert len(limited.received) == 1
        answer = await shake_hands(limited, target, *headers)
        check_refusal(answer, 429, "rate_limited")
        assert len(limited.received) == 1


async def test_one_at_a_time(limited: Gateway) -> None:
    """While a request waits for the provider each worker refuses another one of its key."""
    release = asyncio.Event()
    limited.openai.script[CLIENT_SECRETS] = replace(
        minted_reply("ek_upstream_that_is_slow"), held=release
    )
    mints = [asyncio.create_task(limited.mint(key="sk-one-at-a-time")) for _ in range(12)]
    try:
        # However slowly they come, all but one of each worker end while those wait.
        await until(lambda: sum(mint.done() for mint in mints) >= len(mints) - WORKERS)
    finally:
        release.set()
    answers = await asyncio.gather(*mints)
    minted = [answer for answer in answers if answer.status == 200]
    assert 1 <= len(minted) <= WORKERS
    assert len(limited.received) == len(minted)
    for answer in answers:
        if answer not in minted:
            check_refusal(answer, 429, "too_many_at_once")
            assert answer.header("retry-after") == "1"
    limited.reset()
    assert (await limited.mint(key="sk-one-at-a-time")).status == 200


async def test_none_at_all(limited: Gateway) -> None:
    """A key with no requests at once is refused at both endpoints."""
    check_refusal(await limited.mint(key="sk-none-at-all"), 429, "too_many_at_once")
    token = limited.seal(key_hash=hash_key(Secret("sk-none-at-all")))
    check_refusal(await limited.call(token), 429, "too_many_at_once")
    assert limited.received == []


async def test_store_down_and_back(limited: Gateway, valkey: ValkeyProcess) -> None:
    """While the store is down only keys without limits are served; then all are again."""
    key = "sk-while-the-store-is-down"
    token = await limited.token(key=key)
    limited.reset()
    before = count_logged(limited, "store_down"), count_logged(limited, "store_up")
    valkey.kill()
    check_refusal(await limited.mint(key=key), 503, "limits_unavailable")
    answer = await limited.call(token)
    check_refusal(answer, 503, "limits_unavailable")
    assert answer.header("retry-after") == "1"
    assert limited.received == []
    free = await limited.token(key="sk-without-a-limit")
    assert (await limited.call(free)).status == 201
    await asyncio.to_thread(valkey.start)
    assert (await limited.call(token)).status == 201
    assert 1 <= count_logged(limited, "store_down") - before[0] <= WORKERS
    # Only a worker that has noticed says so, and the next call may go to the other one.
    async with asyncio.timeout(SOON_S):
        while count_logged(limited, "store_up") == before[1]:
            assert (await limited.call(token)).status == 201
            await asyncio.sleep(0.1)


async def test_store_hangs(limited: Gateway, valkey: ValkeyProcess) -> None:
    """A store that hangs costs its timeout and no more."""
    with valkey.paused():
        async with asyncio.timeout(TIMEOUT_S + 4):
            answer = await limited.mint(key="sk-while-the-store-is-down")
        check_refusal(answer, 503, "limits_unavailable")
    assert limited.received == []
    assert (await limited.mint(key="sk-while-the-store-is-down")).status == 200


async def test_store_killed_under_load(limited: Gateway, valkey: ValkeyProcess) -> None:
    """While the store dies and comes back, every answer is readable and no limit is passed over.

    A store that comes back is empty, so a minute may have twice as many requests then.
    """
    async with Load(lambda: limited.mint(key="sk-under-load")) as load:
        await load.more(20)
        await valkey.restart()
        await load.more(100)
    assert load.failures == []
    assert load.statuses.keys() <= {200, 429, 503}
    assert load.statuses[200] <= 60
    assert len(limited.received) == load.statuses[200]
    for answer in load.answers:
        if answer.status != 200:
            check_refusal(answer, answer.status)
    assert (await limited.mint(key="sk-under-load")).status in {200, 429}
