"""Types of the generated module for grpc.aio. Written by proto/generate.py."""

from collections.abc import AsyncIterator, Awaitable

from grpc import aio

from callsapi.v1 import calls_pb2

class CallsStub:
    Register: aio.UnaryUnaryMultiCallable[calls_pb2.RegisterRequest, calls_pb2.RegisterResponse]
    RegisterMany: aio.StreamStreamMultiCallable[calls_pb2.RegisterRequest, calls_pb2.RegisterResponse]
    Get: aio.UnaryUnaryMultiCallable[calls_pb2.GetRequest, calls_pb2.CallState]
    List: aio.UnaryUnaryMultiCallable[calls_pb2.ListRequest, calls_pb2.ListResponse]
    Watch: aio.UnaryStreamMultiCallable[calls_pb2.WatchRequest, calls_pb2.Event]
    HangUp: aio.UnaryUnaryMultiCallable[calls_pb2.HangUpRequest, calls_pb2.HangUpResponse]
    Revoke: aio.UnaryUnaryMultiCallable[calls_pb2.RevokeRequest, calls_pb2.RevokeResponse]
    Take: aio.UnaryUnaryMultiCallable[calls_pb2.TakeRequest, calls_pb2.TakeResponse]
    Release: aio.UnaryUnaryMultiCallable[calls_pb2.ReleaseRequest, calls_pb2.ReleaseResponse]
    def __init__(self, channel: aio.Channel) -> None: ...

class CallsServicer:
    def Register(
        self,
        request: calls_pb2.RegisterRequest,
        context: aio.ServicerContext[calls_pb2.RegisterRequest, calls_pb2.RegisterResponse],
    ) -> Awaitable[calls_pb2.RegisterResponse]: ...
    def RegisterMany(
        self,
        request_iterator: AsyncIterator[calls_pb2.RegisterRequest],
        context: aio.ServicerContext[calls_pb2.RegisterRequest, calls_pb2.RegisterResponse],
    ) -> AsyncIterator[calls_pb2.RegisterResponse] | Awaitable[None]: ...
    def Get(
        self,
        request: calls_pb2.GetRequest,
        context: aio.ServicerContext[calls_pb2.GetRequest, calls_pb2.CallState],
    ) -> Awaitable[calls_pb2.CallState]: ...
    def List(
        self,
        request: calls_pb2.ListRequest,
        context: aio.ServicerContext[calls_pb2.ListRequest, calls_pb2.ListResponse],
    ) -> Awaitable[calls_pb2.ListResponse]: ...
    def Watch(
        self,
        request: calls_pb2.WatchRequest,
        context: aio.ServicerContext[calls_pb2.WatchRequest, calls_pb2.Event],
    ) -> AsyncIterator[calls_pb2.Event] | Awaitable[None]: ...
    def HangUp(
        self,
        request: calls_pb2.HangUpRequest,
        context: aio.ServicerContext[calls_pb2.HangUpRequest, calls_pb2.HangUpResponse],
    ) -> Awaitable[calls_pb2.HangUpResponse]: ...
    def Revoke(
        self,
        request: calls_pb2.RevokeRequest,
        context: aio.ServicerContext[calls_pb2.RevokeRequest, calls_pb2.RevokeResponse],
    ) -> Awaitable[calls_pb2.RevokeResponse]: ...
    def Take(
        self,
        request: calls_pb2.TakeRequest,
        context: aio.ServicerContext[calls_pb2.TakeRequest, calls_pb2.TakeResponse],
    ) -> Awaitable[calls_pb2.TakeResponse]: ...
    def Release(
        self,
        request: calls_pb2.ReleaseRequest,
        context: aio.ServicerContext[calls_pb2.ReleaseRequest, calls_pb2.ReleaseResponse],
    ) -> Awaitable[calls_pb2.ReleaseResponse]: ...

def add_CallsServicer_to_server(servicer: CallsServicer, server: aio.Server) -> None: ...

class UpstreamsStub:
    Reach: aio.UnaryUnaryMultiCallable[calls_pb2.ReachRequest, calls_pb2.ReachResponse]
    EndCall: aio.UnaryUnaryMultiCallable[calls_pb2.EndCallRequest, calls_pb2.EndCallResponse]
    Standing: aio.UnaryUnaryMultiCallable[calls_pb2.StandingRequest, calls_pb2.StandingResponse]
    def __init__(self, channel: aio.Channel) -> None: ...

class UpstreamsServicer:
    def Reach(
        self,
        request: calls_pb2.ReachRequest,
        context: aio.ServicerContext[calls_pb2.ReachRequest, calls_pb2.ReachResponse],
    ) -> Awaitable[calls_pb2.ReachResponse]: ...
    def EndCall(
        self,
        request: calls_pb2.EndCallRequest,
        context: aio.ServicerContext[calls_pb2.EndCallRequest, calls_pb2.EndCallResponse],
    ) -> Awaitable[calls_pb2.EndCallResponse]: ...
    def Standing(
        self,
        request: calls_pb2.StandingRequest,
        context: aio.ServicerContext[calls_pb2.StandingRequest, calls_pb2.StandingResponse],
    ) -> Awaitable[calls_pb2.StandingResponse]: ...

def add_UpstreamsServicer_to_server(servicer: UpstreamsServicer, server: aio.Server) -> None: ...
