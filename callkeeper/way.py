"""Ways to providers, as ``upstream.egress`` names them: two of those that extauthz has."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from ringback.errors import StartError, why_unusable
from ringback.settings import Settings, UpstreamSettings
from ringback.upstreamtls import upstream_tls


class MeshEgressError(StartError):
    """Providers would have to be reached in a way that callkeeper does not know."""

    def __str__(self) -> str:
        return (
            "callkeeper does not reach providers in plain HTTP through a mesh, which would end "
            "sidebands early: set upstream.egress to listener or direct, or supervision.mode to "
            "off."
        )


class AuthoritiesError(StartError):
    """The authorities that may vouch for providers cannot be used.

    Args:
        problem: The setting, the file, and what is wrong with it.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


@dataclass(frozen=True, slots=True)
class Way:
    """How requests get to providers.

    Attributes:
        base: Returns ``scheme://host:port`` of what is connected to for an origin.
        tls: What checks certificates, where that says ``https``.
        is_listener: Envoy's egress listener is asked, which wants to be told the cluster.
    """

    base: Callable[[str], str]
    tls: ssl.SSLContext | None = None
    is_listener: bool = False


def way_of(settings: Settings) -> Way:
    """Return the way that the settings name.

    Raises:
        MeshEgressError: If callkeeper cannot go that way.
        AuthoritiesError: If TLS is ours to do and ``upstream.ca_file`` cannot be used.
    """
    upstream = settings.upstream
    match upstream.egress:
        case "mesh":
            raise MeshEgressError
        case "direct":
            return Way(lambda origin: origin, tls=_tls(upstream))
        case "listener":
            return listener_way(upstream.egress_url)


def listener_way(url: str) -> Way:
    """Return the way through Envoy's egress listener.

    Args:
        url: ``http://host:port`` of the listener.
    """
    base = url.rstrip("/")
    return Way(lambda _origin: base, is_listener=True)


def _tls(upstream: UpstreamSettings) -> ssl.SSLContext:
    try:
        return upstream_tls(upstream)
    except (OSError, ValueError) as error:
        problem = f"upstream.ca_file: {upstream.ca_file}: cannot be used: {why_unusable(error)}"
        raise AuthoritiesError(problem) from error
