"""Registers calls at callkeeper, on one stream to each worker: for half of what requests cost."""

import asyncio
import itertools
import time
from contextlib import suppress
from typing import Final

import grpc
from grpc import aio

from callsapi.v1.calls_pb2 import RegisterRequest, RegisterResponse
from callsapi.v1.calls_pb2_grpc import CallsStub
from ringback.background import Background
from ringback.grpcpeers import Peers

# After that a stream is replaced, since a name may stand for several workers, and for others later.
_LASTS_S: Final = 10.0
_WORDS: Final = {code.value[0]: code.name.lower() for code in grpc.StatusCode}
# Says that a worker is down or leaves, and nothing about the call.
_DOWN: Final = "unavailable"


class NotRegisteredError(Exception):
    """No worker has said that it keeps a call.

    Args:
        why: A stable word: the name of a status of gRPC in lower case.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def __str__(self) -> str:
        return f"callkeeper does not keep the call: {self.why}"


class Registrations:
    """Asks workers in turn, the next one if one is down.

    Args:
        workers: Of callkeeper; started and stopped elsewhere.
        timeout_s: For one call, whoever is asked.
        lasts_s: How long a stream is used.
    """

    def __init__(
        self, workers: Peers[CallsStub], timeout_s: float, lasts_s: float = _LASTS_S
    ) -> None:
        self._workers, self._timeout_s, self._lasts_s = workers, timeout_s, lasts_s
        self._turns = itertools.count()
        self._current: dict[int, _Stream] = {}
        self._background = Background()

    async def add(self, request: RegisterRequest) -> None:
        """Return when a call is kept.

        Args:
            request: The call; its number is overwritten.

        Raises:
            NotRegisteredError: If it may not be.
        """
        first, count, why = next(self._turns), len(self._workers.stubs), _DOWN
        try:
            async with asyncio.timeout(self._timeout_s):
                for number in range(count):
                    why = await self._ask((first + number) % count, request)
                    if why != _DOWN:
                        break
        except TimeoutError:
            raise NotRegisteredError("deadline_exceeded") from None
        if why != "ok":
            raise NotRegisteredError(why)

    async def stop(self) -> None:
        """End all streams, whatever waits on them."""
        await self._background.stop()

    async def _ask(self, worker: int, request: RegisterRequest) -> str:
        """Return what a worker says; that a stream broke that was there before says nothing."""
        while True:
            stream, is_new = self._current.get(worker), False
            if stream is None or not stream.is_usable(self._lasts_s):
                stream, is_new = self._replace(worker, stream), True
            response = await stream.ask(request)
            if response is not None:
                return _WORDS.get(response.status, "unknown")
            if is_new:
                return _DOWN

    def _replace(self, worker: int, old: "_Stream | None") -> "_Stream":
        stream = _Stream(self._workers.stubs[worker], self._background)
        self._current[worker] = stream
        if old is not None:
            self._background.spawn(old.retire())
        return stream


class _Stream:
    """One stream to one worker; it lasts as long as the task `reading`.

    Args:
        stub: The worker's.
        background: For `reading`.
    """

    def __init__(self, stub: CallsStub, background: Background) -> None:
        self._opened_at = time.monotonic()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[RegisterResponse | None]] = {}
        self._writing = asyncio.Lock()
        self._is_broken = False
        self._rpc = stub.RegisterMany()
        self.reading: Final = background.spawn(self._read())

    def is_usable(self, lasts_s: float) -> bool:
        """Whether it is neither over nor too old, and nobody has waited for an answer too long."""
        is_over = self._is_broken or self.reading.done()
        return not is_over and time.monotonic() - self._opened_at < lasts_s

    async def retire(self) -> None:
        """End it when all that waits is answered."""
        with suppress(aio.AioRpcError):
            async with self._writing:
                await self._rpc.done_writing()

    async def ask(self, request: RegisterRequest) -> RegisterResponse | None:
        """Return the answer; None if the stream ends before it came."""
        request.number = number = next(self._numbers)
        answer: asyncio.Future[RegisterResponse | None]
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            async with self._writing:
                await self._rpc.write(request)
            return await answer
        except (aio.AioRpcError, asyncio.InvalidStateError):
            # Perhaps before `reading` has noticed.
            self._is_broken = True
            return None
        except asyncio.CancelledError:
            self._is_broken = True
            raise
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        try:
            while isinstance(response := await self._rpc.read(), RegisterResponse):
                self._answer(response.number, response)
        except aio.AioRpcError:
            pass  # who waits asks for another stream
        finally:
            for number in self._waiting:
                self._answer(number, None)

    def _answer(self, number: int, response: RegisterResponse | None) -> None:
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(response)
