"""How many calls may be open, through the real Envoy and two workers of extauthz."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio

from extauthz.keys import Limits, VirtualKey
from helpers.gateway import OFFER
from helpers.supervised import CALLS, Supervised, supervised
from helpers.valkey import ValkeyProcess
from helpers.voiceclient import VoiceClient
from helpers.waiting import SOON_S

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

ATTACH_S: Final = 3.0
# More than all other tests have open at theirs.
AT_A_DEPLOYMENT: Final = 20
# One for each test: calls of one may outlast it.
KEYS: Final = {
    "sk-two-by-themselves": VirtualKey("", "two", max_open_calls=2),
    "sk-two-of-a-team": VirtualKey("", "team-1", team="pair"),
    "sk-two-of-the-same-team": VirtualKey("", "team-2", team="pair"),
    "sk-one-at-a-time": VirtualKey("", "parallel", limits=Limits(parallel=1)),
    "sk-that-never-connects": VirtualKey("", "absent", max_open_calls=1),
    "sk-that-hangs-up": VirtualKey("", "hasty", max_open_calls=1),
    "sk-of-restless-callers": VirtualKey("", "restless", max_open_calls=5),
    "sk-that-races": VirtualKey("", "racing", max_open_calls=1),
    "sk-across-a-crash": VirtualKey("", "crashing", max_open_calls=1),
    "sk-without-callkeeper": VirtualKey("", "alone", max_open_calls=1),
    "sk-without-a-limit": VirtualKey("", "free", max_open_calls=1000),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervised]:
    """Give a gateway that counts open calls in callkeeper's memory."""
    async with supervised(
        tmp_path_factory.mktemp("counted"),
        keys=KEYS,
        workers=2,
        mode="required",
        attach_s=ATTACH_S,
        max_open_calls={"team": 2, "deployment": AT_A_DEPLOYMENT},
    ) as gateway:
        yield gateway


async def mint(gateway: Supervised, key: str) -> str:
    """Return a token."""
    answer = await gateway.http.post(
        f"{gateway.stack.url}/v1/realtime/client_secrets",
        headers={"authorization": f"Bearer {key}"},
        json={"session": {"type": "realtime", "model": "gpt-realtime"}},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["value"])


async def check_full(gateway: Supervised, credential: str, whose: str = "This API key") -> None:
    """Check that one more call is refused, and that the provider hears nothing of it."""
    before = await gateway.asked_provider()
    answer = await gateway.call(credential, OFFER)
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("too_many_open_calls", "throttling_error")
    assert error["message"].startswith(f"{whose} is limited to ")
    assert answer.headers["retry-after"] == "5"
    assert await gateway.asked_provider() == before


async def until_free(gateway: Supervised, credential: str, within_s: float) -> httpx.Response:
    """Call until a slot is free, and return the answer."""
    deadline = time.monotonic() + within_s
    while (answer := await gateway.call(credential, OFFER)).status_code == 429:
        assert time.monotonic() < deadline, "no slot has become free"
        await asyncio.sleep(0.1)
    return answer


async def hang_up(gateway: Supervised, key: str, answer: httpx.Response) -> httpx.Response:
    """Hang up a call."""
    return await gateway.http.post(
        f"{gateway.stack.url}{answer.headers['location']}/hangup",
        headers={"authorization": f"Bearer {key}"},
    )


async def until_states(gateway: Supervised, key: str, states: set[str]) -> None:
    """Return once all calls of a key are in certain states, whoever of callkeeper keeps them."""
    async with asyncio.timeout(SOON_S):
        while not await states_of(gateway, key) <= states:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.1)


async def states_of(gateway: Supervised, key: str) -> set[str]:
    """Return the states in which calls of a key are."""
    answer = await gateway.http.get(
        f"{gateway.stack.url}{CALLS}", headers={"authorization": f"Bearer {key}"}
    )
    return {call["state"] for call in answer.raise_for_status().json()["data"]}


async def until_counted(gateway: Supervised, credential: str, *statuses: int) -> None:
    """Call until callkeeper is there to count it, and check what the answer is then.

    A slot whose call could not be registered is given back a moment later.
    """
    waiting = {503, 429} - {*statuses}
    async with asyncio.timeout(20):
        while (answer := await gateway.call(credential, OFFER)).status_code in waiting:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.1)
    assert answer.status_code in statuses, answer.text


async def test_as_many_calls_as_may_be_are_open_at_once(gateway: Supervised) -> None:
    """One more is 429, with the key and with a token, which stays good; an end frees a slot."""
    key = "sk-two-by-themselves"
    token = await mint(gateway, key)
    async with VoiceClient() as first:
        for client in (first, second := VoiceClient()):
            answer = await gateway.call(key, await client.offer())
            call = await gateway.joined(client, answer.text)
        await check_full(gateway, key)
        await check_full(gateway, token)
        await second.close()
        await gateway.end_of(call)
        assert (await until_free(gateway, token, SOON_S)).status_code == 201
        await check_full(gateway, key)


async def test_a_team_shares_what_it_may(gateway: Supervised) -> None:
    """Calls of one of its keys count for the others."""
    for _ in range(2):
        assert (await gateway.call("sk-two-of-a-team", OFFER)).status_code == 201
    await check_full(gateway, "sk-two-of-the-same-team", "The team of this API key")


async def test_what_is_not_opened_leaves_no_slot_taken(gateway: Supervised) -> None:
    """Neither an offer that is refused here or by the provider, nor a caller that leaves."""
    key = "sk-one-at-a-time"
    assert (await gateway.call(key, b"no offer")).status_code == 400
    faults = f"{gateway.stack.emulator_url}/emulator/faults"
    fault = {"calls": {"status": 503, "times": 1}}
    (await gateway.http.post(faults, json=fault)).raise_for_status()
    assert (await until_free(gateway, key, SOON_S)).status_code == 502
    (await gateway.http.post(faults, json={"calls": {"delay_s": 5, "times": 1}})).raise_for_status()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await until_free(gateway, key, 2)
    (await gateway.http.delete(faults)).raise_for_status()
    assert (await until_free(gateway, key, SOON_S)).status_code == 201
    await check_full(gateway, key)


async def test_a_browser_that_never_connects_holds_its_slot_for_a_moment(
    gateway: Supervised,
) -> None:
    """Until its call is hung up because nobody can listen to it."""
    key = "sk-that-never-connects"
    assert (await gateway.call(key, OFFER)).status_code == 201
    await check_full(gateway, key)
    assert (await until_free(gateway, key, ATTACH_S + 3)).status_code == 201


async def test_who_hangs_up_may_call_again(gateway: Supervised) -> None:
    """At once, also when the browser has not connected yet and nobody listens to the call."""
    key = "sk-that-hangs-up"
    answer = await gateway.call(key, OFFER)
    assert (await hang_up(gateway, key, answer)).status_code == 200
    assert (await until_free(gateway, key, SOON_S)).status_code == 201


async def test_the_last_slot_is_for_one(gateway: Supervised) -> None:
    """Of 50 who race for it exactly one is called, here and at the provider."""
    before = await gateway.asked_provider()
    answers = await asyncio.gather(*(gateway.call("sk-that-races", OFFER) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [201, *[429] * 49]
    asked = await gateway.asked_provider()
    assert {name: asked[name] - before[name] for name in asked} == {"client_secrets": 1, "calls": 1}


async def test_whatever_becomes_of_calls_their_slots_come_back(gateway: Supervised) -> None:
    """Many callers send no offers, are refused and hang up: all slots are free afterwards."""
    key, slots = "sk-of-restless-callers", 5

    async def call(number: int) -> None:
        answer = await gateway.call(key, b"no offer" if number % 3 else OFFER)
        assert answer.status_code in {201, 400, 429}
        if answer.status_code == 201:
            await hang_up(gateway, key, answer)

    for _ in range(3):
        await asyncio.gather(*(call(number) for number in range(30)))
    answers: list[int] = []
    async with asyncio.timeout(ATTACH_S):
        while answers.count(201) < slots:
            answers.append((await gateway.call(key, OFFER)).status_code)
    await check_full(gateway, key)


async def test_a_deployment_takes_as_many_as_it_may(gateway: Supervised) -> None:
    """Whosesoever they are; those at another one do not count."""
    key = "sk-without-a-limit"
    answers = await asyncio.gather(
        *(gateway.call(key, OFFER, "azure-realtime") for _ in range(AT_A_DEPLOYMENT))
    )
    assert {answer.status_code for answer in answers} == {201}
    before = (await gateway.asked_provider())["calls"]
    answer = await gateway.call(key, OFFER, "azure-realtime")
    assert answer.status_code == 429
    assert answer.json()["error"]["message"].startswith("The deployment of this model is limited")
    assert (await gateway.asked_provider())["calls"] == before


async def test_a_crash_of_callkeeper_leaves_no_slot_taken(gateway: Supervised) -> None:
    """What it counted in memory ends with it, and the next call is counted anew."""
    key = "sk-across-a-crash"
    assert (await gateway.call(key, OFFER)).status_code == 201
    await check_full(gateway, key)
    os.kill(gateway.stack.pid_of("callkeeper-0"), signal.SIGKILL)
    await until_counted(gateway, key, 201)
    # Each worker of extauthz finds the new one in its time.
    await until_counted(gateway, key, 429)


@pytest.mark.parametrize("how", ["hangs", "is down"])
async def test_without_callkeeper_no_limited_call_begins(gateway: Supervised, how: str) -> None:
    """Nobody can tell how many are open: 503, and the provider hears nothing."""
    key = "sk-without-callkeeper"
    before = await gateway.asked_provider()
    async with gateway.without_callkeeper(how):
        began = time.monotonic()
        answer = await gateway.call(key, OFFER)
        assert time.monotonic() - began < 2
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "supervision_unavailable"
    assert answer.headers["retry-after"] == "1"
    assert await gateway.asked_provider() == before


async def test_slots_in_a_store(tmp_path: Path) -> None:
    """Workers of callkeeper count together, across a crash of one; no store, no limited call."""
    key = "sk-one-in-all"
    with ValkeyProcess() as valkey:
        async with supervised(
            tmp_path,
            keys={key: VirtualKey("", "one", max_open_calls=1)},
            workers=2,
            more={"store": {"url": valkey.url}},
            mode="required",
            store="valkey",
            lease_s=1,
        ) as gateway:
            async with VoiceClient() as client:
                answer = await gateway.call(key, await client.offer())
                await client.accept(answer.text)
                await until_states(gateway, key, {"attached"})
                await check_full(gateway, key)
                # Until others know that somebody has joined, its end would be waited for.
                await asyncio.sleep(0.2)
                os.kill(gateway.stack.pid_of("callkeeper-0"), signal.SIGKILL)
                await check_full(gateway, key)
            async with asyncio.timeout(20):
                while not (won := await race(gateway, key)):  # noqa: ASYNC110  nothing tells
                    await asyncio.sleep(0.2)
            assert won == 1
            valkey.kill()
            before = await gateway.asked_provider()
            answer = await gateway.call(key, OFFER)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "supervision_unavailable"
            assert await gateway.asked_provider() == before
            await asyncio.to_thread(valkey.start)
            # It comes back empty: who keeps the call may have taken its slot again by now.
            await until_counted(gateway, key, 201, 429)


async def race(gateway: Supervised, key: str) -> int:
    """Return how many of many calls that come at once are answered."""
    answers = await asyncio.gather(*(gateway.call(key, OFFER) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 429}
    return sum(answer.status_code == 201 for answer in answers)
