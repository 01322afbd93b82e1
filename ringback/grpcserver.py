"""The gRPC server of one worker: one address, health, graceful end."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final, Protocol

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from ringback.addresses import is_loopback, parse_host_port
from ringback.errors import StartError
from ringback.logs import get_logger
from ringback.peercheck import PeerCheck
from ringback.servertls import ServerTls
from ringback.settings import ServiceSettings
from ringback.supervisor import stop_signals
from ringback.vitals import Vitals

# How long requests in flight may take to end after SIGTERM. Longer than any single decision.
GRACE_S = 15.0
# What a worker gets through in well under half a second.
MAX_WAITING = 256
_UNIX: Final = "unix:"
_SETTINGS: Final = ServiceSettings()
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


class PlaintextError(StartError):
    """An address that others can reach, without TLS."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"{self.address} can be reached by others, and a service believes whoever connects. "
            "Listen on a Unix socket or on 127.0.0.1, or set services.tls in ringback.yaml. Where "
            "a mesh's sidecar does mTLS in front of it, set services.plaintext: true."
        )


async def serve(
    service: Service,
    address: str,
    vitals: Vitals | None = None,
    *,
    max_waiting: int = MAX_WAITING,
    settings: ServiceSettings = _SETTINGS,
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
        settings: Whether TCP is served with TLS, and to whom.

    Raises:
        BindError: If the address cannot be bound.
        PlaintextError: If others can reach it, and there is no TLS.
        CertificateError: If the files of TLS cannot be used.
    """
    log, vitals = get_logger(), vitals or Vitals()
    tls = _tls_of(address, settings)
    pulse = asyncio.create_task(vitals.watch())
    server = aio.server(
        options=[*_OPTIONS, *_queue_options(max_waiting), *_age_options(settings, tls)],
        interceptors=[PeerCheck(settings.tls.allowed_peers)] if tls else None,
    )
    service.register(server)
    status = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    await _set_health(status, service, health_pb2.HealthCheckResponse.NOT_SERVING)
    try:
        _bind(server, address, tls)
        with stop_signals() as signals:
            await server.start()
            if tls is not None:
                tls.start()
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
        if tls is not None:
            await tls.stop()
        # For every other way out; a server that is stopped already stays so.
        await server.stop(None)


def _queue_options(max_waiting: int) -> Sequence[tuple[str, int]]:
    # By default 1000 and 3000: at 4 times the load that a worker can take, all waited for seconds.
    return (
        ("grpc.server.max_pending_requests", max_waiting // 2),
        ("grpc.server.max_pending_requests_hard_limit", max_waiting),
    )


def _age_options(settings: ServiceSettings, tls: ServerTls | None) -> Sequence[tuple[str, int]]:
    if tls is None:
        return ()
    return (
        ("grpc.max_connection_age_ms", round(settings.tls.max_connection_age_s * 1000)),
        # More than any request takes. The stream of the clusters ends, and Envoy asks again.
        ("grpc.max_connection_age_grace_ms", 60_000),
    )


def _tls_of(address: str, settings: ServiceSettings) -> ServerTls | None:
    """Return the certificates for an address; None for sockets, and where nobody else can be."""
    if address.startswith(_UNIX):
        return None
    if settings.tls.is_on:
        return ServerTls(settings.tls)
    try:
        is_ours = is_loopback(address)
    except ValueError as error:
        raise BindError(address) from error
    if not settings.plaintext and not is_ours:
        raise PlaintextError(address)
    return None


def _bind(server: aio.Server, address: str, tls: ServerTls | None) -> None:
    if address.startswith(_UNIX) and address != _UNIX:
        _check_unused(address.removeprefix(_UNIX), address)
    else:
        # gRPC would take a port modulo 65536.
        try:
            parse_host_port(address)
        except ValueError as error:
            raise BindError(address) from error
    try:
        if tls is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, tls.credentials)
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
