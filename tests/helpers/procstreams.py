"""An ext_proc service over a real socket, asked as Envoy asks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from grpc import StatusCode, aio

from envoyapi.service.ext_proc.v3 import external_processor_pb2_grpc
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)

Stub = external_processor_pb2_grpc.ExternalProcessorStub
Servicer = external_processor_pb2_grpc.ExternalProcessorServicer

REQUEST_ID: Final = "00000000-0000-4000-8000-000000000000"


@asynccontextmanager
async def served(servicer: Servicer) -> AsyncIterator[aio.Channel]:
    """Serve over a real socket, and give a channel to it."""
    server = aio.server()
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def converse(
    stub: Stub, messages: list[ProcessingRequest]
) -> tuple[list[ProcessingResponse], StatusCode]:
    """Send messages as Envoy does, each after the answer to the one before.

    Returns:
        The answers and the status of the stream, which Envoy ends when all are answered.
    """
    call = stub.Process(metadata=[("x-request-id", REQUEST_ID)])
    answers: list[ProcessingResponse] = []
    try:
        for message in messages:
            await call.write(message)
            answer = await call.read()
            if not isinstance(answer, ProcessingResponse):
                break
            answers.append(answer)
        await call.done_writing()
        assert await call.read() is aio.EOF, "an answer that nobody asked for"
    except (aio.AioRpcError, asyncio.InvalidStateError):
        pass  # the status tells
    return answers, await asyncio.wait_for(call.code(), 5)
