"""The gRPC server of one worker: one address, health, graceful end."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from ringback.addresses import parse_host_port
from ringback.errors import StartError
from ringback.logs import get_logger
from ringback.supervisor import stop_signals
from ringback.vitals import Vitals

# How long requests in flight may take to end after SIGTERM. Longer than any single decision.
GRACE_S = 15.0
# What a worker gets through in well under half a second.
MAX_WAITING = 256
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
            f"{self.address} cannot be bound: expected unix:/path in a folder that exists, or "
            "host:port with an address of this machine, that nobody else listens on."
        )


async def serve(
    service: Service,
    address: str,
    vitals: Vitals | None = None,
    *,
    max_waiting: int = MAX_WAITING,
) -> None:
    """Serve until SIGTERM or SIGINT, then let requests in flight end.

    The health service (grpc.health.v1) answers SERVING between `Service.start` and the signal.

    Args:
        service: What to serve.
        address: ``unix:/path`` or ``host:port``.
        vitals: Told how the worker is, the same as the health service.
        max_waiting: How many requests may wait for this process to look at them. gRPC refuses
            further ones with RESOURCE_EXHAUSTED without asking Python, at random from half of
            this number on, all above it; Envoy answers those with 503.

    Raises:
        BindError: If the address cannot be bound.
    """
    log, vitals = get_logger(), vitals or Vitals()
    pulse = asyncio.create_task(vitals.watch())
    server = aio.server(options=[*_OPTIONS, *_queue_options(max_waiting)])
    service.register(server)
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    await _set_health(status, service, health_pb2.HealthCheckResponse.NOT_SERVING)
    try:
        _bind(server, address)
        with stop_signals() as signals:
            await server.start()
            await service.start()
            await _set_health(status, service, health_pb2.HealthCheckResponse.SERVING)
            vitals.is_ready = True
            log.info("ready", address=address)
            await signals.first.wait()
            vitals.is_ready = False
            log.info("stopping", address=address)
            await status.enter_graceful_shutdown()
            await service.drain()
            await server.stop(GRACE_S)
            await service.stop()
    finally:
        pulse.cancel()
        # For every other way out; a server that is stopped already stays so.
        await server.stop(None)


def _queue_options(max_waiting: int) -> Sequence[tuple[str, int]]:
    # By default 1000 and 3000: at 4 times the load that a worker can take, all waited for seconds.
    return (
        ("grpc.server.max_pending_requests", max_waiting // 2),
        ("grpc.server.max_pending_requests_hard_limit", max_waiting),
    )


def _bind(server: aio.Server, address: str) -> None:
    kind, _, path = address.partition(":")
    if kind == "unix" and path:
        _check_unused(path, address)
    else:
        # gRPC would take a port modulo 65536.
        try:
            parse_host_port(address)
        except ValueError as error:
            raise BindError(address) from error
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise BindError(address) from error


def _check_unused(path: str, address: str) -> None:
    """Refuse a socket that somebody listens on: gRPC would put its own in that place.

    It is right to do so with a socket that a killed worker has left behind.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass  # the queue is full: whoever listens is busy, but alive
        except OSError:
            return
    raise BindError(address)


async def _set_health(status: health.HealthServicer, service: Service, value: int) -> None:
    for name in ("", *service.names):
        await status.set(name, value)
