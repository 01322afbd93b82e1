"""The gRPC service ``ringback.v1.Calls``: no rules."""

import time
from collections.abc import Sequence
from typing import Final

import grpc
from grpc import aio

from callkeeper.calls import Reason
from callkeeper.egress import Egress
from callkeeper.examiner import Examiner
from callkeeper.keeper import Keeper
from callkeeper.kept import Kept, new_id
from callkeeper.news import News, SlowWatcherError
from callkeeper.recent import Ended
from callkeeper.sinks.writer import Writer
from callkeeper.slots import Slots
from callkeeper.translate import read_call, read_id, read_limits, read_scopes, write_state
from callsapi.v1 import calls_pb2_grpc
from callsapi.v1.calls_pb2 import (
    CallState,
    Event,
    GetRequest,
    HangUpRequest,
    HangUpResponse,
    ListRequest,
    ListResponse,
    RegisterRequest,
    RegisterResponse,
    ReleaseRequest,
    ReleaseResponse,
    RevokeRequest,
    RevokeResponse,
    TakeRequest,
    TakeResponse,
    WatchRequest,
)
from callsapi.v1.calls_pb2_grpc import UpstreamsStub
from ringback.grpcpeers import Peers
from ringback.valkey import StoreUnavailableError, Valkey

_UNKNOWN: Final = "this worker does not keep such a call"


class CallKeeper(calls_pb2_grpc.CallsServicer):
    """Takes calls on, tells about them and ends them.

    Args:
        keeper: Keeps them.
        news: Is told by the keeper.
        egress: The keeper's; started and stopped with the service.
        extauthz: Whom the keeper asks; likewise.
        slots: The keeper's; likewise.
        writers: Where charges go; likewise.
        valkey: The shared store, closed at the end.
        examiner: Knows how those stand who pay for calls; started and stopped likewise.
    """

    names: tuple[str, ...] = ("ringback.v1.Calls",)

    def __init__(
        self,
        keeper: Keeper,
        news: News,
        egress: Egress,
        extauthz: Peers[UpstreamsStub],
        *,
        slots: Slots,
        writers: Sequence[Writer] = (),
        valkey: Valkey | None = None,
        examiner: Examiner | None = None,
    ) -> None:
        self._examiner = examiner
        self._writers = tuple(writers)
        self._keeper = keeper
        self._news = news
        self._egress = egress
        self._extauthz = extauthz
        self._slots = slots
        self._valkey = valkey

    def register(self, server: aio.Server) -> None:
        """Add the handlers to the server."""
        calls_pb2_grpc.add_CallsServicer_to_server(self, server)

    async def start(self) -> None:
        """Be ready to reach extauthz and providers."""
        self._extauthz.start()
        self._egress.start()
        self._slots.start()
        for writer in self._writers:
            writer.start()
        if self._examiner is not None:
            self._examiner.start(self._keeper)

    async def drain(self) -> None:
        """Let watchers go."""
        self._news.close()

    async def stop(self) -> None:
        """Let go of all calls."""
        if self._examiner is not None:
            await self._examiner.stop()
        await self._keeper.stop()
        for writer in self._writers:
            await writer.stop()
        await self._slots.stop()
        await self._egress.stop()
        await self._extauthz.stop()
        if self._valkey is not None:
            await self._valkey.close()

    async def Register(
        self,
        request: RegisterRequest,
        context: aio.ServicerContext[RegisterRequest, RegisterResponse],
    ) -> RegisterResponse:
        """Keep a call from now on; INVALID_ARGUMENT if that is not possible."""
        try:
            call = read_call(request, new_id(), time.time())
            limits = read_limits(request.limits)
            kept = self._keeper.register(call, request.handle, request.sealed_key, limits)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return RegisterResponse(id=kept.id)

    async def Get(
        self, request: GetRequest, context: aio.ServicerContext[GetRequest, CallState]
    ) -> CallState:
        """Tell how a call is, or was when it ended."""
        found = self._keeper.find(request.call) or self._keeper.recent.find(
            request.call, time.time()
        )
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _UNKNOWN)
        return _state_of(found)

    async def List(
        self,
        request: ListRequest,
        context: aio.ServicerContext[ListRequest, ListResponse],  # noqa: ARG002  of gRPC
    ) -> ListResponse:
        """Tell of all calls, or of some of them."""
        ended = self._keeper.recent.since(time.time()) if request.with_ended else ()
        found = [each for each in (*ended, *self._keeper) if _is_wanted(each, request)]
        found.sort(key=lambda each: each.call.opened_at)
        # [-0:] is all of them.
        return ListResponse(calls=map(_state_of, found[-request.limit :]))

    async def Watch(
        self,
        request: WatchRequest,  # noqa: ARG002  it has no fields
        context: aio.ServicerContext[WatchRequest, Event],
    ) -> None:
        """Tell what happens from now on."""
        with self._news.watch() as events:
            # So that who watches knows that nothing is missed from here on.
            await context.send_initial_metadata(())
            try:
                async for event in events:
                    await context.write(event)
            except SlowWatcherError as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    async def HangUp(
        self,
        request: HangUpRequest,
        context: aio.ServicerContext[HangUpRequest, HangUpResponse],
    ) -> HangUpResponse:
        """Begin to end a call."""
        kept = self._keeper.find(request.call)
        if kept is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _UNKNOWN)
        self._keeper.end(kept, Reason.ADMIN)
        return HangUpResponse()

    async def Revoke(
        self,
        request: RevokeRequest,
        context: aio.ServicerContext[RevokeRequest, RevokeResponse],
    ) -> RevokeResponse:
        """Begin to end all calls of a token or a key."""
        if not (request.token_id or request.key_hash):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "token_id or key_hash is needed")
        found = [kept for kept in self._keeper if _is_of(kept, request)]
        for kept in found:
            self._keeper.end(kept, Reason.REVOKED)
        return RevokeResponse(calls=len(found))

    async def Take(
        self, request: TakeRequest, context: aio.ServicerContext[TakeRequest, TakeResponse]
    ) -> TakeResponse:
        """Take slots for a call; FAILED_PRECONDITION if nobody can tell whether there are any."""
        try:
            full = await self._slots.take(read_id(request.id), read_scopes(request))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except StoreUnavailableError as error:
            # Not UNAVAILABLE: another worker would ask the same store.
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        return TakeResponse(full=full.name if full is not None else "")

    async def Release(
        self,
        request: ReleaseRequest,
        context: aio.ServicerContext[ReleaseRequest, ReleaseResponse],  # noqa: ARG002
    ) -> ReleaseResponse:
        """Give slots back; a call that is kept holds its own until it has ended."""
        if self._keeper.find(request.id) is None:
            self._slots.release(request.id)
        return ReleaseResponse()


def _is_of(kept: Kept, request: RevokeRequest) -> bool:
    if request.token_id:
        return kept.call.token_id == request.token_id
    return kept.call.payer.key_hash == request.key_hash


def _is_wanted(call: Kept | Ended, request: ListRequest) -> bool:
    return request.key_hash in ("", call.call.payer.key_hash) and request.token_id in (
        "",
        call.call.token_id,
    )


def _state_of(call: Kept | Ended) -> CallState:
    ended_at = call.at if isinstance(call, Ended) else 0.0
    return write_state(call.call, call.state, handle=call.handle, ended_at=ended_at)
