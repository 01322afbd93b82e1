"""gRPC services that answer Envoy with any bytes, at any time or never."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from ringback import grpcserver

RawContext = aio.ServicerContext[bytes, bytes]
# Return the bytes of a CheckResponse.
Check = Callable[[bytes, RawContext], Awaitable[bytes]]
# Read and write messages by the context; the end of the coroutine is the clean end of the stream.
Process = Callable[[RawContext], Awaitable[None]]


class StubService:
    """What ext_authz and ext_proc servers have in common: their behaviour can be replaced.

    Attributes:
        check: Answers ``envoy.service.auth.v3.Authorization/Check``.
        process: Serves ``envoy.service.ext_proc.v3.ExternalProcessor/Process``.
    """

    def __init__(self, check: Check | None = None, process: Process | None = None) -> None:
        self.check = check
        self.process = process

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the handlers of both services, and of a health that is always good."""
        return [
            grpc.method_handlers_generic_handler(
                "grpc.health.v1.Health",
                {"Check": grpc.unary_unary_rpc_method_handler(_say_serving)},
            ),
            grpc.method_handlers_generic_handler(
                "envoy.service.auth.v3.Authorization",
                {"Check": grpc.unary_unary_rpc_method_handler(self._check)},
            ),
            grpc.method_handlers_generic_handler(
                "envoy.service.ext_proc.v3.ExternalProcessor",
                {"Process": grpc.stream_stream_rpc_method_handler(self._process)},
            ),
        ]

    async def _check(self, request: bytes, context: RawContext) -> bytes:
        assert self.check is not None
        return await self.check(request, context)

    async def _process(self, _messages: AsyncIterator[bytes], context: RawContext) -> None:
        assert self.process is not None
        await self.process(context)


async def _say_serving(_request: bytes, _context: RawContext) -> bytes:
    answer = HealthCheckResponse(status=HealthCheckResponse.SERVING)
    return answer.SerializeToString()


@asynccontextmanager
async def serving(service: StubService) -> AsyncIterator[str]:
    """Serve on 127.0.0.1 and give the address: ``127.0.0.1:port``."""
    # Without our own servers' options gRPC hangs up on Envoy for its pings.
    server = aio.server(options=list(grpcserver._OPTIONS))
    server.add_generic_rpc_handlers(service.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
