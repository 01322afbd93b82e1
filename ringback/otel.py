"""Spans, and what sends them to a collector over OTLP/gRPC, from a thread of its own."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ringback.errors import ApiError
from ringback.logs import get_logger

# How long an export may take, the last one at the end too.
_TIMEOUT_S: Final = 2.0
_EVERY_MS: Final = 1000.0
_TRACEPARENT: Final = "traceparent"


class Tracer:
    """Makes the spans of a process.

    Args:
        endpoint: ``http://host:port``, or ``https://`` for TLS.
        service: Name of the process.
    """

    def __init__(self, endpoint: str, service: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = _Exporter(
            endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=_TIMEOUT_S
        )
        self._provider = TracerProvider(
            # Envoy decides; without its word nothing is traced.
            sampler=ParentBased(ALWAYS_OFF),
            resource=Resource.create({SERVICE_NAME: service}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY_MS)
        )
        self._tracer = self._provider.get_tracer("ringback")
        self._context = TraceContextTextMapPropagator()

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, str], parent: str | None = None
    ) -> Iterator[None]:
        """Give a block that is one span; an error that leaves it is told by its code or its type.

        Args:
            name: Of the span.
            attributes: Facts that are no secret.
            parent: A ``traceparent``, empty for none; without it the current span is the parent.
        """
        above = None if parent is None else self._context.extract({_TRACEPARENT: parent})
        with self._tracer.start_as_current_span(
            name,
            above,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            try:
                yield
            except BaseException as error:
                word = error.code if isinstance(error, ApiError) else type(error).__name__
                current.set_attribute("error.type", word)
                current.set_status(StatusCode.ERROR)
                raise

    def headers(self) -> dict[str, str]:
        """Return the header that names the current span; nothing without one."""
        found: dict[str, str] = {}
        self._context.inject(found)
        return {name: value for name, value in found.items() if name == _TRACEPARENT}

    def shutdown(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class _Exporter(OTLPSpanExporter):
    """Says in a line of ours that spans are lost; the library's would name addresses."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            get_logger().warning("traces_lost", spans=len(spans))
        return result
