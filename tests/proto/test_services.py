"""Servicers of the three services: they type-check against the stubs, and answer over a socket."""

from collections.abc import AsyncIterator

import pytest
from google.rpc import status_pb2
from grpc import StatusCode, aio

from envoyapi.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from envoyapi.service.cluster.v3 import cds_pb2_grpc
from envoyapi.service.discovery.v3 import discovery_pb2
from envoyapi.service.ext_proc.v3 import external_processor_pb2, external_processor_pb2_grpc

CheckContext = aio.ServicerContext[external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse]
ProcessContext = aio.ServicerContext[
    external_processor_pb2.ProcessingRequest, external_processor_pb2.ProcessingResponse
]
DiscoveryContext = aio.ServicerContext[
    discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse
]


class DenyAll(external_auth_pb2_grpc.AuthorizationServicer):
    """Denies, and repeats the path in the body."""

    async def Check(
        self, request: external_auth_pb2.CheckRequest, context: CheckContext
    ) -> external_auth_pb2.CheckResponse:
        """Answer code 7."""
        del context
        return external_auth_pb2.CheckResponse(
            status=status_pb2.Status(code=StatusCode.PERMISSION_DENIED.value[0]),
            denied_response=external_auth_pb2.DeniedHttpResponse(
                body=request.attributes.request.http.path
            ),
        )


def echo(
    request: external_processor_pb2.ProcessingRequest,
) -> external_processor_pb2.ProcessingResponse:
    """Answer a request body with the same body."""
    mutation = external_processor_pb2.BodyMutation(body=request.request_body.body)
    return external_processor_pb2.ProcessingResponse(
        request_body=external_processor_pb2.BodyResponse(
            response=external_processor_pb2.CommonResponse(body_mutation=mutation)
        )
    )


class GeneratorEcho(external_processor_pb2_grpc.ExternalProcessorServicer):
    """Answers as an async generator."""

    async def Process(
        self,
        request_iterator: AsyncIterator[external_processor_pb2.ProcessingRequest],
        context: ProcessContext,
    ) -> AsyncIterator[external_processor_pb2.ProcessingResponse]:
        """Yield one answer for each message."""
        del context
        async for request in request_iterator:
            yield echo(request)


class ContextEcho(external_processor_pb2_grpc.ExternalProcessorServicer):
    """Reads and writes through the context: less work for grpc.aio with each message."""

    async def Process(
        self,
        request_iterator: AsyncIterator[external_processor_pb2.ProcessingRequest],
        context: ProcessContext,
    ) -> None:
        """Write one answer for each message; what ends the loop is grpc.aio.EOF."""
        del request_iterator
        while isinstance(request := await context.read(), external_processor_pb2.ProcessingRequest):
            await context.write(echo(request))


class OneVersion(cds_pb2_grpc.ClusterDiscoveryServiceServicer):
    """Answers every subscription with version 1, and leaves FetchClusters out."""

    async def StreamClusters(
        self,
        request_iterator: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: DiscoveryContext,
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse]:
        """Yield one answer for each request."""
        del context
        async for request in request_iterator:
            yield discovery_pb2.DiscoveryResponse(version_info="1", type_url=request.type_url)


@pytest.fixture
async def server() -> AsyncIterator[aio.Server]:
    """Give a server that is not started yet."""
    server = aio.server()
    yield server
    await server.stop(None)


@pytest.fixture
async def channel(server: aio.Server) -> AsyncIterator[aio.Channel]:
    """Give a channel to that server."""
    port = server.add_insecure_port("127.0.0.1:0")
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def test_authorization_is_served(server: aio.Server, channel: aio.Channel) -> None:
    """A Check handler gets the request and its answer reaches the client."""
    external_auth_pb2_grpc.add_AuthorizationServicer_to_server(DenyAll(), server)
    await server.start()
    request = external_auth_pb2.CheckRequest()
    request.attributes.request.http.path = "/v1/realtime/calls"
    answer = await external_auth_pb2_grpc.AuthorizationStub(channel).Check(request)
    assert answer.status.code == 7
    assert answer.denied_response.body == "/v1/realtime/calls"


@pytest.mark.parametrize("servicer", [GeneratorEcho(), ContextEcho()], ids=["generator", "context"])
async def test_external_processor_is_served(
    servicer: external_processor_pb2_grpc.ExternalProcessorServicer,
    server: aio.Server,
    channel: aio.Channel,
) -> None:
    """A Process handler of either style answers each message in order, then ends the stream."""
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(servicer, server)
    await server.start()

    async def send() -> AsyncIterator[external_processor_pb2.ProcessingRequest]:
        for body in (b"one", b"two"):
            yield external_processor_pb2.ProcessingRequest(
                request_body=external_processor_pb2.HttpBody(body=body, end_of_stream=True)
            )

    stub = external_processor_pb2_grpc.ExternalProcessorStub(channel)
    answers = [answer async for answer in stub.Process(send())]
    assert [a.request_body.response.body_mutation.body for a in answers] == [b"one", b"two"]


async def test_cluster_discovery_is_served(server: aio.Server, channel: aio.Channel) -> None:
    """StreamClusters is served; FetchClusters, left out, is answered with UNIMPLEMENTED."""
    cds_pb2_grpc.add_ClusterDiscoveryServiceServicer_to_server(OneVersion(), server)
    await server.start()
    stub = cds_pb2_grpc.ClusterDiscoveryServiceStub(channel)

    async def send() -> AsyncIterator[discovery_pb2.DiscoveryRequest]:
        yield discovery_pb2.DiscoveryRequest(type_url="t")

    answers = [answer async for answer in stub.StreamClusters(send())]
    assert [(answer.version_info, answer.type_url) for answer in answers] == [("1", "t")]
    with pytest.raises(aio.AioRpcError) as failure:
        await stub.FetchClusters(discovery_pb2.DiscoveryRequest())
    assert failure.value.code() is StatusCode.UNIMPLEMENTED
