import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from callkeeper.calls import Limits, attached, ended, opened
from callkeeper.model import Call, Payer, Tokens
from callkeeper.shared.record import Facts, Progress
from callkeeper.shared.store import CallStore
from helpers.valkey import ValkeyProcess
from ringback.valkey import Valkey

LIMITS = Limits(is_required=True, attach_s=20, unattached_s=10, max_duration_s=600)
KEY = "f" * 64
# So short that one may wait for its end.
LEASE_S = 0.2


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """One server for the tests of this file."""
    with ValkeyProcess() as process:
        yield process


@pytest.fixture
async def valkey(server: ValkeyProcess) -> AsyncIterator[Valkey]:
    """A client of an empty server."""
    found = Valkey(server.settings())
    await found.client.flushall()
    yield found
    await found.close()


def store_of(valkey: Valkey, replica: str) -> CallStore:
    """Return what one replica sees."""
    return CallStore(valkey, replica, LEASE_S, lambda: time.time() - time.monotonic())


def facts(number: int) -> Facts:
    """Return a call."""
    call = Call(
        *(f"{number:032x}", "voice-1", "https://provider.example", f"rtc_{number}", "voice"),
        *(Payer(KEY), "token-1", "request-1", time.time()),
    )
    return Facts(call, f"handle_{number}", "sealed")


def begun() -> Progress:
    """Return how a call is that somebody listens to."""
    return Progress(attached(opened(LIMITS, time.monotonic())), was_attached=True)


async def test_one_replica_takes_a_call_that_nobody_keeps(valkey: Valkey) -> None:
    """Of those who want it one gets it, with all that it has used; who kept it has lost it."""
    one, two, three = (store_of(valkey, name) for name in ("one", "two", "three"))
    call = facts(1)
    assert await one.open(call, begun(), observers=1) == (call.call.id, True)
    assert await two.open(facts(1), begun(), observers=1) == (call.call.id, False)
    await one.add([(call.call.id, "resp_1", Tokens(text_in=3, seconds=0.5), 7)])
    assert await two.adopt(10) == []

    await asyncio.sleep(LEASE_S + 0.05)
    takers = await asyncio.gather(*(store.adopt(10) for store in (two, three) * 5))
    ((shared, over_s),) = [taken for each in takers for taken in each]
    assert shared.facts == call
    assert (shared.state.used, shared.state.cost_microdollars) == (
        Tokens(text_in=3, seconds=0.5),
        7,
    )
    assert shared.usage_ids == {"resp_1"}
    assert 0 <= over_s < 5
    assert (await one.renew([call.call.id]))[call.call.id].standing == "lost"
    # What it says of the call is not written down any more, but for what it has heard.
    await one.save({call.call.id: Progress(ended(begun().state))})
    await one.end({call.call.id: Progress(ended(begun().state))}, 60)
    assert (await one.list_open()).keys() == {call.call.id}


async def test_a_usage_counts_once(valkey: Valkey) -> None:
    """Whoever tells of it, and however often; a call that is not there counts nothing."""
    one, two = store_of(valkey, "one"), store_of(valkey, "two")
    call = facts(1).call.id
    await one.open(facts(1), begun(), observers=2)
    usages = [(call, f"resp_{number}", Tokens(audio_out=number), number) for number in range(250)]
    await asyncio.gather(one.add(usages), two.add(usages[::-1]), one.add(usages[100:]))
    (found, missing) = await one.add([usages[0], ("0" * 32, "resp_1", Tokens(text_in=1), 1)])
    assert found == (Tokens(audio_out=sum(range(250))), sum(range(250)))
    assert missing is None


async def test_a_second_observer_goes_before_all_others(valkey: Valkey) -> None:
    """It listens already. While it is alive nobody else takes the call; then a place is free."""
    one, two, three = (store_of(valkey, name) for name in ("one", "two", "three"))
    call = facts(1).call.id
    await one.open(facts(1), begun(), observers=2)
    assert await one.join(10) == []
    assert [shared.call.id for shared in await two.join(10)] == [call]
    assert await three.join(10) == []
    await asyncio.sleep(LEASE_S + 0.05)
    assert await two.renew_second([call]) == {call: "kept"}
    assert await three.adopt(10) == []
    assert len(await two.adopt(10)) == 1
    assert await two.renew_second([call]) == {call: "lost"}
    assert [shared.call.id for shared in await three.join(10)] == [call]


async def test_a_call_is_found_by_all_its_names_and_leaves_nothing(valkey: Valkey) -> None:
    """Some time after its end no key of it is left, however many calls its key has had."""
    store = store_of(valkey, "one")
    for number in range(3):
        call = facts(number)
        await store.open(call, begun(), ["resp_1"], observers=2)
        for name in (call.call.id, call.handle):
            found = await store.find(name)
            assert found is not None
            assert found.facts == call
        assert call.call.id in await store.list_of(key_hash=KEY)
        assert call.call.id in await store.list_of(token_id="token-1")
        assert await store.want("admin", [call.call.id]) == {call.call.id}
        assert await store.want("admin", [call.call.id]) == set()
        await store.end({call.call.id: Progress(ended(begun().state))}, 1)
        assert await store.want("admin", [call.call.id]) == set()
        found = await store.find(call.handle)
        assert found is not None
        assert found.has_ended
    assert await store.list_open() == {}
    await asyncio.sleep(1.1)
    last = facts(9)
    await store.open(last, begun(), observers=1)
    keys: Any = await valkey.client.keys("*")
    names = {name.decode().removeprefix(store.channel) for name in keys}
    assert {name.split(":")[1] for name in names} == {"leases", "name", "handle", "call", "of"}
    assert len([name for name in names if name.startswith((":call", ":name", ":handle"))]) == 3
    assert await valkey.client.zcard(f"{store.channel}:of:key:{KEY}") == 1


async def test_what_is_no_call_is_passed_over(valkey: Valkey) -> None:
    """Others may write into the store; who reads that goes on with the rest."""
    store = store_of(valkey, "one")
    await store.open(facts(1), begun(), observers=1)
    await valkey.client.hset(f"{store.channel}:call:{facts(1).call.id}", "facts", "{}")
    assert await store.find(facts(1).call.id) is None
    await asyncio.sleep(LEASE_S + 0.05)
    assert await store_of(valkey, "two").adopt(10) == []
