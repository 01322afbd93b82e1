"""Types of the generated module for grpc.aio. Written by proto/generate.py."""

from collections.abc import AsyncIterator, Awaitable

from grpc import aio

from envoyapi.service.discovery.v3 import discovery_pb2

class ClusterDiscoveryServiceStub:
    StreamClusters: aio.StreamStreamMultiCallable[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]
    FetchClusters: aio.UnaryUnaryMultiCallable[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]
    def __init__(self, channel: aio.Channel) -> None: ...

class ClusterDiscoveryServiceServicer:
    def StreamClusters(
        self,
        request_iterator: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse],
    ) -> AsyncIterator[discovery_pb2.DiscoveryResponse] | Awaitable[None]: ...
    def FetchClusters(
        self,
        request: discovery_pb2.DiscoveryRequest,
        context: aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse],
    ) -> Awaitable[discovery_pb2.DiscoveryResponse]: ...

def add_ClusterDiscoveryServiceServicer_to_server(servicer: ClusterDiscoveryServiceServicer, server: aio.Server) -> None: ...
