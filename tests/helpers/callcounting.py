"""callkeeper as extauthz and sdpfilter see it that ask for slots: it counts, and reaches nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc import aio

from callkeeper.calls import Limits
from callkeeper.egress import Egress
from callkeeper.keeper import Keeper
from callkeeper.news import News
from callkeeper.reach import Reaches
from callkeeper.service import CallKeeper
from callkeeper.slots import MemorySlots
from callkeeper.valkeyslots import ValkeySlots
from callkeeper.way import listener_way
from callsapi.v1.calls_pb2_grpc import UpstreamsStub, add_CallsServicer_to_server
from ringback.grpcpeers import Peers
from ringback.settings import SupervisionSettings
from ringback.valkey import Valkey

_NOWHERE: Final = "127.0.0.1:1"


class _Late(aio.ServerInterceptor):
    def __init__(self, late_s: float) -> None:
        self._late_s = late_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        if handler_call_details.method.endswith("/RegisterMany"):
            await asyncio.sleep(self._late_s)
        return await continuation(handler_call_details)


@dataclass(frozen=True)
class CallCounting:
    """A callkeeper that runs.

    Attributes:
        address: Where.
        slots: Counts calls.
        keeper: Keeps those that are registered.
        service: Serves both.
        server: Where it is served.
    """

    address: str
    slots: MemorySlots | ValkeySlots
    keeper: Keeper
    service: CallKeeper
    server: aio.Server

    def settings(self, **values: Any) -> SupervisionSettings:
        """Return settings that name it, with `required` unless they say otherwise."""
        return SupervisionSettings(**{"mode": "required", "callkeeper": (self.address,), **values})

    def taken(self, scope: str) -> int:
        """Return how many calls hold a slot of a scope, in memory."""
        assert isinstance(self.slots, MemorySlots)
        return len(self.slots._calls.get(scope, ()))

    @property
    def holders(self) -> int:
        """How many calls hold any slot, in memory."""
        assert isinstance(self.slots, MemorySlots)
        return len(self.slots)


@asynccontextmanager
async def call_counting(
    folder: Path, valkey: Valkey | None = None, *, late_s: float = 0
) -> AsyncIterator[CallCounting]:
    """Run callkeeper on a socket in a folder.

    Args:
        folder: For the socket.
        valkey: Where it counts; None in memory.
        late_s: How long it lets those wait who register calls.
    """
    extauthz = Peers([_NOWHERE], UpstreamsStub)
    egress, news = Egress(listener_way(f"http://{_NOWHERE}")), News()
    slots = MemorySlots() if valkey is None else ValkeySlots(valkey)
    limits = Limits(is_required=False, attach_s=20, unattached_s=20, max_duration_s=3600)
    keeper = Keeper(limits, Reaches(extauthz), egress, news, lambda *_: 0, slots=slots)
    service = CallKeeper(keeper, news, egress, extauthz, slots=slots)
    server = aio.server(interceptors=[_Late(late_s)])
    add_CallsServicer_to_server(service, server)
    address = f"unix:{folder}/callkeeper"
    server.add_insecure_port(address)
    await server.start()
    await service.start()
    try:
        yield CallCounting(address, slots, keeper, service, server)
    finally:
        await server.stop(None)
        await service.stop()
