"""Asks callkeeper how calls are."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeVar

import grpc
from grpc import aio

from callsapi.v1.calls_pb2 import CallState, GetRequest, HangUpRequest, ListRequest
from callsapi.v1.calls_pb2_grpc import CallsStub
from extauthz.callcontrol import NoSuchCallError
from ringback.errors import ApiError
from ringback.grpcpeers import Peers
from ringback.logs import get_logger
from ringback.settings import ServiceSettings

_TIMEOUT_S: Final = 2.0
_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")


class CallStatesUnavailableError(ApiError):
    """callkeeper cannot be asked: 503."""

    http_status = 503
    type = "service_unavailable"
    code = "call_states_unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "Nobody can tell at the moment how calls are. Try again shortly."


class KeptCalls:
    """Asks the workers of callkeeper: all of them where each knows its own calls alone.

    Args:
        addresses: The setting ``supervision.callkeeper``.
        services: How they are reached.
        is_shared: Whether each of them knows the calls of all.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        services: ServiceSettings | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        self._workers = Peers(addresses, CallsStub, services or ServiceSettings())
        self._is_shared = is_shared
        self._telling: set[asyncio.Task[None]] = set()
        self._log = get_logger()

    def start(self) -> None:
        """Be ready to ask; needs a running event loop."""
        self._workers.start()

    async def stop(self) -> None:
        """Close all connections."""
        await asyncio.gather(*self._telling)
        await self._workers.stop()

    async def of(self, handle: str) -> CallState:
        """Return how a call is, or how it was when it ended some minutes ago.

        Raises:
            NoSuchCallError: If no worker knows it: 404.
            CallStatesUnavailableError: If one that might cannot be asked: 503.
        """
        request = GetRequest(call=handle)
        answers = await self._ask(lambda stub: stub.Get, request)
        errors: list[aio.AioRpcError] = []
        for answer in answers:
            if isinstance(answer, CallState):
                return answer
            errors.append(answer)
        for error in errors:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise self._unavailable(error)
        raise NoSuchCallError

    async def all_of(self, request: ListRequest) -> list[CallState]:
        """Return the calls that fit a request, oldest first.

        Raises:
            CallStatesUnavailableError: If a worker cannot be asked: 503.
        """
        answers = await self._ask(lambda stub: stub.List, request)
        found: list[CallState] = []
        for answer in answers:
            if isinstance(answer, aio.AioRpcError):
                raise self._unavailable(answer)
            found += answer.calls
        return sorted(found, key=lambda state: state.opened_at)

    def has_ended(self, handle: str) -> None:
        """Let callkeeper know that a call was hung up, beside the request that did it.

        If that fails it learns of the end a little later.
        """
        task = asyncio.create_task(self._tell_end(handle))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_end(self, handle: str) -> None:
        await self._ask(lambda stub: stub.HangUp, HangUpRequest(call=handle, has_ended=True))

    async def _ask(
        self,
        method: Callable[[CallsStub], aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]],
        request: _RequestT,
    ) -> list[_ResponseT | aio.AioRpcError]:
        if not self._is_shared:
            return await self._workers.ask_all(method, request, _TIMEOUT_S)
        try:
            answer: _ResponseT = await self._workers.ask(method, request, _TIMEOUT_S)
        except aio.AioRpcError as error:
            return [error]
        return [answer]

    def _unavailable(self, error: aio.AioRpcError) -> CallStatesUnavailableError:
        self._log.warning("callkeeper_unavailable", reason=error.code().name.lower())
        return CallStatesUnavailableError()
