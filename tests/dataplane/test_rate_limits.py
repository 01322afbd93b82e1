"""Limits through the real Envoy: two workers that count in one real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest
import pytest_asyncio

from extauthz.keys import Limits, VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.expect import check_refusal
from helpers.gateway import Gateway
from helpers.gatewayfiles import Files, openai_entry
from helpers.http11 import Message
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, minted_reply
from helpers.secretscan import find_secrets
from helpers.valkey import ValkeyProcess
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
    "sk-while-the-store-is-down": Limits(rpm=100),
    "sk-without-a-limit": Limits(),
}
TIMEOUT_S: Final = 0.5


@pytest.fixture(scope="module")
def valkey() -> ValkeyProcess:
    """The store that the workers share; started by `limited`."""
    return ValkeyProcess()


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def limited(
    valkey: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory
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
            files.write_settings(store={"url": valkey.url, "timeout_s": TIMEOUT_S})
            async with Stack(files.options(workers=2)) as stack:
                gateway = Gateway(stack, files, openai, unused)
                yield gateway
                for name, text in gateway.logs().items():
                    assert find_secrets(text, valkey.url) == set(), name


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _fresh(limited: Gateway) -> None:
    """Forget what the upstream received."""
    limited.reset()


def check_wait(answer: Message) -> None:
    """Check that an answer says how long to wait: some seconds of this minute."""
    assert 50 <= int(answer.header("retry-after") or 0) <= 60


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


async def test_one_at_a_time(limited: Gateway) -> None:
    """While a request waits for the provider each worker refuses another one of its key."""
    limited.openai.script[CLIENT_SECRETS] = replace(minted_reply("ek_upstream_that_is_slow"), delay_s=1)
    answers = await asyncio.gather(*(limited.mint(key="sk-one-at-a-time") for _ in range(12)))
    minted = [answer for answer in answers if answer.status == 200]
    assert 1 <= len(minted) <= 2
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


async def test_store_hangs(limited: Gateway, valkey: ValkeyProcess) -> None:
    """A store that hangs costs its timeout and no more."""
    with valkey.paused():
        async with asyncio.timeout(TIMEOUT_S * 4):
            answer = await limited.mint(key="sk-while-the-store-is-down")
        check_refusal(answer, 503, "limits_unavailable")
    assert limited.received == []
    assert (await limited.mint(key="sk-while-the-store-is-down")).status == 200
