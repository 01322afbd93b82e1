import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callsapi.v1.calls_pb2 import RegisterRequest
from callsapi.v1.calls_pb2_grpc import CallsStub
from helpers.callcounting import call_counting
from helpers.keptservice import REGISTER, running
from ringback.grpcpeers import Peers
from sdpfilter.registrations import NotRegisteredError, Registrations

TIMEOUT_S = 0.5


@asynccontextmanager
async def asking(addresses: Sequence[str], lasts_s: float = 10) -> AsyncIterator[Registrations]:
    """Ask workers at addresses."""
    workers = Peers(addresses, CallsStub)
    workers.start()
    registrations = Registrations(workers, TIMEOUT_S, lasts_s)
    yield registrations
    await registrations.stop()
    await workers.stop()


def call(number: int = 0) -> RegisterRequest:
    """Return what is told of a call."""
    request = RegisterRequest(upstream_call_id=f"rtc_{number}", handle=f"rtc_handle_{number}")
    known = RegisterRequest()
    known.CopyFrom(REGISTER)
    known.MergeFrom(request)
    return known


@pytest.mark.parametrize("lasts_s", [10, 0.02], ids=["one-stream", "streams-that-are-replaced"])
async def test_every_call_is_kept_once(tmp_path: Path, lasts_s: float) -> None:
    """However many come at once, and while streams are replaced."""
    async with (
        call_counting(tmp_path) as calls,
        asking([calls.address], lasts_s) as registrations,
    ):
        for first in range(0, 200, 20):
            await asyncio.gather(
                *(registrations.add(call(number)) for number in range(first, first + 20))
            )
            await asyncio.sleep(0.01)
        kept = {each.call.upstream_call_id for each in calls.keeper}
        assert kept == {f"rtc_{number}" for number in range(200)}


async def test_a_worker_that_was_restarted_is_found(tmp_path: Path) -> None:
    """While it is down that is said at once; a stream that broke is not."""
    async with asking([f"unix:{tmp_path}/callkeeper"]) as registrations:
        for number in range(2):
            async with call_counting(tmp_path) as calls:
                # The connection may have to be made again first.
                async with asyncio.timeout(5):
                    while True:
                        try:
                            await registrations.add(call(number))
                        except NotRegisteredError:
                            await asyncio.sleep(0.05)
                        else:
                            break
                assert len(list(calls.keeper)) == 1
            with pytest.raises(NotRegisteredError) as caught:
                await registrations.add(call(number))
            assert caught.value.why == "unavailable"


async def test_the_next_worker_is_asked_if_one_is_down(tmp_path: Path) -> None:
    """Whichever comes first."""
    async with (
        call_counting(tmp_path) as calls,
        asking([f"unix:{tmp_path}/nowhere", calls.address]) as registrations,
    ):
        for number in range(4):
            await registrations.add(call(number))
        assert len(list(calls.keeper)) == 4


async def test_what_is_refused_costs_no_other_call(tmp_path: Path) -> None:
    """A call that cannot be kept, or for which there is no room, is told apart."""
    is_full = False
    async with running(tmp_path, is_full=lambda: is_full) as service:
        async with asking([f"unix:{tmp_path}/callkeeper"]) as registrations:
            wrong = RegisterRequest(handle="rtc_handle")
            refused, *others = await asyncio.gather(
                registrations.add(wrong),
                *(registrations.add(call(number)) for number in range(5)),
                return_exceptions=True,
            )
            assert str(refused) == "callkeeper does not keep the call: invalid_argument"
            assert others == [None] * 5
            is_full = True
            with pytest.raises(NotRegisteredError, match="resource_exhausted"):
                await registrations.add(call(5))
        await service.event("call.started", count=5)
        assert len(service.named("call.started")) == 5


async def test_a_worker_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    """No longer than for any answer; and whoever comes next does not meet the same stream."""
    async with (
        call_counting(tmp_path, late_s=1.2) as calls,
        asking([calls.address]) as registrations,
    ):
        began = time.monotonic()
        for number in range(2):
            with pytest.raises(NotRegisteredError, match="deadline_exceeded"):
                await registrations.add(call(number))
        assert time.monotonic() - began < 2 * TIMEOUT_S + 0.5


async def test_a_worker_that_ends_ends_its_streams(tmp_path: Path) -> None:
    """It does not wait for those who might register something, and takes nothing on any more."""
    async with (
        call_counting(tmp_path) as calls,
        asking([calls.address]) as registrations,
    ):
        await registrations.add(call(0))
        await calls.service.drain()
        with pytest.raises(NotRegisteredError, match="unavailable"):
            await registrations.add(call(1))
        began = time.monotonic()
        await calls.server.stop(10)
        assert time.monotonic() - began < 2
        assert len(list(calls.keeper)) == 1
