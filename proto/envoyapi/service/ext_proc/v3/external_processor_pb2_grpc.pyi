"""Types of the generated module for grpc.aio. Written by proto/generate.py."""

from collections.abc import AsyncIterator, Awaitable

from grpc import aio

from envoyapi.service.ext_proc.v3 import external_processor_pb2

class ExternalProcessorStub:
    Process: aio.StreamStreamMultiCallable[external_processor_pb2.ProcessingRequest, external_processor_pb2.ProcessingResponse]
    def __init__(self, channel: aio.Channel) -> None: ...

class ExternalProcessorServicer:
    def Process(
        self,
        request_iterator: AsyncIterator[external_processor_pb2.ProcessingRequest],
        context: aio.ServicerContext[external_processor_pb2.ProcessingRequest, external_processor_pb2.ProcessingResponse],
    ) -> AsyncIterator[external_processor_pb2.ProcessingResponse] | Awaitable[None]: ...

def add_ExternalProcessorServicer_to_server(servicer: ExternalProcessorServicer, server: aio.Server) -> None: ...
