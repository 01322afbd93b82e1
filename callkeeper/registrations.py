"""Takes calls on, each by itself or many on one stream."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from callkeeper.errors import NoRoomError
from callkeeper.keeper import Keeper
from callkeeper.kept import new_id
from callkeeper.shared.replica import LeavingError, Replica
from callkeeper.translate import read_call, read_limits
from callsapi.v1.calls_pb2 import RegisterRequest, RegisterResponse
from ringback.logs import describe, get_logger
from ringback.valkey import StoreUnavailableError

Read = Callable[[], Awaitable[object]]
"""Returns a `RegisterRequest`, or something else at the end of a stream."""

Write = Callable[[RegisterResponse], Awaitable[None]]

_INTERNAL: Final = grpc.StatusCode.INTERNAL


class NotKeptError(Exception):
    """A call is not taken on.

    Args:
        code: INVALID_ARGUMENT if it cannot be kept, RESOURCE_EXHAUSTED if there is no room for what
            it will cost, UNAVAILABLE if another worker has to be asked, or the call has to be
            shared and cannot be.
        why: In words.
    """

    def __init__(self, code: grpc.StatusCode, why: str) -> None:
        self.code = code
        self._why = why

    def __str__(self) -> str:
        return self._why


class Registrations:
    """Takes calls on, until `close`.

    Args:
        keeper: Keeps them.
        replica: Shares them with others.
    """

    def __init__(self, keeper: Keeper, replica: Replica | None) -> None:
        self._keeper, self._replica = keeper, replica
        self._streams: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._log = get_logger()

    async def take(self, request: RegisterRequest) -> str:
        """Have a call kept from now on, and return its id.

        Raises:
            NotKeptError: If it is not.
        """
        try:
            call = read_call(request, new_id(), time.time())
            kept = self._keeper.prepare(
                call, request.handle, request.sealed_key, read_limits(request.limits)
            )
            name, is_ours = kept.call.id, True
            if self._replica is not None and kept.call is call:
                name, is_ours = await self._replica.open(kept)
            if is_ours:
                self._keeper.keep(kept)
        except ValueError as error:
            raise NotKeptError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        except (LeavingError, StoreUnavailableError) as error:
            raise NotKeptError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        except NoRoomError as error:
            raise NotKeptError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
        return name

    async def take_many(
        self,
        read: Read,
        write: Write,
    ) -> None:
        """Take on what a stream brings, and answer each when that is done.

        Raises:
            NotKeptError: After `close`.
        """
        if self._is_closed:
            raise NotKeptError(grpc.StatusCode.UNAVAILABLE, str(LeavingError()))
        # Not this task: gRPC would end the stream without telling the other side.
        stream = asyncio.create_task(self._take_many(read, write))
        self._streams.add(stream)
        stream.add_done_callback(self._forget)
        try:
            await asyncio.wait([stream])
        finally:
            stream.cancel()

    def close(self) -> None:
        """End all streams; what has not been answered on them may have been taken on or not."""
        self._is_closed = True
        for stream in self._streams:
            stream.cancel()

    def _forget(self, stream: asyncio.Task[None]) -> None:
        self._streams.discard(stream)
        if not stream.cancelled() and (error := stream.exception()) is not None:
            self._log.warning("registrations_broke", **describe(error))

    async def _take_many(self, read: Read, write: Write) -> None:
        writing = asyncio.Lock()

        async def answer(request: RegisterRequest) -> None:
            response = await self._answer(request)
            async with writing:
                await write(response)

        async with asyncio.TaskGroup() as group:
            while isinstance(request := await read(), RegisterRequest):
                if self._replica is None:
                    # Nothing is waited for, and a task would be.
                    await answer(request)
                else:
                    group.create_task(answer(request))

    async def _answer(self, request: RegisterRequest) -> RegisterResponse:
        response = RegisterResponse(number=request.number)
        try:
            response.id = await self.take(request)
        except NotKeptError as error:
            response.status = error.code.value[0]
        except Exception as error:  # noqa: BLE001  it must not cost the others of the stream
            self._log.error("registration_broke", **describe(error))
            response.status = _INTERNAL.value[0]
        return response
