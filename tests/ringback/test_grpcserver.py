import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ringback import grpcserver
from ringback.grpcserver import BindError, serve
from ringback.settings import ServiceSettings

NAME = "test.Waiting"
Status = health_pb2.HealthCheckResponse


class Waiting:
    """A service whose every step waits for the test."""

    names: tuple[str, ...] = (NAME,)

    def __init__(self) -> None:
        self.events: list[str] = []
        self.may_start = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_drain = asyncio.Event()
        self.asked = asyncio.Event()
        self.draining = asyncio.Event()

    def register(self, server: aio.Server) -> None:
        """Serve one method, which answers with what it was asked."""
        method: Any = grpc.unary_unary_rpc_method_handler(self._wait)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(NAME, {"Wait": method})]
        )

    async def start(self) -> None:
        """Wait, as for a configuration."""
        await self.may_start.wait()
        self.events.append("started")

    async def drain(self) -> None:
        """Wait, as for streams that end."""
        self.draining.set()
        await self.may_drain.wait()
        self.events.append("drained")

    async def stop(self) -> None:
        """Come last."""
        self.events.append("stopped")

    async def _wait(self, request: bytes, _context: object) -> bytes:
        self.asked.set()
        await self.may_answer.wait()
        self.events.append("answered")
        return request


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address that is free."""
    return f"unix:{tmp_path}/s.sock" if request.param == "unix" else free_address()


def free_address() -> str:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def running(service: Waiting, address: str) -> AsyncIterator[asyncio.Task[None]]:
    """Serve until the test is over, whether or not it has stopped the server."""
    task = asyncio.create_task(serve(service, address))
    try:
        await until_connected(address, task)
        yield task
    finally:
        if not task.done():
            for event in (service.may_start, service.may_answer, service.may_drain):
                event.set()
            await until(lambda: asks(address, Status.SERVING, Status.NOT_SERVING))
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait([task])


async def until_connected(address: str, task: asyncio.Task[None]) -> None:
    """Wait until the server accepts connections; from then on it takes signals."""
    while not task.done():
        try:
            if address.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
            else:
                host, _, port = address.partition(":")
                _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    await task


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not await is_true():  # noqa: ASYNC110  what is asked is another server
            await asyncio.sleep(0.01)


async def health(address: str, name: str = "") -> Any:
    """Ask for the health of a service."""
    async with aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        return answer.status


async def asks(address: str, *statuses: Any) -> bool:
    """Tell whether the health is one of several."""
    return await health(address) in statuses


def ask(channel: aio.Channel) -> Any:
    """Call the method that waits."""
    method: Any = channel.unary_unary(f"/{NAME}/Wait")
    return method(b"hello")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_lives_from_start_to_signal(address: str, number: signal.Signals) -> None:
    """Healthy between start and signal; a request in flight ends before anything is released."""
    service = Waiting()
    async with running(service, address) as task, aio.insecure_channel(address) as channel:
        for name in ("", NAME):
            assert await health(address, name) == Status.NOT_SERVING
        service.may_start.set()
        await until(lambda: asks(address, Status.SERVING))
        assert await health(address, NAME) == Status.SERVING

        request = ask(channel)
        await service.asked.wait()
        os.kill(os.getpid(), number)
        await service.draining.wait()
        for name in ("", NAME):
            assert await health(address, name) == Status.NOT_SERVING
        service.may_drain.set()
        await until(lambda: refuses(address))
        assert not task.done()
        service.may_answer.set()

        assert await request == b"hello"
        await task
    assert service.events == ["started", "drained", "answered", "stopped"]


async def refuses(address: str) -> bool:
    """Tell whether new requests are refused."""
    try:
        await health(address)
    except aio.AioRpcError as error:
        return error.code() is StatusCode.UNAVAILABLE
    return False


async def test_a_request_does_not_outlive_the_grace(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """What hangs is cut off, so that a stop ends."""
    monkeypatch.setattr(grpcserver, "GRACE_S", 0.1)
    service = Waiting()
    service.may_start.set()
    service.may_drain.set()
    async with running(service, address) as task, aio.insecure_channel(address) as channel:
        request = ask(channel)
        await service.asked.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
        assert await request.code() in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    assert service.events == ["started", "drained", "stopped"]


async def test_a_long_queue_is_cut_off(address: str) -> None:
    """While the process is busy so many requests wait; further ones are refused meanwhile."""
    service = Waiting()
    for event in (service.may_start, service.may_answer, service.may_drain):
        event.set()
    task = asyncio.create_task(serve(service, address, max_waiting=8))
    await until_connected(address, task)
    await until(lambda: asks(address, Status.SERVING))
    with grpc.insecure_channel(address) as channel:
        wait: Any = channel.unary_unary(f"/{NAME}/Wait")
        requests = [wait.future(b"") for _ in range(200)]
        deadline = time.monotonic() + 10
        # This blocks the server's event loop, too; neither the client nor gRPC's C core need it.
        while sum(request.done() for request in requests) < 180 and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251  see above
        codes = [await asyncio.to_thread(request.code) for request in requests]
    assert set(codes) <= {StatusCode.OK, StatusCode.RESOURCE_EXHAUSTED, StatusCode.CANCELLED}
    assert 1 <= codes.count(StatusCode.OK) <= 20
    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_a_signal_while_starting_is_not_lost(address: str) -> None:
    """The server stops as soon as it has started."""
    service = Waiting()
    service.may_drain.set()
    async with running(service, address) as task:
        assert await health(address) == Status.NOT_SERVING
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        service.may_start.set()
        await task
    assert service.events == ["started", "drained", "stopped"]


async def test_signals_are_given_back(address: str) -> None:
    """Once the server has ended, signals mean what they meant before."""
    before = signal.getsignal(signal.SIGTERM)
    service = Waiting()
    async with running(service, address):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


async def test_an_unknown_service_has_no_health(address: str) -> None:
    """Only the names of the service are known."""
    async with running(Waiting(), address):
        with pytest.raises(aio.AioRpcError) as caught:
            await health(address, "test.Other")
    assert caught.value.code() is StatusCode.NOT_FOUND


class Failing(Waiting):
    """A service that cannot become ready."""

    async def start(self) -> None:
        """Fail."""
        raise LookupError("no configuration")


async def test_a_failed_start_ends_the_server(address: str) -> None:
    """The reason is passed on, and nothing listens any more."""
    with pytest.raises(LookupError, match="no configuration"):
        await serve(Failing(), address)
    assert await refuses(address)


@pytest.mark.parametrize(
    "address",
    [
        # Realistic
        pytest.param("9001", id="port-alone"),
        pytest.param("/run/s.sock", id="path-alone"),
        pytest.param("unix:/nowhere/at/all/s.sock", id="no-folder"),
        pytest.param("192.0.2.1:9001", id="not-ours"),
        pytest.param("http://127.0.0.1:9001", id="url"),
        # Pathological
        pytest.param("127.0.0.1:99999", id="port-modulo-65536"),
        pytest.param("127.0.0.1:x", id="no-number"),
        pytest.param(":9001", id="no-host"),
        pytest.param("", id="empty"),
        pytest.param("unix:", id="no-path"),
        pytest.param("unix:/" + "x" * 200, id="long-path"),
        pytest.param("unix:" + __file__, id="no-socket"),
        pytest.param("two words:9001", id="space"),
    ],
)
async def test_an_address_of_no_use_is_refused(address: str) -> None:
    """The start ends with one line that says what an address is."""
    with pytest.raises(BindError) as caught:
        await serve(Waiting(), address, settings=ServiceSettings(plaintext=True))
    assert str(caught.value) == (
        f"{address} cannot be bound: expected unix:/path in a folder that exists, or "
        "host:port with an address of this machine, that nobody else listens on."
    )


async def test_an_address_in_use_is_refused(address: str) -> None:
    """A second worker does not take the address of a living one, nor share it."""
    service = Waiting()
    service.may_start.set()
    async with running(service, address):
        with pytest.raises(BindError):
            await serve(Waiting(), address, settings=ServiceSettings(plaintext=True))
        await until(lambda: asks(address, Status.SERVING))


async def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    """A worker that was killed cannot remove its socket; its successor does."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with running(Waiting(), f"unix:{path}"):
        assert await health(f"unix:{path}") == Status.NOT_SERVING


async def test_a_busy_socket_is_not_taken_over(tmp_path: Path) -> None:
    """A process that hangs, with a full queue of connections, is alive all the same."""
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(path)
        busy.listen(0)
        client.connect(path)
        with pytest.raises(BindError):
            await serve(Waiting(), f"unix:{path}")


# --- HTTP/2 by hand (RFC 9113): what no gRPC client would do

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame of stream 0 without flags."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0, 0, 0, 0, 0]) + payload


async def count_pings(address: str, sent: int) -> int:
    """Return how many of several pings in a row are answered before the server hangs up."""
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    writer.write(_PREFACE + frame(_SETTINGS))
    answered = 0
    try:
        for number in range(sent):
            writer.write(frame(_PING, struct.pack(">Q", number)))
            await writer.drain()
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == _GOAWAY:
                    return answered
                if head[3] == _PING and head[4] == _ACK:
                    assert payload == struct.pack(">Q", number)
                    answered += 1
                    break
    except (ConnectionError, EOFError):
        pass  # the server has hung up
    finally:
        writer.close()
    return answered


async def test_pings_of_an_idle_connection_are_answered(tmp_path: Path) -> None:
    """Envoy's connection_keepalive pings whether or not there are requests; each is answered."""
    address = f"unix:{tmp_path}/s.sock"
    async with running(Waiting(), address):
        assert await count_pings(address, 50) == 50


async def test_without_our_options_pings_are_punished(tmp_path: Path) -> None:
    """The policy of gRPC itself hangs up on the third ping: the test above can fail."""
    address = f"unix:{tmp_path}/s.sock"
    server = aio.server()
    server.add_insecure_port(address)
    await server.start()
    try:
        assert await count_pings(address, 50) < 5
    finally:
        await server.stop(None)
