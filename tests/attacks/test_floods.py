"""Too much, too slowly, too often: one caller's flood costs the others nothing."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Final

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from helpers.attacks import (
    CALLS,
    ENDPOINTS,
    MINT,
    Shot,
    check_answer,
    check_received,
    good,
    shoot,
)
from helpers.expect import ORIGIN
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Client, Header, request_bytes, send
from helpers.wsclient import UPGRADE

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

HEADERS_S: Final = 3
BODY_S: Final = 16
# What a busy machine may take more.
SLACK_S: Final = 10
HANG_UP_S: Final = 20
# More than the buffers of two sockets hold, in answers that are not longer.
UNREAD_BYTES: Final = 64 * 2**20


async def dripped(gateway: Gateway, begin: bytes, drop: bytes) -> tuple[float, int]:
    """Send the begin of a request and then a little now and then.

    Returns:
        After how many seconds it was cut off, and with which status; 0 for none.
    """
    began = time.monotonic()
    async with Client(gateway.port) as client:
        await client.write(begin)
        answer = asyncio.ensure_future(client.read(timeout_s=BODY_S + SLACK_S))
        while not answer.done():
            await asyncio.wait([answer], timeout=0.5)
            with contextlib.suppress(ConnectionError):
                await client.write(drop)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            found = answer.result()
            check_answer(found)
            return time.monotonic() - began, found.status
        return time.monotonic() - began, 0


async def test_slow_requests_are_cut_off_at_every_endpoint(gateway: Gateway) -> None:
    """Headers have 3 s and bodies 16 s, however steadily they drip; others are served meanwhile."""
    heads, bodies = [], []
    for endpoint in ENDPOINTS:
        data = good(gateway, endpoint).to_bytes()
        head, _, body = data.partition(b"\r\n\r\n")
        heads.append(dripped(gateway, head[:60], b"y"))
        if body:
            bodies.append(dripped(gateway, data[: -len(body) + 5], b" "))
    slow = asyncio.gather(asyncio.gather(*heads), asyncio.gather(*bodies))
    while not slow.done():
        assert (await gateway.call(gateway.seal())).status == 201
        await asyncio.wait([slow], timeout=0.5)
    of_heads, of_bodies = slow.result()
    for found, limit_s in ((of_heads, HEADERS_S), (of_bodies, BODY_S)):
        for seconds, status in found:
            assert seconds < limit_s + SLACK_S
            assert status in {400, 408}
    # Bodies that are checked whole before anything leaves: nothing of them left.
    assert {request.target for request in gateway.received} <= {CALLS}


async def test_idle_connections_are_no_burden(gateway: Gateway) -> None:
    """Hundreds of connections with half a request, or none, keep nobody out, and are hung up on."""
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(400))
    )
    for number, (_, writer) in enumerate(opened):
        writer.write(
            (b"", b"POST ", b"POST " + MINT.encode() + b" HTTP/1.1\r\nhost: x\r\n")[number % 3]
        )
    assert (await gateway.call(gateway.seal())).status == 201
    started = [reader for number, (reader, _) in enumerate(opened) if number % 3 == 2]
    async with asyncio.timeout(HEADERS_S + SLACK_S):
        await asyncio.gather(*(reader.read() for reader in started))
    for _, writer in opened:
        writer.transport.abort()


FLOODS: Final[dict[str, list[Header]]] = {
    "65-headers": [(f"x-{n}", "y") for n in range(65)],
    "5000-headers": [(f"x-{n}", "") for n in range(3000)],
    "same-header": [("x", "y")] * 3000,
    "cookies": [("cookie", "a=b")] * 3000,
    "large-value": [("x", "y" * 33000)],
    "large-name": [("x" * 33000, "y")],
    "large-cookie": [("cookie", "a" * 33000)],
    "large-authorization": [("authorization", "Bearer " + "x" * 33000)],
    "empty-values": [(f"x-{n}", "") for n in range(70)],
    "large-query": [],
}


@pytest.mark.parametrize("name", FLOODS)
async def test_header_floods_are_refused(gateway: Gateway, name: str) -> None:
    """More than 64 headers or 32 kB of them are 431 at every endpoint, over HTTP/1.1 and HTTP/2."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint).with_(*FLOODS[name])
        if not FLOODS[name]:
            shot = replace(
                shot, target=f"{shot.target}{'&' if '?' in shot.target else '?'}{'x' * 33000}"
            )
        answer = await shoot(gateway, shot)
        assert answer.status == 431
        if endpoint in {"mint", "call"}:
            lines = [(n.lower(), value) for n, value in shot.lines()]
            with contextlib.suppress(ResetError):
                answer = await send_h2(gateway.port, shot.method, shot.target, lines, shot.body)
                assert answer.status in {400, 431}
    assert gateway.received == []


class Peer:
    """A client of HTTP/2 that does what clients should not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        )

    async def flush(self) -> None:
        """Send what is to be sent; a connection that was closed is no error."""
        self.writer.write(self.h2.data_to_send())
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    def raw(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """Write one frame (RFC 9113 section 4.1) as it is."""
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self.writer.write(head + payload)

    def request(self, stream: int, shot: Shot, *, end: bool = False) -> None:
        """Begin a request."""
        pseudo = [(":method", shot.method), (":scheme", "http"), (":authority", "x")]
        lines = [*pseudo, (":path", shot.target), *((n.lower(), v) for n, v in shot.lines())]
        self.h2.send_headers(stream, lines, end_stream=end)

    async def is_hung_up_on(self) -> bool:
        """Tell whether the server ends the connection."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(HANG_UP_S):
                while await self.reader.read(65536):
                    pass
            return True
        return self.reader.at_eof() or self.reader.exception() is not None


@contextlib.asynccontextmanager
async def peer_of(gateway: Gateway) -> AsyncIterator[Peer]:
    """Give a connection that has begun, with room for few bytes that nobody has read yet."""
    connection = socket.socket()
    connection.setblocking(False)
    # Before it connects: afterwards the window that it has announced stays.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gateway.port))
    reader, writer = await asyncio.open_connection(sock=connection)
    peer = Peer(reader, writer)
    peer.h2.initiate_connection()
    await peer.flush()
    try:
        yield peer
    finally:
        writer.transport.abort()


Flood = Callable[[Peer, Shot], Coroutine[None, None, None]]


async def _rapid_reset(peer: Peer, shot: Shot) -> None:
    for stream in range(1, 2001, 2):
        peer.request(stream, shot)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        await peer.flush()


async def _continuations(peer: Peer, _shot: Shot) -> None:
    peer.raw(1, 0, 1, b"\x82\x86")
    for _ in range(5000):
        peer.raw(9, 0, 1, b"\x00\x01x\x04" + b"y" * 4)
    await peer.flush()


async def _empty_continuations(peer: Peer, _shot: Shot) -> None:
    peer.raw(1, 0, 1, b"\x82\x86")
    for _ in range(20000):
        peer.raw(9, 0, 1)
    await peer.flush()


def _many(kind: int, flags: int, payload: bytes, count: int = 30000) -> Flood:
    async def flood(peer: Peer, _shot: Shot) -> None:
        for _ in range(count):
            peer.raw(kind, flags, 0, payload)
        await peer.flush()

    return flood


def _unread(kind: int, payload: bytes) -> Flood:
    """Return a flood of frames whose answers nobody reads.

    Envoy hangs up when too many answers wait to be sent; those that fit into the buffers of the
    sockets do not wait. So it goes on until they are full, whatever their sizes are.
    """

    async def flood(peer: Peer, _shot: Shot) -> None:
        transport = peer.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        sent = 0
        while not transport.is_closing() and sent < UNREAD_BYTES:
            for _ in range(1000):
                peer.raw(kind, 0, 0, payload)
                sent += 9 + len(payload)
            await peer.flush()
        transport.resume_reading()

    return flood


async def _empty_data(peer: Peer, shot: Shot) -> None:
    peer.request(1, shot)
    await peer.flush()
    for _ in range(20000):
        peer.raw(0, 0, 1)
    await peer.flush()


async def _priorities(peer: Peer, _shot: Shot) -> None:
    for stream in range(1, 60001, 2):
        peer.raw(2, 0, stream, b"\0\0\0\0\x10")
    await peer.flush()


async def _table_bomb(peer: Peer, _shot: Shot) -> None:
    # One large entry of the dynamic table, then thousands of references to it.
    entry = b"\x40\x01x\x7f\xe1\x1e" + b"y" * 4000
    peer.raw(1, 5, 1, b"\x82\x86\x84\x41\x01x" + entry + b"\xbe" * 8000)
    await peer.flush()


async def _window_overflow(peer: Peer, shot: Shot) -> None:
    peer.request(1, shot)
    await peer.flush()
    peer.raw(8, 0, 1, b"\x7f\xff\xff\xff")
    peer.raw(8, 0, 0, b"\x7f\xff\xff\xff")
    await peer.flush()


async def _more_than_the_window(peer: Peer, shot: Shot) -> None:
    peer.request(1, shot)
    await peer.flush()
    for _ in range(100):
        peer.raw(0, 0, 1, b"x" * 16384)
    await peer.flush()


H2_FLOODS: Final[dict[str, Flood]] = {
    "rapid-reset": _rapid_reset,
    "continuations": _continuations,
    "empty-continuations": _empty_continuations,
    "pings": _unread(6, b"12345678"),
    "settings": _unread(4, b"\0\3\0\0\0\1"),
    "settings-acknowledged": _many(4, 1, b""),
    "empty-data": _empty_data,
    "priorities": _priorities,
    "table-bomb": _table_bomb,
    "window-overflow": _window_overflow,
    "more-than-the-window": _more_than_the_window,
    "frame-too-large": _many(0, 0, b"x" * 20000, 3),
    "push": _many(5, 4, b"\0\0\0\2", 3),
    "unknown-frames": _many(99, 0, b"x", 30000),
}
# Costs nothing that a limit would be needed for: dropped unread.
PATIENT: Final = {"unknown-frames", "settings-acknowledged", "more-than-the-window"}


@pytest.mark.parametrize("name", H2_FLOODS)
async def test_http2_floods_end_their_connection(gateway: Gateway, name: str) -> None:
    """A flood of frames is hung up on, and another connection is served during and after it."""
    shot = replace(good(gateway, "call"), credential="ek_none", headers=(SDP_TYPE,))
    async with peer_of(gateway) as peer:
        flood = asyncio.create_task(H2_FLOODS[name](peer, shot))
        assert (await gateway.call(gateway.seal())).status == 201
        await flood
        assert name in PATIENT or await peer.is_hung_up_on()


async def test_rapid_reset_of_good_requests_mints_little(gateway: Gateway) -> None:
    """Requests that are taken back at once end with their connection, long before a thousand."""
    async with peer_of(gateway) as peer:
        await _rapid_reset(peer, good(gateway, "mint"))
        assert await peer.is_hung_up_on()
    check_received(gateway)
    assert len(gateway.received) < 200
    gateway.reset()


CONNECTS: Final = {
    "egress": "127.0.0.1:{egress}",
    "upstream": "127.0.0.1:{evil}",
    "elsewhere": "api.openai.com:443",
    "path": CALLS,
    "absolute": "http://127.0.0.1:{evil}/",
    "no-port": "127.0.0.1",
    "zero": "127.0.0.1:0",
    "large-port": "127.0.0.1:99999",
    "address-6": "[::1]:{evil}",
    "empty": "",
}


@pytest.mark.parametrize("name", CONNECTS)
async def test_connect_leads_nowhere(gateway: Gateway, name: str) -> None:
    """CONNECT in any form is refused at once, and what follows it is no request of anybody's."""
    target = CONNECTS[name].replace("{evil}", str(gateway.azure.port))
    target = target.replace("{egress}", str(gateway.egress_port))
    hidden = request_bytes("POST", "/v1/smuggled", [bearer(KEY)])
    for data in (
        request_bytes("CONNECT", target, [bearer(KEY)]) + hidden,
        request_bytes("CONNECT", target, [bearer(KEY), *UPGRADE]) + hidden,
        request_bytes("CONNECT", target, [bearer(KEY), ("content-length", "4")], b"abcd") + hidden,
    ):
        answer = await send(gateway.port, data, timeout_s=HEADERS_S + SLACK_S)
        check_answer(answer)
        assert answer.status >= 400

    async def status_of(protocol: str | None) -> int:
        lines = [bearer(KEY), *([] if protocol is None else [(":protocol", protocol)])]
        try:
            return (await send_h2(gateway.port, "CONNECT", target, lines)).status
        except ResetError:
            return 400

    protocols = (None, "websocket", "connect-udp", "connect-ip", "tcp", "")
    statuses = await asyncio.gather(*map(status_of, protocols))
    assert all(400 <= status < 500 for status in statuses)
    assert gateway.received == []


@pytest.mark.parametrize(
    "upgrade",
    ["websocket", "WebSocket, tcp", "h2c", "HTTP/2.0", "TLS/1.0", "tcp", "connect-udp", "*"],
)
async def test_upgrades_lead_nowhere_else(gateway: Gateway, upgrade: str) -> None:
    """Only a WebSocket at its own path switches protocols; at no other endpoint does anything."""
    for endpoint in ENDPOINTS[:-2]:
        shot = good(gateway, endpoint)
        lines = [("connection", "upgrade"), ("upgrade", upgrade), *UPGRADE[2:]]
        answer = await shoot(gateway, shot.with_(*lines))
        assert answer.status == shot.status or 400 <= answer.status < 500
        assert answer.header("upgrade") is None
    for endpoint in ENDPOINTS[-2:]:
        shot = good(gateway, endpoint)
        lines = [("connection", "upgrade"), ("upgrade", upgrade), *UPGRADE[2:]]
        answer = await shoot(gateway, replace(shot, headers=tuple(lines)))
        assert answer.status == 101 if upgrade == "websocket" else answer.status >= 400


async def test_large_bodies_end_at_the_limit(gateway: Gateway) -> None:
    """A body over 64 KiB is 413 at every endpoint, whether its length is told or not."""
    for endpoint in ENDPOINTS[:-2]:
        shot = good(gateway, endpoint)
        head = request_bytes("POST", shot.target, [*shot.lines(), ("transfer-encoding", "chunked")])
        for data in (
            replace(shot, body=b"x" * 70000).to_bytes(),
            head + b"2000\r\n" + b"x" * 8192 + b"\r\n" + (b"2000\r\n" + b"x" * 8192 + b"\r\n") * 8,
            head + b"1\r\nx\r\n" * 66000,
        ):
            answer = await send(gateway.port, data, timeout_s=HEADERS_S + SLACK_S)
            check_answer(answer)
            assert answer.status == 413, endpoint
    assert gateway.received == []
    assert (await gateway.post(CALLS, [("origin", ORIGIN), SDP_TYPE], OFFER)).status == 401
