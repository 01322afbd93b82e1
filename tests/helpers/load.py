"""Many requests at once, and requests that go on while something else happens."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from helpers.http11 import Message

Send = Callable[[], Awaitable[Message]]

_PAUSE_S: Final = 0.005


async def flood(send: Send, count: int = 200, at_once: int = 25) -> list[Message]:
    """Send a number of requests, some at a time, and return all answers."""
    turns = asyncio.Semaphore(at_once)

    async def one() -> Message:
        async with turns:
            return await send()

    return list(await asyncio.gather(*(one() for _ in range(count))))


class Load:
    """Sends one request after another, in several lines, between the ends of a ``with`` block.

    Attributes:
        answers: All answers so far.
        failures: What came instead of an answer.
    """

    def __init__(self, send: Send, lines: int = 4) -> None:
        self.answers: list[Message] = []
        self.failures: list[str] = []
        self._send = send
        self._lines = lines
        self._ends = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter(answer.status for answer in self.answers)

    async def more(self, count: int = 20, timeout_s: float = 20) -> None:
        """Wait for so many further answers."""
        goal = len(self.answers) + len(self.failures) + count
        async with asyncio.timeout(timeout_s):
            while len(self.answers) + len(self.failures) < goal:  # noqa: ASYNC110  as it is simpler
                await asyncio.sleep(_PAUSE_S)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._line()) for _ in range(self._lines)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ends.set()
        await asyncio.gather(*self._tasks)

    async def _line(self) -> None:
        while not self._ends.is_set():
            try:
                self.answers.append(await self._send())
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as failure:
                self.failures.append(repr(failure))
            await asyncio.sleep(_PAUSE_S)
