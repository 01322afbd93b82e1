import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from callkeeper.slots import MemorySlots, Scope, Slots
from callkeeper.valkeyslots import ValkeySlots
from helpers.authz import Clock
from helpers.gateway import until
from helpers.valkey import ValkeyProcess
from ringback.settings.supervision import SLOT_LEASE_S
from ringback.valkey import StoreUnavailableError, Valkey

KEY, TEAM = Scope("key:1", 2), Scope("team:web", 3)
SHORT_S = 0.6


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyProcess]:
    """One server for all tests of this file, which leave it running."""
    with ValkeyProcess() as process:
        yield process


@pytest_asyncio.fixture
async def valkey(server: ValkeyProcess) -> AsyncIterator[Valkey]:
    """A client of a running, empty server."""
    client = Valkey(server.settings(timeout_s=5))
    await client.client.flushall()
    yield client
    await client.close()


@pytest.fixture(params=["memory", "valkey"])
def slots(request: pytest.FixtureRequest, valkey: Valkey) -> Slots:
    """Each place where calls are counted."""
    return MemorySlots() if request.param == "memory" else ValkeySlots(valkey)


@asynccontextmanager
async def worker(valkey: Valkey) -> AsyncIterator[ValkeySlots]:
    """Run what counts for one worker, with short leases."""
    slots = ValkeySlots(valkey, lease_s=SHORT_S)
    slots.start()
    try:
        yield slots
    finally:
        await slots.stop()


async def is_taken(slots: Slots, call: str, *scopes: Scope) -> bool:
    """Tell whether a call gets its slots."""
    return await slots.take(call, scopes) is None


async def test_as_many_calls_as_may_be_open(slots: Slots) -> None:
    """Then no further one gets a slot, until one of them has ended; others are not concerned."""
    assert await slots.take("a", [KEY]) is None
    assert await slots.take("b", [KEY]) is None
    assert await slots.take("c", [KEY]) == KEY
    assert await slots.take("c", [TEAM]) is None
    slots.keep("a")
    slots.release("a")
    await slots.stop()
    assert await slots.take("c", [KEY]) is None
    assert await slots.take("d", [KEY]) == KEY


async def test_nothing_is_taken_when_one_scope_is_full(slots: Slots) -> None:
    """The first one that is full is told, and none of the others has lost a slot."""
    for call in ("a", "b"):
        assert await is_taken(slots, call, KEY)
    for call in ("c", "d", "e", "f"):
        assert await slots.take(call, [TEAM, KEY]) == KEY
    for call in ("c", "d", "e"):
        assert await is_taken(slots, call, TEAM)
    assert await slots.take("f", [KEY, TEAM]) == KEY
    assert await slots.take("f", [TEAM, KEY]) == TEAM


async def test_a_call_takes_each_slot_once(slots: Slots) -> None:
    """Who asks again holds one slot, even where all are taken; it may take more, and frees all."""
    one = Scope("key:1", 1)
    for _ in range(3):
        assert await is_taken(slots, "a", one)
    assert await is_taken(slots, "a", TEAM)
    assert not await is_taken(slots, "b", one)
    slots.release("a")
    await slots.stop()
    assert await is_taken(slots, "b", one)
    for call in ("c", "d", "e"):
        assert await is_taken(slots, call, TEAM)


async def test_none_may_be_open(slots: Slots) -> None:
    """A limit of zero refuses always."""
    assert not await is_taken(slots, "a", Scope("key:1", 0))


async def test_the_last_slot_is_taken_once(slots: Slots) -> None:
    """Of many who race for it one wins."""
    one = Scope("key:1", 1)
    taken = await asyncio.gather(*(is_taken(slots, f"call-{n}", one) for n in range(50)))
    assert sum(taken) == 1


async def test_calls_that_are_not_known_have_nothing_to_release(slots: Slots) -> None:
    """Nothing happens."""
    slots.release("a")
    slots.keep("b")
    slots.release("b")
    await slots.stop()
    assert await is_taken(slots, "a", KEY)


async def test_what_is_never_registered_is_free_again() -> None:
    """After the lease; what is registered stays, and of neither anything is left behind."""
    clock = Clock()
    slots = MemorySlots(clock)
    assert await is_taken(slots, "a", KEY, TEAM)
    clock.now += 1
    assert await is_taken(slots, "b", KEY)
    slots.keep("b")
    clock.now += SLOT_LEASE_S - 1
    assert await is_taken(slots, "c", KEY)
    assert not await is_taken(slots, "d", KEY)
    clock.now += 10 * SLOT_LEASE_S
    assert await is_taken(slots, "d", TEAM)
    assert len(slots) == 2
    slots.release("b")
    slots.release("d")
    assert (len(slots), slots._calls, slots._leases) == (0, {}, {})


async def test_what_is_taken_later_prolongs_the_lease_of_a_call_and_shortens_none() -> None:
    """A call that is registered has no lease, whatever it takes then."""
    clock = Clock()
    slots = MemorySlots(clock)
    assert await is_taken(slots, "a", KEY)
    clock.now += SLOT_LEASE_S - 1
    assert await is_taken(slots, "a", TEAM)
    clock.now += SLOT_LEASE_S - 1
    assert await is_taken(slots, "b", KEY)
    assert not await is_taken(slots, "c", KEY)
    slots.keep("a")
    assert await is_taken(slots, "a", TEAM)
    clock.now += SLOT_LEASE_S
    assert await is_taken(slots, "c", KEY)
    assert not await is_taken(slots, "d", KEY)


CALLS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), CALLS, st.lists(st.sampled_from([KEY, TEAM]), max_size=2)),
        st.tuples(st.sampled_from(["keep", "release"]), CALLS),
        st.tuples(st.just("wait"), st.sampled_from([1, SLOT_LEASE_S / 2, SLOT_LEASE_S])),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_no_scope_has_more_calls_than_it_may(steps: list[tuple[Any, ...]]) -> None:
    """Who holds a slot is who has taken it, and not let it go or lost its lease."""
    asyncio.run(_check_steps(steps))


async def _check_steps(steps: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    slots = MemorySlots(clock)
    # Who holds what, and until when; None while the call is kept.
    held: dict[str, tuple[set[Scope], float | None]] = {}
    for name, *arguments in steps:
        if name == "wait":
            clock.now += arguments[0]
        elif name == "keep":
            slots.keep(call := arguments[0])
            held |= {call: (held[call][0], None)} if call in held else {}
        elif name == "release":
            slots.release(arguments[0])
            held.pop(arguments[0], None)
        if name == "take":
            # Only now leases that are over are forgotten: a call that is registered late, and whose
            # slot nobody wanted meanwhile, has kept it.
            held = {of: (has, end) for of, (has, end) in held.items() if (end or 2e9) > clock.now}
            call, scopes = arguments
            has, end = held.get(call, (set(), 0.0))
            full = [s for s in scopes if s not in has and _count(held, s) >= s.limit]
            assert await slots.take(call, scopes) == (full[0] if full else None)
            if scopes and not full:
                held[call] = has | {*scopes}, None if end is None else clock.now + SLOT_LEASE_S
    for call in held:
        slots.release(call)
    clock.now += SLOT_LEASE_S
    await slots.take("g", [])
    assert (slots._calls, slots._scopes) == ({}, {})


def _count(held: dict[str, tuple[set[Scope], float | None]], scope: Scope) -> int:
    return sum(scope in has for has, _ in held.values())


async def test_workers_count_together(valkey: Valkey) -> None:
    """One takes the slots, another one keeps them beyond the lease, and a third one frees them."""
    one = Scope("key:1", 1)
    async with worker(valkey) as first, worker(valkey) as second:
        assert await is_taken(first, "a", one, TEAM)
        second.keep("a")
        await asyncio.sleep(2 * SHORT_S)
        assert not await is_taken(first, "b", one)
        first.release("a")
        second.release("a")
        await second.stop()
        await first.stop()
        assert await is_taken(first, "b", one)
    assert set(await valkey.client.keys()) == {
        b"ringback:{slots}:in:key:1",
        b"ringback:{slots}:of:b",
    }


async def test_the_slots_of_a_worker_that_dies_are_free_again(valkey: Valkey) -> None:
    """When their leases end, those of calls that it kept and those that it had just taken."""
    two = Scope("key:1", 2)
    async with worker(valkey) as dying, worker(valkey) as other:
        assert await is_taken(dying, "a", two)
        assert await is_taken(dying, "b", two)
        dying.keep("a")
        await asyncio.sleep(SHORT_S / 2)
        await dying.stop()
        assert not await is_taken(other, "c", two)
        await asyncio.sleep(SHORT_S * 1.2)
        assert await is_taken(other, "c", two)
        assert await is_taken(other, "d", two)
        await asyncio.sleep(SHORT_S * 1.2)
        assert await valkey.client.keys() == []


async def test_calls_that_are_open_hold_their_slots_when_the_store_has_lost_them(
    valkey: Valkey,
) -> None:
    """They take them again; what is released stays released."""
    one = Scope("key:1", 1)
    async with worker(valkey) as slots:
        assert await is_taken(slots, "a", one)
        slots.keep("a")
        await until(lambda: bool(slots._kept["a"]))
        await valkey.client.flushall()
        await asyncio.sleep(SHORT_S / 2)
        assert not await is_taken(slots, "b", one)
        slots.release("a")
        await asyncio.sleep(SHORT_S / 2)
        assert await is_taken(slots, "b", one)


async def test_nobody_can_tell() -> None:
    """While the store is away no slot is taken, and calls that are kept are kept."""
    one = Scope("key:1", 1)
    with ValkeyProcess() as server:
        valkey = Valkey(server.settings())
        async with worker(valkey) as slots:
            assert await is_taken(slots, "a", one)
            slots.keep("a")
            await until(lambda: bool(slots._kept["a"]))
            server.kill()
            with pytest.raises(StoreUnavailableError):
                await slots.take("b", [one])
            slots.release("c")
            await asyncio.sleep(SHORT_S)
            await asyncio.to_thread(server.start)
            await asyncio.sleep(SHORT_S / 2)
            assert not await is_taken(slots, "b", one)
        await valkey.close()
