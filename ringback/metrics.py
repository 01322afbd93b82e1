"""The Prometheus endpoint of a worker, and what both services count."""

from typing import Final

from prometheus_client import Counter, start_http_server

from ringback.addresses import parse_host_port
from ringback.errors import StartError

JWK_SET_RELOADS: Final = Counter(
    "ringback_jwk_set_reloads", "Changes of the JWK set, by what became of them", ["result"]
)
# Of all processes together a key may seal 2^32 times.
SEALS: Final = Counter(
    "ringback_seals", "Tokens and handles that were sealed, by the id of the key", ["kind", "kid"]
)


class MetricsAddressError(StartError):
    """The Prometheus endpoint cannot be opened."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return (
            f"metrics address {self.address}: expected host:port "
            "with an address of this machine and a free port from 0 to 65535."
        )


def serve_metrics(address: str) -> None:
    """Serve this process's metrics over HTTP, from a thread of their own.

    Args:
        address: ``host:port``; ``:port`` listens on 127.0.0.1.

    Raises:
        MetricsAddressError: If the address is malformed, not ours or in use.
    """
    try:
        host, port = parse_host_port(address)
        start_http_server(port, addr=host or "127.0.0.1")
    except (ValueError, OSError) as error:
        raise MetricsAddressError(address) from error


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
