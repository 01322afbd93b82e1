"""The gRPC service ``ringback.v1.Calls``: no rules."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc
from grpc import aio

from callkeeper.calls import Reason
from callkeeper.egress import Egress
from callkeeper.examiner import Examiner
from callkeeper.garbage import Tidier
from callkeeper.keeper import Keeper
from callkeeper.kept import Kept
from callkeeper.news import News, SlowWatcherError
from callkeeper.recent import Ended
from callkeeper.registrations import NotKeptError, Registrations
from callkeeper.shared.elsewhere import Elsewhere
from callkeeper.shared.replica import Replica
from callkeeper.shared.store import Shared
from callkeeper.sinks.writer import Writer
from callkeeper.slots import Slots
from callkeeper.translate import read_id, read_scopes, write_state
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
        replica: Shares the calls in it with others; likewise.
        elsewhere: Finds those of others.
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
        writers: Sequence[Writer[Any]] = (),
        valkey: Valkey | None = None,
        examiner: Examiner | None = None,
        replica: Replica | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._examiner = examiner
        self._tidier = Tidier()
        self._writers = tuple(writers)
        self._keeper = keeper
        self._news = news
        self._egress = egress
        self._extauthz = extauthz
        self._slots = slots
        self._valkey = valkey
        self._replica = replica
        self._elsewhere = elsewhere or Elsewhere()
        self._registrations = Registrations(keeper, replica)

    def register(self, server: aio.Server) -> None:
        """Add the handlers to the server."""
        calls_pb2_grpc.add_CallsServicer_to_server(self, server)

    async def start(self) -> None:
        """Be ready to reach extauthz and providers."""
        self._tidier.start()
        self._extauthz.start()
        self._egress.start()
        self._slots.start()
        for writer in self._writers:
            writer.start()
        if self._examiner is not None:
            self._examiner.start(self._keeper)
        if self._replica is not None:
            self._replica.start()

    async def drain(self) -> None:
        """Hand all calls over, where there is somebody to take them, and end all streams."""
        if self._replica is not None:
            await self._replica.leave()
        self._news.close()
        self._registrations.close()

    async def stop(self) -> None:
        """Let go of all calls."""
        await self._tidier.stop()
        if self._examiner is not None:
            await self._examiner.stop()
        await self._keeper.stop()
        if self._replica is not None:
            await self._replica.stop()
        await asyncio.gather(*(writer.stop() for writer in self._writers))
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
        """Keep a call from now on, or fail as `NotKeptError` says."""
        try:
            return RegisterResponse(id=await self._registrations.take(request))
        except NotKeptError as error:
            await context.abort(error.code, str(error))

    async def RegisterMany(
        self,
        request_iterator: AsyncIterator[RegisterRequest],  # noqa: ARG002  context.read is quicker
        context: aio.ServicerContext[RegisterRequest, RegisterResponse],
    ) -> None:
        """Keep calls from now on; UNAVAILABLE if another worker has to be asked."""
        try:
            await self._registrations.take_many(context.read, context.write)
        except NotKeptError as error:
            await context.abort(error.code, str(error))

    async def Get(
        self, request: GetRequest, context: aio.ServicerContext[GetRequest, CallState]
    ) -> CallState:
        """Tell how a call is, or was when it ended; UNAVAILABLE if nobody here can tell."""
        now, name = time.time(), request.call
        try:
            found = (
                self._keeper.find(name)
                or self._keeper.recent.find(name, now)
                or await self._elsewhere.find(name)
            )
        except StoreUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        if found is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, _UNKNOWN)
        return self._state_of(found)

    async def List(
        self,
        request: ListRequest,
        context: aio.ServicerContext[ListRequest, ListResponse],
    ) -> ListResponse:
        """Tell of all calls, or of some of them; UNAVAILABLE if some cannot be found."""
        ended = self._keeper.recent.since(time.time()) if request.with_ended else ()
        try:
            others = await self._elsewhere.list_calls(
                key_hash=request.key_hash,
                token_id=request.token_id,
                with_ended=request.with_ended,
            )
        except StoreUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        found = [each for each in (*others, *ended, *self._keeper) if _is_wanted(each, request)]
        found.sort(key=lambda each: each.call.opened_at)
        # [-0:] is all of them.
        return ListResponse(calls=map(self._state_of, found[-request.limit :]))

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
        """Begin to end a call; UNAVAILABLE as of Get."""
        reason = Reason.ENDED_ELSEWHERE if request.has_ended else Reason.ADMIN
        if request.was_withheld:
            reason = Reason.WITHHELD
        if (kept := self._keeper.find(request.call)) is not None:
            self._keeper.end(kept, reason)
            return HangUpResponse()
        try:
            if not await self._elsewhere.hang_up(request.call, reason):
                await context.abort(grpc.StatusCode.NOT_FOUND, _UNKNOWN)
        except StoreUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return HangUpResponse()

    async def Revoke(
        self,
        request: RevokeRequest,
        context: aio.ServicerContext[RevokeRequest, RevokeResponse],
    ) -> RevokeResponse:
        """Begin to end all calls of a token or a key; UNAVAILABLE if not all can be found."""
        if not (request.token_id or request.key_hash):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "token_id or key_hash is needed")
        found = [kept for kept in self._keeper if _is_of(kept, request)]
        for kept in found:
            self._keeper.end(kept, Reason.REVOKED)
        try:
            shared = await self._elsewhere.revoke(
                Reason.REVOKED, key_hash=request.key_hash, token_id=request.token_id
            )
        except StoreUnavailableError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return RevokeResponse(calls=len(found) if shared is None else shared)

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

    def _state_of(self, call: Kept | Ended | Shared) -> CallState:
        ended_at, budget_left = 0.0, None
        if not isinstance(call, Kept):
            ended_at = call.ended_at
        elif self._examiner is not None:
            budget_left = self._examiner.left(call)
        return write_state(
            call.call,
            call.state,
            handle=call.handle,
            ended_at=ended_at,
            budget_left=budget_left,
        )


def _is_of(kept: Kept, request: RevokeRequest) -> bool:
    if request.token_id:
        return kept.call.token_id == request.token_id
    return kept.call.payer.key_hash == request.key_hash


def _is_wanted(call: Kept | Ended | Shared, request: ListRequest) -> bool:
    return request.key_hash in ("", call.call.payer.key_hash) and request.token_id in (
        "",
        call.call.token_id,
    )
