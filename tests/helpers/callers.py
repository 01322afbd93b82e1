"""Clients of a gateway that is about to end."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, Self

from helpers.http11 import Client
from helpers.waiting import until

LINES: Final = 8


@dataclass(slots=True)
class Callers:
    """Clients that send calls over kept connections, one after the other.

    Attributes:
        port: Of 127.0.0.1.
        data: The request.
        stay_away: Whether a client whose connection was ended in good order goes elsewhere, as a
            load balancer would send it.
        statuses: Of all answers.
        lost: Requests that were sent and not answered.
    """

    port: int
    data: bytes
    stay_away: bool
    statuses: list[int] = field(default_factory=list)
    lost: int = 0
    _ends: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._line()) for _ in range(LINES)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Let each client end after its last answer."""
        self._ends.set()
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait for so many further answers."""
        goal = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= goal)

    async def _line(self) -> None:
        is_welcome = True
        while is_welcome and not self._ends.is_set():
            async with Client(self.port) as client:
                is_kept = True
                while is_kept and not self._ends.is_set():
                    try:
                        await client.write(self.data)
                        answer = await client.read()
                    except (ConnectionError, asyncio.IncompleteReadError):
                        self.lost += 1
                        return
                    self.statuses.append(answer.status)
                    is_kept = answer.header("connection") != "close"
            is_welcome = not self.stay_away
