import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from extauthz.cooldownkeeper import CooldownKeeper
from extauthz.routing.cooldown import Cooldowns
from helpers.valkey import ValkeyProcess
from ringback.valkey import Valkey


@pytest.fixture(scope="module")
def shared() -> Iterator[ValkeyProcess]:
    """One server for all tests of this file, which leave it running."""
    with ValkeyProcess() as process:
        yield process


class Worker:
    """What one worker knows of cooldowns."""

    def __init__(self, valkey: Valkey | None) -> None:
        self.cooldowns = Cooldowns(time.monotonic)
        self.keeper = CooldownKeeper(self.cooldowns, valkey, poll_s=0.02)

    async def learns(self, name: str, *, within_s: float = 5) -> float:
        """Wait until a deployment is left alone, and return for how long it still is."""
        async with asyncio.timeout(within_s):
            while not self.cooldowns.left_s(name):  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.01)
        return self.cooldowns.left_s(name)


@asynccontextmanager
async def working(store: ValkeyProcess) -> AsyncIterator[Worker]:
    """Run a worker with a client of its own."""
    valkey = Valkey(store.settings(timeout_s=2))
    worker = Worker(valkey)
    worker.keeper.start()
    yield worker
    await worker.keeper.stop()
    await valkey.close()


def counted(name: str, **labels: str) -> float | None:
    """Return the value of a metric."""
    return REGISTRY.get_sample_value(name, labels)


async def test_workers_learn_from_each_other(shared: ValkeyProcess) -> None:
    """What one worker leaves alone the other does too, as long and for the same reason."""
    async with working(shared) as one, working(shared) as other:
        one.keeper.tell("shared", 300, "rate_limited")
        assert 270 < await other.learns("shared") <= 300
        assert other.cooldowns.kind("shared") == "rate_limited"
        assert other.cooldowns.left_s("another") == 0


async def test_a_late_worker_learns_what_is_left(shared: ValkeyProcess) -> None:
    """A worker that starts later leaves a deployment alone for the rest of the time."""
    async with working(shared) as one:
        one.keeper.tell("short", 0.1, "failed")
        one.keeper.tell("long", 200, "failed")
        await one.learns("long")
        await asyncio.sleep(0.15)
    async with working(shared) as late:
        assert 170 < await late.learns("long") < 200
        assert late.cooldowns.left_s("short") == 0


async def test_a_shorter_cooldown_shortens_nothing(shared: ValkeyProcess) -> None:
    """The longest of the cooldowns that workers tell of holds."""
    async with working(shared) as one, working(shared) as other:
        one.keeper.tell("both", 300, "failed")
        await other.learns("both")
        other.keeper.tell("both", 5, "failed")
        await asyncio.sleep(0.1)
    async with working(shared) as late:
        assert await late.learns("both") > 250


async def test_without_the_store_each_goes_by_itself(shared: ValkeyProcess) -> None:
    """While the store is away nothing fails and nobody waits; afterwards it is shared again."""
    async with working(shared) as one, working(shared) as other:
        shared.kill()
        one.keeper.tell("alone", 30, "failed")
        one.cooldowns.impose("alone", 30, "failed")
        await asyncio.sleep(0.3)
        assert other.cooldowns.left_s("alone") == 0
        await asyncio.to_thread(shared.start)
        one.keeper.tell("again", 30, "failed")
        await other.learns("again")


async def test_what_nobody_wrote_is_passed_over(shared: ValkeyProcess) -> None:
    """Members that no worker of this version would write change nothing."""
    async with working(shared) as one:
        with shared.client() as client:
            name = "ringback:cooldowns"
            at = (time.time() + 30) * 1000
            client.zadd(name, {"odd d": at, "failed": at, b"\xff \xff": at, "failed good": at})
        await one.learns("good")
        assert one.cooldowns.left_s("d") == 0


async def test_cooldowns_are_counted() -> None:
    """Metrics say how often a deployment began to cool, and whether it does now."""
    worker = Worker(None)
    worker.keeper.start()
    worker.cooldowns.impose("counted", 30, "refused")
    worker.keeper.tell("counted", 30, "refused")
    labels = {"deployment": "counted", "reason": "refused"}
    assert counted("ringback_deployment_cooldowns_total", **labels) == 1
    assert counted("ringback_deployment_cooled", deployment="counted") == 1
    worker.cooldowns._cooled.clear()
    assert counted("ringback_deployment_cooled", deployment="counted") == 0
    await worker.keeper.stop()
