"""Callkeepers that share their calls in Valkey, as processes that are killed, ended and frozen."""

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from callsapi.v1.calls_pb2 import (
    CallState,
    GetRequest,
    HangUpRequest,
    Limits,
    RegisterRequest,
    RegisterResponse,
    RevokeRequest,
    Scope,
    TakeRequest,
)
from helpers.callkeepers import LEASE_S, Keepers, ProvidedCall, keepers, request_of
from helpers.valkey import ValkeyProcess
from helpers.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Of a response with so many tokens of text: 4 dollars for a million that were read.
TOKENS, COST = 1500, 6000


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyProcess]:
    """One server for the tests of this file."""
    with ValkeyProcess() as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pair(
    tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyProcess
) -> AsyncIterator[Keepers]:
    """Two keepers, ``one`` and ``other``."""
    async with keepers(tmp_path_factory.mktemp("pair"), valkey, unattached_s=5) as group:
        await group.start("one", "other")
        yield group


async def state_of(group: Keepers, name: str, call: str) -> CallState:
    """Return what one says about a call."""
    return await group.stub(name).Get(GetRequest(call=call))


async def until_cost(group: Keepers, name: str, call: str, cost: int) -> None:
    """Return once one knows what a call has cost; a store that is new may not know it at first."""
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(aio.AioRpcError):
                if (await state_of(group, name, call)).cost_microdollars == cost:
                    return
            await asyncio.sleep(0.02)


async def until_reason(group: Keepers, name: str, call: str) -> str:
    """Return why a call has ended."""
    async with asyncio.timeout(10):
        while not (reason := (await state_of(group, name, call)).reason):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return reason


async def test_calls_of_a_killed_keeper_are_adopted_and_their_limits_go_on(
    tmp_path: Path, valkey: ValkeyProcess
) -> None:
    """Within the lease another one listens; duration and cost go on from where they were."""
    limits = {"max_duration_s": 6, "max_cost": 1.5 * COST / 1e6}
    # Who adopts calls that are older than that does not know yet how their payers stand.
    standing = {"standing_timeout_s": 1.5, "standing_interval_s": 0.2}
    async with keepers(tmp_path, valkey, **limits, **standing) as group:
        await group.start("one", "other")
        opened = time.monotonic()
        (long, at_long), (talked, at_talked) = await group.open("one"), await group.open("one")
        await at_talked.say(text_in=TOKENS, text_out=0)
        await until_cost(group, "other", talked, COST)

        killed = time.monotonic()
        await group.lose("one")
        await until(lambda: at_long.attaches == at_talked.attaches == 2, LEASE_S + 2)
        assert time.monotonic() - killed < LEASE_S + 1.5
        found = await group.known_to("other")
        assert found.keys() == {long, talked}
        assert found[talked].cost_microdollars == COST

        await at_talked.say(text_in=TOKENS, text_out=0)
        await until(lambda: at_talked.has_ended, 5)
        await until(lambda: at_long.has_ended, 10)
        assert 5.5 < time.monotonic() - opened < 9
        assert await until_reason(group, "other", talked) == "max_cost"
        assert await until_reason(group, "other", long) == "max_duration"


async def test_a_call_is_registered_once_by_all(pair: Keepers) -> None:
    """Who asks another one after the first gets the same id, and nobody listens twice."""
    known, call = await pair.open("one")
    again = await pair.stub("other").Register(request_of(call))
    assert again.id == known
    await asyncio.sleep(0.3)
    assert call.attaches == 1


async def test_many_are_registered_on_one_stream(pair: Keepers) -> None:
    """Each is shared before it is answered, at once with the others."""
    calls = [pair.provider.open() for _ in range(20)]
    stream = pair.stub("one").RegisterMany()
    for number, call in enumerate(calls, 1):
        request = request_of(call)
        request.number = number
        await stream.write(request)
    answers = [
        answer
        for answer in [await stream.read() for _ in calls]
        if isinstance(answer, RegisterResponse) and answer.status == 0
    ]
    assert {answer.number for answer in answers} == set(range(1, 21))
    assert {answer.id for answer in answers} <= (await pair.known_to("other")).keys()
    stream.cancel()


@pytest.mark.parametrize("by", ["id", "handle", "token", "key"])
async def test_any_of_them_finds_and_ends_a_call(pair: Keepers, by: str) -> None:
    """A call is found, listed and ended by whoever is asked, at once."""
    known, call = await pair.open("one", key_hash=by * 16)
    for name in ("one", "other"):
        for asked in (known, call.id):
            assert (await state_of(pair, name, asked)).id == known
        assert known in await pair.known_to(name)
    other = pair.stub("other")
    if by in {"id", "handle"}:
        await other.HangUp(HangUpRequest(call=known if by == "id" else call.id))
    else:
        whose = {"token_id": f"token-of-{call.id}"} if by == "token" else {"key_hash": by * 16}
        assert (await other.Revoke(RevokeRequest(**whose))).calls == 1
        assert (await pair.stub("one").Revoke(RevokeRequest(**whose))).calls == 0
    await until(lambda: call.has_ended, 3)
    for name in ("one", "other"):
        assert await until_reason(pair, name, known) in {"admin", "revoked"}
        await until_gone(pair, name, known)
    with pytest.raises(aio.AioRpcError) as caught:
        await other.HangUp(HangUpRequest(call=known))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def until_gone(group: Keepers, name: str, call: str) -> None:
    """Return once one lists a call no more."""
    async with asyncio.timeout(5):
        while call in await group.known_to(name):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)


async def test_a_call_holds_its_slots_whoever_keeps_it(pair: Keepers) -> None:
    """One takes them, another one adopts the call, and they are free when it ends there."""
    scopes = [Scope(name="key:of-slots", limit=1)]
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    one, other = pair.stub("one"), pair.stub("other")
    assert (await one.Take(TakeRequest(id=first, scopes=scopes))).full == ""
    call, request = pair.provider.open(), RegisterRequest(id=first)
    request.MergeFrom(request_of(call))
    assert (await one.Register(request)).id == first
    await until(lambda: call.sockets)
    starts = pair.starts("one")
    pair.kill("one")
    await until(lambda: call.attaches == 2, LEASE_S + 2)
    assert (await other.Take(TakeRequest(id=second, scopes=scopes))).full == "key:of-slots"
    await other.HangUp(HangUpRequest(call=first))
    async with asyncio.timeout(2):
        while (await other.Take(TakeRequest(id=second, scopes=scopes))).full:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await pair.until_ready("one", times=starts + 1)


async def test_what_is_frozen_loses_its_calls_and_lets_go_of_them(pair: Keepers) -> None:
    """A keeper that hangs for longer than the lease listens to none of its calls afterwards."""
    known, call = await pair.open("one")
    pair.kill("one", signal.SIGSTOP)
    try:
        await until(lambda: call.attaches == 2, LEASE_S + 2)
    finally:
        pair.kill("one", signal.SIGCONT)
    await until(lambda: len(call.sockets) == 1, LEASE_S)
    await call.say(text_in=TOKENS, text_out=0)
    await until_cost(pair, "one", known, COST)
    await until_cost(pair, "other", known, COST)


@pytest.mark.parametrize("how", ["hangs", "is lost"])
async def test_without_the_store_calls_go_on_and_none_begin(
    pair: Keepers, valkey: ValkeyProcess, how: str
) -> None:
    """Who kept calls keeps them; what happened meanwhile the store learns when it is back."""
    known, call = await pair.open("one")
    if how == "hangs":
        with valkey.paused():
            await _without_store(pair, call)
    else:
        valkey.kill()
        await _without_store(pair, call)
        await asyncio.to_thread(valkey.start)
    await until_cost(pair, "other", known, COST)
    free = list(pair.provider.calls.values())[-1]
    await until_cost(pair, "other", free.id, COST)
    assert (call.attaches, free.attaches) == (1, 1)
    # Leases are taken again: who is gone now has its calls adopted.
    await pair.open("other")
    starts = pair.starts("one")
    pair.kill("one")
    await until(lambda: call.attaches == 2, LEASE_S + 2)
    await until_cost(pair, "other", known, COST)
    await pair.until_ready("one", times=starts + 1)


async def _without_store(pair: Keepers, call: ProvidedCall) -> None:
    refused, free = pair.provider.open(), pair.provider.open()
    for name in ("one", "other"):
        with pytest.raises(aio.AioRpcError) as caught:
            await pair.stub(name).Register(request_of(refused), timeout=3)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.attaches == 0
    # One that may go on unsupervised begins, and is shared when that is possible again.
    request = request_of(free)
    request.limits.CopyFrom(Limits(is_required=False))
    await pair.stub("one").Register(request, timeout=3)
    await until(lambda: free.sockets)
    await free.say(text_in=TOKENS, text_out=0)
    await call.say(text_in=TOKENS, text_out=0)
    await until_cost_of(pair, "one", call)
    # Longer than any lease.
    await asyncio.sleep(LEASE_S)
    assert call.attaches == 1


async def until_cost_of(group: Keepers, name: str, call: ProvidedCall) -> None:
    """Return once one, which keeps it, knows what a call has cost."""
    await until_cost(group, name, call.id, COST * len(call.said))


async def test_what_the_store_has_forgotten_a_second_observer_keeps(tmp_path: Path) -> None:
    """If a keeper dies while the store loses all, who listens beside it goes on with the call."""
    with ValkeyProcess() as own:
        async with keepers(tmp_path, own, observers=2) as group:
            await group.start("one", "two")
            known, call = await group.register("one")
            await until(lambda: len(call.sockets) == 2)
            await call.say(text_in=TOKENS, text_out=0)
            await until_cost(group, "two", known, COST)
            own.kill()
            await group.lose("one")
            await asyncio.to_thread(own.start)
            await until(lambda: "call_adopted" in group.log("two"), 2 * LEASE_S)
            await call.say(text_in=TOKENS, text_out=0)
            await until_cost(group, "two", known, 2 * COST)
            await group.stub("two").HangUp(HangUpRequest(call=known))
            await until(lambda: call.has_ended, 2)
            assert call.attaches == 2


async def test_who_leaves_hands_its_calls_over_and_loses_nothing(
    tmp_path: Path, valkey: ValkeyProcess
) -> None:
    """On SIGTERM another one listens before the socket is closed; it takes no call meanwhile."""
    async with keepers(tmp_path, valkey) as group:
        await group.start("one", "other")
        opened = [await group.open("one") for _ in range(10)]
        ending = asyncio.create_task(group.leave("one"))
        began = time.monotonic()
        while not ending.done():
            for _, call in opened:
                await call.say(text_in=TOKENS, text_out=0)
                assert call.sockets
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < 6
        for known, call in opened:
            await until_cost(group, "other", known, COST * len(call.said))
            assert (len(call.sockets), call.attaches) == (1, 2)
        # Nobody stays to take them: both end at once.
        await group.start("third")
        await group.open("third")
        began = time.monotonic()
        await asyncio.gather(group.leave("other"), group.leave("third"))
        assert time.monotonic() - began < 6
        # Whoever starts next takes them.
        await group.start("fourth")
        await until(lambda: all(call.sockets for call in group.provider.calls.values()), LEASE_S)
        assert len(await group.known_to("fourth")) == 11


async def test_of_two_observers_one_may_die(tmp_path: Path, valkey: ValkeyProcess) -> None:
    """What is said while one dies is counted once; a third listens soon, and the limit holds."""
    async with keepers(tmp_path, valkey, observers=2, max_cost=40.5 * COST / 1e6) as group:
        await group.start("one", "two", "three")
        known, call = await group.register("one")
        await until(lambda: len(call.sockets) == 2)
        await call.say(text_in=TOKENS, text_out=0)
        await group.lose("one")
        for _ in range(20):
            await call.say(text_in=TOKENS, text_out=0)
            await asyncio.sleep(0.02)
        for name in ("two", "three"):
            await until_cost(group, name, known, 21 * COST)
        await until(lambda: len(call.sockets) == 2, 2 * LEASE_S + 2)
        while len(call.said) < 40:
            await call.say(text_in=TOKENS, text_out=0)
        await until_cost(group, "two", known, 40 * COST)
        assert not call.has_ended
        await call.say(text_in=TOKENS, text_out=0)
        await until(lambda: call.has_ended, 2)
        assert await until_reason(group, "two", known) == "max_cost"
        await until(lambda: not call.sockets, 5)
