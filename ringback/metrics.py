"""The HTTP endpoint of a worker: metrics for Prometheus, and health for who speaks no gRPC."""

import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import REGISTRY, disable_created_metrics, make_wsgi_app
from prometheus_client.metrics import MetricWrapperBase

from ringback.addresses import parse_host_port
from ringback.errors import StartError
from ringback.vitals import Vitals

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# Envoy's stats are served so many ports above the first worker of extauthz.
ENVOY_METRICS_OFFSET: Final = 2
# A scraper that stops reading keeps a thread no longer than this.
_TIMEOUT_S: Final = 10


class MetricsAddressError(StartError):
    """The Prometheus endpoint cannot be opened."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"metrics address {self.address}: expected host:port "
            "with an address of this machine and a free port from 0 to 65535."
        )


def serve_metrics(address: str, vitals: Vitals) -> WSGIServer:
    """Serve this process's metrics over HTTP, from a thread of their own, until it ends.

    Beside ``/metrics`` there are ``/healthz``, 200 while the event loop is alive, and ``/readyz``,
    200 while requests can be decided; else they are 503.

    Args:
        address: ``host:port``; ``:port`` listens on 127.0.0.1.
        vitals: Of the event loop.

    Raises:
        MetricsAddressError: If the address is malformed, not ours or in use.
    """
    try:
        host, port = resolve(address)
        server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
    except OSError as error:
        raise MetricsAddressError(address) from error
    # When a counter began is of no use: Prometheus sees resets by itself.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    server.set_app(_app(vitals))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


def forget(module: ModuleType) -> None:
    """Serve none of the metrics that a module has defined: this process does not count them."""
    for value in vars(module).values():
        if isinstance(value, MetricWrapperBase):
            REGISTRY.unregister(value)


def resolve(address: str) -> tuple[str, int]:
    """Return the IP address and the port that a metrics address means.

    Raises:
        MetricsAddressError: If it is malformed, or its host has no address.
    """
    try:
        host, port = parse_host_port(address)
        found = socket.getaddrinfo(host or "127.0.0.1", port, type=socket.SOCK_STREAM)
    except (ValueError, OSError) as error:
        raise MetricsAddressError(address) from error
    *_, where = found[0]
    return str(where[0]), port


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name there
        """Write nothing: who scrapes is no event."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        """Write nothing: a scraper that hangs up is no event either."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _app(vitals: Vitals) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app()

    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path not in {"/healthz", "/readyz"}:
            return metrics(environ, start_response)
        is_good = vitals.is_alive and (vitals.is_ready or path == "/healthz")
        word = "alive" if path == "/healthz" else "ready"
        start_response(
            "200 OK" if is_good else "503 Service Unavailable",
            [("Content-Type", "application/json")],
        )
        return [f'{{"status":"{word if is_good else f"not {word}"}"}}'.encode()]

    return app


def shift_port(address: str, ports: int) -> str:
    """Return the metrics address of another worker, whose port is higher by so many.

    Args:
        address: ``host:port``; with port 0, any free one, it stays as it is.
        ports: 0 or more.

    Raises:
        MetricsAddressError: If the address is malformed, or the port would be above 65535.
    """
    try:
        _, port = parse_host_port(address)
        shifted = f"{address.rpartition(':')[0]}:{port + ports}" if port else address
        parse_host_port(shifted)
    except ValueError as error:
        raise MetricsAddressError(address) from error
    return shifted
