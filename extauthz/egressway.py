"""Ways to an upstream: Envoy's egress listener, a mesh that does TLS, or TLS of our own."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from extauthz.deployments import DEFAULT_PORTS, Origin
from extauthz.errors import ConfigError
from ringback.errors import why_unusable
from ringback.settings import Settings, UpstreamSettings
from ringback.upstreamtls import upstream_tls

# A listener's or sidecar's idle timeout is an hour unless told otherwise; we let go first.
_PROXY_KEEPALIVE_S: Final = 300
# Providers wait less; as in extauthz/clusters.py.
_UPSTREAM_KEEPALIVE_S: Final = 50


@dataclass(frozen=True, slots=True)
class Way:
    """How requests get to upstreams.

    Attributes:
        base: Returns what is connected to for an origin: scheme, host and port.
        tls: What checks certificates, where ``base`` says ``https``.
        is_listener: Envoy's egress listener is asked: requests name their cluster, and answers that
            Envoy makes itself are marked. It also takes away what a trace says about itself.
        sends_trace: Whether requests say to which trace they belong.
        connect_timeout_s: For a connection, TLS included; None: only the request's own time counts.
        keepalive_s: How long a connection without a request is kept.
    """

    base: Callable[[Origin], httpx.URL]
    tls: ssl.SSLContext | None = None
    is_listener: bool = False
    sends_trace: bool = True
    connect_timeout_s: float | None = None
    keepalive_s: float = _PROXY_KEEPALIVE_S


def way_of(settings: Settings) -> Way:
    """Return the way that ``upstream.egress`` names.

    Raises:
        ConfigError: If TLS is ours to do and `upstream.ca_file` cannot be used.
    """
    upstream = settings.upstream
    # What leaves for a provider without our Envoy in between tells it of traces only if it may.
    to_upstream = settings.tracing.to_upstream
    match upstream.egress:
        case "mesh":
            return Way(
                lambda origin: _url("http", origin.host, mesh_port(origin, upstream)),
                sends_trace=to_upstream,
                connect_timeout_s=upstream.connect_timeout_s,
            )
        case "direct":
            return Way(
                lambda origin: _url(origin.scheme, origin.host, origin.port),
                tls=_tls(upstream),
                sends_trace=to_upstream,
                connect_timeout_s=upstream.connect_timeout_s,
                keepalive_s=_UPSTREAM_KEEPALIVE_S,
            )
        case "listener":
            return listener_way(upstream.egress_url)


def listener_way(url: str) -> Way:
    """Return the way through Envoy's egress listener.

    Args:
        url: ``http://host:port`` of the listener.
    """
    base = httpx.URL(url)
    return Way(lambda _origin: base, is_listener=True)


def mesh_port(origin: Origin, upstream: UpstreamSettings) -> int:
    """Return the port at which a mesh takes plain HTTP for an origin.

    ``upstream.mesh_port`` stands for the port 443; every other port for itself, so that no two
    origins of a host share one.
    """
    is_usual = origin.scheme == "https" and origin.port == DEFAULT_PORTS["https"]
    return upstream.mesh_port if is_usual else origin.port


def _url(scheme: str, host: str, port: int) -> httpx.URL:
    return httpx.URL(scheme=scheme, host=host, port=port)


def _tls(upstream: UpstreamSettings) -> ssl.SSLContext:
    try:
        return upstream_tls(upstream)
    except (OSError, ValueError) as error:
        problem = f"upstream.ca_file: {upstream.ca_file}: cannot be used: {why_unusable(error)}"
        raise ConfigError([problem]) from error
