"""How faults come over requests: waiting, refusing, spoiling a good answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from emulator.counters import Counters
from emulator.errors import ApiError
from emulator.faults import Fault, Faults, refusal, spoil_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# One that answers at once, so that its answer can be spoilt.
Responder = Callable[[web.Request], Awaitable[web.Response]]

_FIRST_REFUSAL: Final = 400


def with_faults(faults: Faults, operation: str, handler: Responder) -> Handler:
    """Return a handler that does what the faults of an operation make of it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        fault = faults.take(operation)
        await suffer(fault)
        response = await handler(request)
        if fault is not None:
            _spoil(response, fault)
        return response

    return handle


def counted(counters: Counters, operation: str, handler: Handler) -> Handler:
    """Return a handler whose answers are counted."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            response = await handler(request)
        except ApiError as exc:
            counters.count(operation, exc.status)
            raise
        counters.count(operation, response.status)
        return response

    return handle


async def suffer(fault: Fault | None) -> None:
    """Wait and be refused, as a fault says.

    Raises:
        ApiError: If it says so.
    """
    if fault is not None:
        await asyncio.sleep(fault.delay_s)
        if fault.status is not None and fault.status >= _FIRST_REFUSAL:
            raise refusal(fault.status)


def _spoil(response: web.Response, fault: Fault) -> None:
    """Make a bad answer of a good one, as a fault says."""
    if fault.malformed == "no_location":
        response.set_status(200)
        response.headers.pop("Location", None)
    elif fault.malformed is not None:
        # A hangup has no body to begin with.
        body = response.body if isinstance(response.body, bytes) else b""
        response.body = spoil_body(fault.malformed, body)
    if fault.status is not None:
        response.set_status(fault.status)
