"""callkeeper's service on a socket, with a provider and extauthz in their places."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import aio

from callkeeper.calls import Limits
from callkeeper.egress import Egress
from callkeeper.keeper import Keeper
from callkeeper.kept import Charge
from callkeeper.news import News
from callkeeper.reach import Reaches
from callkeeper.service import CallKeeper
from callkeeper.slots import MemorySlots
from callkeeper.steward import Steward
from callkeeper.way import listener_way
from callsapi.v1.calls_pb2 import Event, Payer, RegisterRequest, WatchRequest
from callsapi.v1.calls_pb2_grpc import (
    CallsStub,
    UpstreamsStub,
    add_CallsServicer_to_server,
    add_UpstreamsServicer_to_server,
)
from helpers.gateway import until
from helpers.sidebandprovider import ReachTeller, SidebandProvider, sideband_provider
from ringback.grpcpeers import Peers

LIMITS = Limits(is_required=True, attach_s=1, unattached_s=1, max_duration_s=30)
REGISTER = RegisterRequest(
    handle="rtc_handle",
    deployment="voice-1",
    origin="https://provider.example",
    upstream_call_id="rtc_1",
    model="voice",
    payer=Payer(key_hash="f" * 64, team_id="web"),
    token_id="token-1",
    request_id="request-1",
    sealed_key="sealed",
)


def done(response: str) -> dict[str, Any]:
    """Return the event of a response."""
    usage = {"input_tokens": 3, "output_tokens": 4}
    return {"type": "response.done", "response": {"id": response, "usage": usage}}


DONE = done("resp_1")


@dataclass
class Running:
    """A service that keeps calls, what it asks, and what it has told."""

    calls: CallsStub
    provider: SidebandProvider
    extauthz: ReachTeller
    extauthz_server: aio.Server
    events: list[Event]

    async def event(self, name: str, *, count: int = 1) -> Event:
        """Return an event once it has come so often."""
        await until(lambda: len(self.named(name)) >= count, 10)
        return self.named(name)[count - 1]

    def named(self, name: str) -> list[Event]:
        """Return the events of a name."""
        return [event for event in self.events if event.name == name]


@asynccontextmanager
async def running(
    folder: Path,
    limits: Limits = LIMITS,
    charge: Charge = lambda _call, _usage, _pricing: 0,
    steward: Steward | None = None,
    is_full: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Running]:
    """Run the service on a socket, with a provider and somebody in extauthz's place."""
    async with sideband_provider() as provider:
        teller, teller_server, server = ReachTeller(), aio.server(), aio.server()
        add_UpstreamsServicer_to_server(teller, teller_server)
        teller_server.add_insecure_port(f"unix:{folder}/extauthz")
        await teller_server.start()
        extauthz = Peers([f"unix:{folder}/extauthz"], UpstreamsStub)
        egress, news = Egress(listener_way(provider.url)), News()
        slots = MemorySlots()
        keeper = Keeper(
            limits,
            Reaches(extauthz),
            egress,
            news,
            charge,
            slots=slots,
            steward=steward,
            is_full=is_full,
        )
        service = CallKeeper(keeper, news, egress, extauthz, slots=slots)
        add_CallsServicer_to_server(service, server)
        server.add_insecure_port(f"unix:{folder}/callkeeper")
        await server.start()
        await service.start()
        async with aio.insecure_channel(f"unix:{folder}/callkeeper") as channel:
            stub, events = CallsStub(channel), list[Event]()
            stream = stub.Watch(WatchRequest())
            await stream.initial_metadata()
            watching = asyncio.create_task(_collect(stream, events))
            yield Running(stub, provider, teller, teller_server, events)
            await service.drain()
            await asyncio.wait_for(watching, 5)
        await server.stop(None)
        await service.stop()
        await teller_server.stop(None)


async def _collect(stream: Any, events: list[Event]) -> None:
    async for event in stream:
        events.append(event)  # noqa: PERF401  each as it comes
