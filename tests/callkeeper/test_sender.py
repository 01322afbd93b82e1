import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, web

from callkeeper.sender import Sender
from helpers.gateway import until

# More than sockets and buffers hold.
BIG = {"text": "x" * 4_000_000}


@asynccontextmanager
async def attached(*, reads: bool) -> AsyncIterator[tuple[ClientWebSocketResponse, list[Any]]]:
    """Give a socket to somebody who reads or does not, and what was read."""
    read: list[Any] = []
    is_over = asyncio.Event()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        if not reads:
            await is_over.wait()
        async for message in socket:
            read.append(json.loads(message.data))  # noqa: PERF401  each as it comes
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with ClientSession() as client:
        socket = await client.ws_connect(f"http://127.0.0.1:{port}/")
        yield socket, read
        is_over.set()
        await socket.close()
    await runner.cleanup()


async def test_events_arrive_in_their_order() -> None:
    """However large they are; who hands them over does not wait."""
    async with attached(reads=True) as (socket, read):
        sender = Sender(socket)
        events: list[dict[str, Any]] = [BIG, *({"number": number} for number in range(20))]
        for event in events:
            sender.send(event)
        assert read == []
        await until(lambda: len(read) == len(events))
        assert read == events
        await sender.stop()


async def test_a_sideband_that_takes_nothing_is_closed() -> None:
    """Then who listens attaches again."""
    async with attached(reads=False) as (socket, _):
        sender = Sender(socket, send_s=0.2)
        for _ in range(10):
            sender.send(BIG)
        await until(lambda: socket.closed, 5)
        sender.send(BIG)
        await sender.stop()


async def test_nothing_is_sent_after_the_end() -> None:
    """What waits is given up."""
    async with attached(reads=True) as (socket, read):
        sender = Sender(socket)
        sender.send({})
        await sender.stop()
        await asyncio.sleep(0.1)
        assert read == []
