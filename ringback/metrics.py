"""The Prometheus endpoint of a worker."""

from prometheus_client import start_http_server

from ringback.errors import StartError


class MetricsAddressError(StartError):
    """The Prometheus endpoint cannot be opened."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __str__(self) -> str:
        return f"metrics address {self.address}: not host:port, or in use."


def serve_metrics(address: str) -> None:
    """Serve this process's metrics over HTTP, from a thread of their own.

    Args:
        address: ``host:port``.

    Raises:
        MetricsAddressError: If the address is malformed or in use.
    """
    host, _, port = address.rpartition(":")
    try:
        start_http_server(int(port), addr=host.strip("[]") or "127.0.0.1")
    except (ValueError, OSError) as error:
        raise MetricsAddressError(address) from error
