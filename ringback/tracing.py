"""Traces by OpenTelemetry: spans of ours below those of Envoy. Off, they cost a comparison.

Spans hold names, outcomes and ids of deployments; no key, token, SDP or address, and no text of an
exception. Whether a request is traced is Envoy's decision, which comes with the request (W3C
``traceparent``); a request without one is not.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from ringback.errors import StartError
from ringback.settings import TracingSettings

if TYPE_CHECKING:
    from ringback.otel import Tracer

Metadata = Callable[[], Iterable[Sequence[Any]] | None]

TRACEPARENT: Final = "traceparent"
_NOTHING: Final = nullcontext()

_tracer: "Tracer | None" = None


class TracingMissingError(StartError):
    """Traces are asked for, and what makes them is not installed."""

    def __str__(self) -> str:
        return "tracing.endpoint is set: install what makes traces, ringback[otel], or remove it."


def start(settings: TracingSettings, service: str) -> None:
    """Send the traces of this process to the collector of the settings, if there is one.

    Args:
        settings: Where to.
        service: Name of the process in traces.

    Raises:
        TracingMissingError: If the extra ``otel`` is not installed.
    """
    global _tracer  # noqa: PLW0603  one per process, like logs and metrics
    if settings.endpoint is None:
        return
    try:
        from ringback.otel import Tracer  # noqa: PLC0415  only where it is on
    except ImportError as error:
        raise TracingMissingError from error
    _tracer = Tracer(settings.endpoint, service)


def stop() -> None:
    """Send what is left."""
    global _tracer  # noqa: PLW0603  as above
    if _tracer is not None:
        _tracer.shutdown()
        _tracer = None


def span(name: str, **attributes: str) -> AbstractContextManager[object]:
    """Return a block that is one span of the current trace.

    Args:
        name: What is done, for example ``extauthz.find_key``.
        attributes: Facts that are no secret.
    """
    return _NOTHING if _tracer is None else _tracer.span(name, attributes)


def served(name: str, metadata: Metadata) -> AbstractContextManager[object]:
    """Return a block that is the span of a gRPC request, below the one of whoever sent it.

    Args:
        name: Of the method.
        metadata: Gives the metadata of the request; not asked where traces are off.
    """
    if _tracer is None:
        return _NOTHING
    parents = [str(value) for key, value, *_ in metadata() or () if key == TRACEPARENT]
    return _tracer.span(name, {}, parents[0] if parents else "")


def headers() -> dict[str, str]:
    """Return what tells whom we ask to which trace a request belongs; nothing without a trace."""
    return {} if _tracer is None else _tracer.headers()
