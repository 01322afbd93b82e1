"""Types of the generated module for grpc.aio. Written by proto/generate.py."""

from collections.abc import AsyncIterator, Awaitable

from grpc import aio

from envoyapi.service.auth.v3 import external_auth_pb2

class AuthorizationStub:
    Check: aio.UnaryUnaryMultiCallable[external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse]
    def __init__(self, channel: aio.Channel) -> None: ...

class AuthorizationServicer:
    def Check(
        self,
        request: external_auth_pb2.CheckRequest,
        context: aio.ServicerContext[external_auth_pb2.CheckRequest, external_auth_pb2.CheckResponse],
    ) -> Awaitable[external_auth_pb2.CheckResponse]: ...

def add_AuthorizationServicer_to_server(servicer: AuthorizationServicer, server: aio.Server) -> None: ...
