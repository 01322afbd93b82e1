"""A provider of sidebands with no calls behind them: thousands at once, in a process of its own.

Every call id is that of a live call until it is hung up; every key is right.
``POST /standin/rate`` with ``{"events_per_s": 500}`` has responses with usage sent, evenly spread,
to one call after the other; their ids end with the time at which they were sent: see `sent_at`.
``GET /standin/sent`` has call ids and such times, the oldest first. ``GET /standin/counters`` has
``open``, ``attached``, ``hangups`` and ``events``.
"""

import asyncio
import gc
import itertools
import json
import multiprocessing
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Final

from aiohttp import WSCloseCode, web

from emulator.usage import FULL_USAGE

_TICK_S: Final = 0.01
_BACKLOG: Final = 1024
_SENT_KEPT: Final = 100_000
_NOT_FOUND: Final = {
    "message": "No session found for the provided call_id",
    "type": "invalid_request_error",
    "param": "",
    "code": "call_id_not_found",
}


def sent_at(response_id: str) -> float:
    """Return when a response was sent, in seconds since 1970."""
    return int(response_id.rpartition("_")[2]) / 1e9


class _Standin:
    def __init__(self) -> None:
        self._sockets: dict[str, set[web.WebSocketResponse]] = {}
        self._hung_up: set[str] = set()
        self._attached = self._events = 0
        self._rate = 0.0
        self._sent: deque[tuple[str, float]] = deque(maxlen=_SENT_KEPT)
        self._numbers = itertools.count(1)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.router.add_get("/v1/realtime", self._attach)
        app.router.add_post("/v1/realtime/calls/{call_id}/hangup", self._hang_up)
        app.router.add_post("/standin/rate", self._set_rate)
        app.router.add_get("/standin/counters", self._count)
        app.router.add_get("/standin/sent", self._list_sent)
        return app

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        call_id = request.query["call_id"]
        if call_id in self._hung_up:
            return web.json_response({"error": _NOT_FOUND}, status=404)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._attached += 1
        self._sockets.setdefault(call_id, set()).add(socket)
        try:
            async for _ in socket:
                pass
        finally:
            left = self._sockets.get(call_id, set())
            left.discard(socket)
            if not left:
                self._sockets.pop(call_id, None)
        return socket

    async def _hang_up(self, request: web.Request) -> web.Response:
        call_id = request.match_info["call_id"]
        if call_id in self._hung_up:
            return web.json_response({"error": _NOT_FOUND}, status=404)
        self._hung_up.add(call_id)
        for socket in list(self._sockets.get(call_id, ())):
            await socket.close(code=WSCloseCode.OK)
        return web.Response()

    async def _set_rate(self, request: web.Request) -> web.Response:
        self._rate = float((await request.json())["events_per_s"])
        return web.Response()

    async def _count(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "open": sum(map(len, self._sockets.values())),
                "attached": self._attached,
                "hangups": len(self._hung_up),
                "events": self._events,
            }
        )

    async def _list_sent(self, _: web.Request) -> web.Response:
        return web.json_response(list(self._sent))

    async def send_events(self) -> None:
        """Send events at the rate that is wanted, for ever."""
        loop = asyncio.get_running_loop()
        due, last = 0.0, loop.time()
        turn: Iterator[str] = iter(())
        while True:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            due, last = due + (now - last) * self._rate, now
            while due >= 1:
                due -= 1
                call_id = next(turn, None)
                if call_id is None:
                    turn = iter(list(self._sockets))
                    call_id = next(turn, "nobody")
                await self._send(call_id)

    async def _send(self, call_id: str) -> None:
        """Send the same event to all who listen in on a call."""
        number = next(self._numbers)
        self._sent.append((call_id, time.time()))
        response = {
            "object": "realtime.response",
            "id": f"resp_{number}_{time.time_ns()}",
            "status": "completed",
            "usage": FULL_USAGE,
        }
        event = {"event_id": f"event_{number}", "type": "response.done", "response": response}
        text = json.dumps(event)
        for socket in list(self._sockets.get(call_id, ())):
            with suppress(ConnectionError):
                await socket.send_str(text)
                self._events += 1


def _serve(told: Connection) -> None:
    # A full collection of what thousands of sockets are would hold events back.
    gc.disable()

    async def serve() -> None:
        standin = _Standin()
        runner = web.AppRunner(standin.app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=_BACKLOG).start()
        told.send(runner.addresses[0][1])
        await standin.send_events()

    asyncio.run(serve())


@contextmanager
def sideband_standin() -> Iterator[int]:
    """Give the port of a stand-in, on 127.0.0.1."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()
