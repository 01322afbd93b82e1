import asyncio
from pathlib import Path

from callkeeper.slots import Scope
from callsapi.v1.calls_pb2_grpc import CallsStub
from helpers.authz import Clock
from helpers.callcounting import call_counting
from helpers.waiting import until
from ringback.grpcpeers import Peers
from ringback.settings.supervision import SLOT_LEASE_S
from ringback.slotreturns import SlotReturns

ONE, OTHER = "1" * 32, "2" * 32
SCOPE = Scope("key:1", 5)


def peers(folder: Path) -> Peers[CallsStub]:
    """Return callkeeper as it is asked, whether it runs or not."""
    found = Peers([f"unix:{folder}/callkeeper"], CallsStub)
    found.start()
    return found


async def test_slots_are_given_back_when_callkeeper_is_there_again(tmp_path: Path) -> None:
    """Tried again until it answers, all of them in turn."""
    callkeeper = peers(tmp_path)
    returns = SlotReturns(callkeeper, 0.5)
    for slot in (ONE, OTHER):
        returns.add(slot)
    await asyncio.sleep(0.3)
    assert len(returns._waiting) == 2
    async with call_counting(tmp_path) as calls:
        for slot in (ONE, OTHER):
            await calls.slots.take(slot, [SCOPE])
        await until(lambda: calls.taken(SCOPE.name) == 0)
        await until(lambda: not returns._waiting)
        # What is added later is given back at once.
        await calls.slots.take(ONE, [SCOPE])
        returns.add(ONE)
        await until(lambda: calls.taken(SCOPE.name) == 0)
        await returns.stop()
        await callkeeper.stop()


async def test_slots_that_are_free_by_themselves_are_not_given_back(tmp_path: Path) -> None:
    """After their lease nobody is asked any more, and nothing is left behind."""
    callkeeper, clock = peers(tmp_path), Clock()
    returns = SlotReturns(callkeeper, 0.5, clock)
    returns.add(ONE)
    clock.now += SLOT_LEASE_S
    await until(lambda: not returns._waiting)
    await returns.stop()
    await callkeeper.stop()


async def test_the_end_of_a_process_gives_back_what_it_can(tmp_path: Path) -> None:
    """What waits is tried once more; while nobody answers that is all."""
    callkeeper = peers(tmp_path)
    returns = SlotReturns(callkeeper, 0.5)
    returns.add(ONE)
    await returns.stop()
    assert returns._waiting
    async with call_counting(tmp_path) as calls:
        await calls.slots.take(ONE, [SCOPE])
        async with asyncio.timeout(5):
            while returns._waiting:
                await returns.stop()
        assert calls.taken(SCOPE.name) == 0
        await callkeeper.stop()
