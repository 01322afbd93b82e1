"""Endpoints that no provider has: health, the state of the calls, and fault switches."""

from collections import Counter

from aiohttp import web

from emulator.call import Call
from emulator.counters import Counters
from emulator.errors import ApiError
from emulator.faults import Faults, parse_fault
from emulator.sessions import Calls
from emulator.shapes import parse_json_object
from emulator.sockets import Sockets


def add_control_routes(
    router: web.UrlDispatcher,
    calls: Calls[Call],
    sockets: Sockets,
    faults: Faults,
    counters: Counters,
) -> None:
    """Add ``/healthz`` and ``/emulator/``: ``calls``, ``counters`` and ``faults``."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def list_calls(_: web.Request) -> web.Response:
        return web.json_response({"calls": calls.snapshots(), "sockets": sockets.snapshots()})

    async def count(_: web.Request) -> web.Response:
        records = calls.records()
        states = Counter(record["state"] for record in records)
        ends = Counter(record["ended_because"] for record in records if record["ended_because"])
        return web.json_response(
            {
                "open": len(calls.running()),
                "states": states,
                "ends": ends,
                "sidebands": len(sockets.sidebands),
                "answers": counters.answers(),
                "calls": records,
            }
        )

    async def list_faults(_: web.Request) -> web.Response:
        return web.json_response(faults.active())

    async def switch_on(request: web.Request) -> web.Response:
        wanted = parse_json_object(await request.read())
        try:
            faults.switch_on({name: parse_fault(name, value) for name, value in wanted.items()})
        except ValueError as exc:
            raise ApiError(400, str(exc)) from exc
        return web.json_response(faults.active())

    async def clear(_: web.Request) -> web.Response:
        faults.clear()
        return web.json_response(faults.active())

    router.add_get("/healthz", health)
    router.add_get("/emulator/calls", list_calls)
    router.add_get("/emulator/counters", count)
    router.add_get("/emulator/faults", list_faults)
    router.add_post("/emulator/faults", switch_on)
    router.add_delete("/emulator/faults", clear)
