"""Asks the workers of another of our services over gRPC."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import grpc
from grpc import aio

_StubT = TypeVar("_StubT")
_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")

_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    # A worker that was restarted is found at once; by default that can take two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# Says that a worker is down, and nothing about the request.
_DOWN: Final = grpc.StatusCode.UNAVAILABLE


class Peers(Generic[_StubT]):
    """The workers of one service, each with an address of its own.

    Args:
        addresses: ``unix:/path`` or ``host:port``, at least one.
        stub: The generated class of the service.
    """

    def __init__(self, addresses: Sequence[str], stub: Callable[[aio.Channel], _StubT]) -> None:
        self._addresses = tuple(addresses)
        self._make_stub = stub
        self._channels: list[aio.Channel] = []
        self._stubs: list[_StubT] = []
        self._turns = itertools.count()

    def start(self) -> None:
        """Connect as soon as something is asked; needs a running event loop."""
        self._channels = [
            aio.insecure_channel(address, options=_OPTIONS) for address in self._addresses
        ]
        self._stubs = [self._make_stub(channel) for channel in self._channels]

    async def ask(
        self,
        method: Callable[[_StubT], aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]],
        request: _RequestT,
        timeout_s: float,
    ) -> _ResponseT:
        """Return the answer of a worker: of the next one if one is down.

        So what is asked must be the same if it is done twice.

        Args:
            method: Picks the method of a stub.
            request: What is asked.
            timeout_s: For all workers together, in seconds.

        Raises:
            grpc.aio.AioRpcError: If no worker answers, or one does with an error.
        """
        deadline = time.monotonic() + timeout_s
        first = next(self._turns)
        last = len(self._stubs) - 1
        for number in range(len(self._stubs)):
            stub = self._stubs[(first + number) % len(self._stubs)]
            try:
                return await method(stub)(request, timeout=deadline - time.monotonic())
            except aio.AioRpcError as error:
                if error.code() is not _DOWN or number == last:
                    raise
        raise RuntimeError("start() comes first")

    async def ask_all(
        self,
        method: Callable[[_StubT], aio.UnaryUnaryMultiCallable[_RequestT, _ResponseT]],
        request: _RequestT,
        timeout_s: float,
    ) -> list[_ResponseT | aio.AioRpcError]:
        """Return what each worker answers, in the order of their addresses.

        Args:
            method: Picks the method of a stub.
            request: What is asked.
            timeout_s: For each of them, in seconds.
        """

        async def one(stub: _StubT) -> _ResponseT | aio.AioRpcError:
            try:
                return await method(stub)(request, timeout=timeout_s)
            except aio.AioRpcError as error:
                return error

        return await asyncio.gather(*map(one, self._stubs))

    async def stop(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            await channel.close()
