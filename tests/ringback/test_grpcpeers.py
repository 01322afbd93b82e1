import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import aio

from callsapi.v1.calls_pb2 import ReachRequest
from callsapi.v1.calls_pb2_grpc import UpstreamsStub, add_UpstreamsServicer_to_server
from helpers.sidebandprovider import ReachTeller
from ringback.grpcpeers import Peers

REQUEST = ReachRequest(handle="rtc_handle")


@asynccontextmanager
async def worker(address: str) -> AsyncIterator[ReachTeller]:
    """Run a worker at an address."""
    server, teller = aio.server(), ReachTeller()
    add_UpstreamsServicer_to_server(teller, server)
    server.add_insecure_port(address)
    await server.start()
    yield teller
    await server.stop(None)


@asynccontextmanager
async def peers_at(*addresses: str) -> AsyncIterator[Peers[UpstreamsStub]]:
    """Give a client of workers."""
    peers = Peers(addresses, UpstreamsStub)
    peers.start()
    yield peers
    await peers.stop()


async def test_workers_are_asked_in_turn_and_one_that_is_down_is_passed_over(
    tmp_path: Path,
) -> None:
    """Each request is answered; a worker that comes back is asked again soon."""
    one, other = f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"
    async with peers_at(one, other) as peers, worker(one) as first:
        for _ in range(4):
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert first.asked == 4
        async with worker(other) as second:
            async with asyncio.timeout(10):
                while not second.asked:
                    await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
                    await asyncio.sleep(0.05)


async def test_nobody_to_ask_is_an_error(tmp_path: Path) -> None:
    """UNAVAILABLE, and at once."""
    async with peers_at(f"unix:{tmp_path}/one", f"unix:{tmp_path}/other") as peers:
        with pytest.raises(aio.AioRpcError) as caught:
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_a_worker_refuses_no_other_is_asked(tmp_path: Path) -> None:
    """An error that is about the request is the answer."""
    one, other = f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"
    async with peers_at(one, other) as peers, worker(one) as first, worker(other) as second:
        first.refuses = second.refuses = grpc.StatusCode.NOT_FOUND
        with pytest.raises(aio.AioRpcError) as caught:
            await peers.ask(lambda stub: stub.Reach, REQUEST, 5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert first.asked + second.asked == 1


async def test_all_workers_are_asked_at_once(tmp_path: Path) -> None:
    """Each answers or says why not, in the order of the addresses."""
    one, other, gone = (f"unix:{tmp_path}/{name}" for name in ("one", "other", "gone"))
    async with peers_at(one, gone, other) as peers, worker(one), worker(other) as second:
        second.refuses = grpc.StatusCode.NOT_FOUND
        answers = await peers.ask_all(lambda stub: stub.Reach, REQUEST, 5)
    codes = [
        answer.code() if isinstance(answer, aio.AioRpcError) else grpc.StatusCode.OK
        for answer in answers
    ]
    assert codes == [
        grpc.StatusCode.OK,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND,
    ]
