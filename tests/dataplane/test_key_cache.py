import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from extauthz.keys import hash_key
from helpers.expect import check_refusal
from helpers.gateway import Gateway, until
from helpers.gatewayfiles import KEY, TOKEN_SECRET, Files, openai_entry
from helpers.http11 import Message
from helpers.litellmstandin import ADMIN_KEY, LiteLLMStandIn
from helpers.recording import RecordingUpstream
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
from helpers.waiting import SOON_S
from ringback.cli.stack import Stack
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

WORKERS = 2
CROWD = 200
FORGET = "ringback:keys:forget"
REVOCATION_S = 1.0
# Enough for 200 requests at once on a busy machine: their one lookup shares the event loop.
TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that asks a LiteLLM proxy for keys."""

    gateway: Gateway
    litellm: LiteLLMStandIn
    valkey: ValkeyProcess


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Give the one gateway of this module."""
    files = Files(tmp_path_factory.mktemp("litellm"))
    with ValkeyProcess() as valkey:
        async with RecordingUpstream() as openai, LiteLLMStandIn() as litellm:
            files.write_config([openai_entry("voice", f"{openai.url()}/v1")])
            files.write_keys()
            files.write_settings(
                litellm={"url": litellm.url, "admin_key": ADMIN_KEY, "timeout_s": TIMEOUT_S},
                key_cache={"revocation_s": REVOCATION_S, "unknown_ttl_s": 60},
                store={"url": valkey.url},
                # A crowd is let in whole.
                overload={"max_mints": CROWD},
            )
            async with Stack(files.options(workers=WORKERS)) as stack:
                gateway = Gateway(stack, files, openai, openai)
                yield House(gateway, litellm, valkey)
                for name, text in gateway.logs().items():
                    assert find_secrets(text, ADMIN_KEY, TOKEN_SECRET, "sk-litellm-") == set(), name


@pytest_asyncio.fixture(loop_scope="session")
async def house(shared_house: House) -> AsyncIterator[House]:
    """Give a gateway whose upstream has received nothing, before a proxy that works."""
    shared_house.gateway.openai.reset()
    shared_house.litellm.asked.clear()
    yield shared_house
    shared_house.litellm.delay_s = 0
    if not shared_house.litellm.is_running:
        await shared_house.litellm.start()


async def test_a_litellm_key_mints_and_calls(house: House) -> None:
    """A key that only LiteLLM knows opens a call; LiteLLM is asked through Envoy, by its hash."""
    key_hash = house.litellm.add("sk-litellm-web-key")
    token = await house.gateway.token(key="sk-litellm-web-key")
    assert (await house.gateway.call(token)).status == 201
    assert len(house.gateway.openai.received) == 2
    assert {asked.query["key"] for asked in house.litellm.asked} == {key_hash}
    cluster = f"upstream_http_127_0_0_1_{house.litellm.port}"
    await until(lambda: cluster in str(house.gateway.access_log("egress_http")))


async def test_the_key_file_comes_first(house: House) -> None:
    """A key of the key file costs LiteLLM nothing."""
    assert (await house.gateway.mint(key=KEY)).status == 200
    assert house.litellm.asked == []


async def test_many_requests_of_one_key_cost_one_lookup_for_each_worker(house: House) -> None:
    """200 at once, of a key that nobody has asked for: each worker asks once."""
    house.litellm.add("sk-litellm-crowd-key")
    house.litellm.delay_s = 0.3
    answers = await asyncio.gather(
        *(house.gateway.mint(key="sk-litellm-crowd-key") for _ in range(CROWD))
    )
    assert {answer.status for answer in answers} == {200}
    assert 1 <= house.litellm.lookups <= WORKERS
    assert len(house.gateway.openai.received) == CROWD


async def test_an_unknown_key_costs_one_lookup_for_each_worker(house: House) -> None:
    """Keys that nobody knows are refused with 401, and remembered; upstream sees nothing."""
    for number in range(5):
        for _ in range(6):
            answer = await house.gateway.mint(key=f"sk-litellm-random-{number}")
            check_refusal(answer, 401, "key_unknown")
    assert 5 <= house.litellm.lookups <= 5 * WORKERS
    assert house.gateway.openai.received == []


async def known_to_all(house: House, raw: str) -> str:
    """Make a key that every worker remembers, and return a token of it."""
    house.litellm.add(raw)
    async with asyncio.timeout(10):
        while house.litellm.lookups < WORKERS:
            token = await house.gateway.token(key=raw)
    house.gateway.openai.reset()
    return token


async def test_known_keys_outlast_an_outage_and_others_wait(house: House) -> None:
    """LiteLLM is down: a key that is remembered mints and calls, any other gets 503, never 401."""
    token = await known_to_all(house, "sk-litellm-known-key")
    house.litellm.add("sk-litellm-late-key")
    await house.litellm.stop()
    await asyncio.sleep(REVOCATION_S)
    refused = await house.gateway.mint(key="sk-litellm-late-key")
    check_unavailable(refused)
    assert house.gateway.openai.received == []
    assert (await house.gateway.mint(key="sk-litellm-known-key")).status == 200
    assert (await house.gateway.call(token)).status == 201
    await house.litellm.start()
    assert (await house.gateway.mint(key="sk-litellm-late-key")).status == 200


async def test_a_slow_proxy_delays_nobody_for_long(house: House) -> None:
    """LiteLLM does not answer in time: 503 at the deadline, and upstream sees nothing."""
    house.litellm.add("sk-litellm-slow-key")
    house.litellm.delay_s = 30
    started = time.monotonic()
    check_unavailable(await house.gateway.mint(key="sk-litellm-slow-key"))
    assert TIMEOUT_S * 0.9 < time.monotonic() - started < TIMEOUT_S + 4
    assert house.gateway.openai.received == []


@pytest.mark.parametrize("change", ["block", "delete", "block-team"])
async def test_tokens_end_with_their_key(house: House, change: str) -> None:
    """What LiteLLM takes back ends tokens within the revocation time; upstream sees no call."""
    raw = f"sk-litellm-{change}-key"
    house.litellm.teams["t"] = {}
    key_hash = house.litellm.add(raw, team_id="t")
    token = await house.gateway.token(key=raw)
    assert (await house.gateway.call(token)).status == 201
    match change:
        case "block":
            house.litellm.keys[key_hash]["blocked"] = True
        case "delete":
            del house.litellm.keys[key_hash]
        case _:
            house.litellm.teams["t"]["blocked"] = True
    await asyncio.sleep(REVOCATION_S)
    house.gateway.openai.reset()
    check_refusal(await house.gateway.call(token), 401, "token_invalid")
    assert house.gateway.openai.received == []


async def test_whoever_blocks_a_key_may_say_so(house: House) -> None:
    """A word on Valkey's channel ends a key and its tokens at every worker, long before the TTL."""
    raw, client = "sk-litellm-told-key", house.valkey.client()
    await until(lambda: client.pubsub_numsub(FORGET)[0][1] == WORKERS)
    token = await known_to_all(house, raw)
    key_hash = hash_key(Secret(raw))
    house.litellm.keys[key_hash]["blocked"] = True
    client.publish(FORGET, key_hash)
    client.close()
    async with asyncio.timeout(SOON_S):
        while {(await house.gateway.mint(key=raw)).status for _ in range(WORKERS * 4)} != {401}:
            pass
    house.gateway.reset()
    for _ in range(WORKERS * 2):
        check_refusal(await house.gateway.mint(key=raw), 401, "key_blocked")
        check_refusal(await house.gateway.call(token), 401, "token_invalid")
    assert house.gateway.received == []


def check_unavailable(answer: Message) -> None:
    """Check that an answer says to try again."""
    check_refusal(answer, 503, "key_source_unavailable")
    assert answer.header("retry-after") == "1"
