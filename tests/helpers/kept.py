"""Many requests over connections that are kept: what a flood costs is what it asks for."""

import asyncio
from collections.abc import Callable
from typing import Final

from helpers.http11 import Client, Message

# How often one request may meet a connection that was closed at that moment.
_TRIES: Final = 3


class Line:
    """Sends one request after the other over one connection, and takes a new one when it is closed.

    Args:
        port: Of 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._client: Client | None = None

    async def send(self, data: bytes) -> Message:
        """Return the answer to a request.

        A request whose connection ends before anything of an answer came is sent again.
        """
        for left in reversed(range(_TRIES)):
            client = self._client or await Client(self._port).__aenter__()
            self._client = client
            try:
                await client.write(data)
                answer = await client.read()
            except (ConnectionError, asyncio.IncompleteReadError):
                await self.close()
                if not left:
                    raise
            else:
                if answer.header("connection") == "close":
                    await self.close()
                return answer
        raise AssertionError

    async def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            await self._client.__aexit__(None, None, None)
            self._client = None


async def pour(
    port: int, data: bytes, count: int, at_once: int, check: Callable[[Message], None]
) -> None:
    """Send a request so many times over so many kept connections, and check every answer."""
    left = iter(range(count))

    async def one() -> None:
        line = Line(port)
        try:
            for _ in left:
                check(await line.send(data))
        finally:
            await line.close()

    await asyncio.gather(*(one() for _ in range(min(at_once, count))))
