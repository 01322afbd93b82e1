"""Settings of traces."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ringback.settings.sections import Section


def _check_endpoint(url: str) -> str:
    parts = urlsplit(url)
    try:
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.port
    except ValueError:
        is_good = False
    if not is_good or parts.path.strip("/") or parts.query or parts.username:
        raise ValueError("expected http://host:port or https://host:port")
    return url.rstrip("/")


class TracingSettings(Section):
    """Traces by OpenTelemetry, from Envoy through the services; off without an endpoint."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] | None = None
    """Collector that takes OTLP over gRPC: ``http://host:port``, ``https://`` for TLS."""

    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Which share of the requests is traced."""

    trust_caller: bool = False
    """Go on with the trace of a caller that sends ``traceparent``, and trace what it wants traced.
    Only for callers who are known."""

    to_upstream: bool = False
    """Send providers the ``traceparent`` of our trace."""
