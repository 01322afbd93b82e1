"""The gRPC server of one worker: one address, health, graceful end."""

import asyncio
import signal
from collections.abc import Sequence
from typing import Protocol

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from ringback.errors import StartError
from ringback.logs import get_logger

# How long requests in flight may take to end after SIGTERM. Longer than any single decision.
GRACE_S = 15.0

_OPTIONS: Sequence[tuple[str, int]] = (
    # Each worker has an address of its own, so that Envoy spreads the load and not the kernel.
    ("grpc.so_reuseport", 0),
    # Envoy pings idle connections (connection_keepalive); the default policy would hang up on it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    # Offers and answers have 64 KiB at most; metadata and headers come on top.
    ("grpc.max_receive_message_length", 1024 * 1024),
)


class Service(Protocol):
    """What a worker serves."""

    names: tuple[str, ...]
    """Full names of its gRPC services, for the health service."""

    def register(self, server: aio.Server) -> None:
        """Add the handlers to the server."""

    async def start(self) -> None:
        """Become ready: returns when requests can be decided."""

    async def drain(self) -> None:
        """End what would go on for ever, before requests in flight are waited for."""

    async def stop(self) -> None:
        """Release what `start` took."""


class BindError(StartError):
    """The address of a worker cannot be bound."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"{self.address} cannot be bound: it is in use, "
            "or the folder of the socket does not exist."
        )


async def serve(service: Service, address: str) -> None:
    """Serve until SIGTERM or SIGINT, then let requests in flight end.

    The health service (grpc.health.v1) answers SERVING between `Service.start` and the signal.

    Args:
        service: What to serve.
        address: ``unix:/path`` or ``host:port``.

    Raises:
        BindError: If the address cannot be bound.
    """
    log = get_logger()
    server = aio.server(options=list(_OPTIONS))
    service.register(server)
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    for name in ("", *service.names):
        await status.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise BindError(address) from error
    if not bound:
        raise BindError(address)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    await service.start()
    for name in ("", *service.names):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("ready", address=address)
    await stop.wait()
    log.info("stopping", address=address)
    await status.enter_graceful_shutdown()
    await service.drain()
    await server.stop(GRACE_S)
    await service.stop()
