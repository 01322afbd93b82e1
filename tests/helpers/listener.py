"""A server that answers each request with given bytes, good or bad, and records the request."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from helpers.http11 import Message, read_message
from helpers.recording import JSON, Reply

_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request gets.

    Attributes:
        data: Sent as it is.
        then: What becomes of the connection: it is kept, closed, cut off, or nothing more comes.
        delay_s: Time before anything.
    """

    data: bytes = b""
    then: Literal["keep", "close", "reset", "hang"] = "keep"
    delay_s: float = 0


class Listener:
    """Listens on 127.0.0.1 between the ends of `listening`.

    Attributes:
        port: Where.
        requests: All that were received, in the order in which they ended.
        received: Set once the first request is there.
        connections: How many were accepted.
        turns: What the next requests get; one that finds none gets no answer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Message] = []
        self.received = asyncio.Event()
        self.connections = 0
        self.turns: deque[Turn] = deque()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Return ``http://host:port``."""
        return f"http://127.0.0.1:{self.port}"

    def reply(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Answer the next request with JSON."""
        self.turns.append(Turn(Reply(status, (JSON, *headers), body).to_bytes()))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self._writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    self.requests.append(await read_message(reader))
                    self.received.set()
                    turn = self.turns.popleft() if self.turns else Turn(then="hang")
                    if await self._take(turn, writer) != "keep":
                        return
        finally:
            self._writers.discard(writer)
            writer.close()

    def cut(self) -> None:
        """Cut off all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, turn: Turn, writer: asyncio.StreamWriter) -> str:
        await asyncio.sleep(turn.delay_s)
        writer.write(turn.data)
        await writer.drain()
        if turn.then == "reset":
            writer.transport.abort()
        if turn.then == "hang":
            await asyncio.Event().wait()
        return turn.then


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """Run a `Listener` on a port that the kernel chooses."""
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, limit=_LIMIT_BYTES)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener
        server.close()
        listener.cut()
