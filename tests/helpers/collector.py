"""An OpenTelemetry collector that keeps what it gets, over OTLP/gRPC."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from grpc import aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from helpers.gateway import until


@dataclass(frozen=True, slots=True)
class Span:
    """One span, its ids as hexadecimal text."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]
    is_error: bool


@dataclass(slots=True)
class Collector:
    """Runs between the ends of an ``async with`` block."""

    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    port: int = 0
    _server: Any = None

    async def __aenter__(self) -> Self:
        self._server = aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Be away."""
        await self._server.stop(None)

    @property
    def url(self) -> str:
        """What ``tracing.endpoint`` has to be."""
        return f"http://127.0.0.1:{self.port}"

    async def Export(  # noqa: N802  its name in gRPC
        self, request: ExportTraceServiceRequest, _context: object
    ) -> ExportTraceServiceResponse:
        """Take spans."""
        self.requests.append(request)
        return ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """Return all spans so far."""
        return [span for request in self.requests for span in _spans(request)]

    async def trace(self, trace_id: str, *names: str) -> list[Span]:
        """Return the spans of a trace, once those of all these names have arrived."""
        found: list[Span] = []

        def is_there() -> bool:
            found[:] = [span for span in self.spans() if span.trace_id == trace_id]
            return {*names} <= {span.name for span in found}

        await until(is_there)
        return found

    def text(self) -> str:
        """Return everything that was received, for people and searches."""
        return "\n".join(str(request) for request in self.requests)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in request.resource_spans:
        resource = {item.key: item.value.string_value for item in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    resource.get("service.name", ""),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {item.key: _value(item.value) for item in span.attributes},
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""
