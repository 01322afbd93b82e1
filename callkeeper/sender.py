"""Sends events on one sideband: one after another, and whoever hands them over does not wait."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import ClientWebSocketResponse

from callkeeper.metrics import UNSENT

# A provider that does not read for so long is as good as gone.
_SEND_S: Final = 10.0
# More than anybody has to say who waits for answers.
_WAITING: Final = 32


class Sender:
    """Sends what it is given in this order, in a task that is there only while there is something.

    A sideband that does not take it is closed: whoever listens attaches again.

    Args:
        socket: Attached.
        send_s: How long one event may take, in seconds.
    """

    __slots__ = ("_send_s", "_socket", "_task", "_waiting")

    def __init__(self, socket: ClientWebSocketResponse, send_s: float = _SEND_S) -> None:
        self._socket = socket
        self._send_s = send_s
        self._waiting: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Send an event soon."""
        if self._socket.closed or len(self._waiting) >= _WAITING:
            UNSENT.inc()
            return
        self._waiting.append(json.dumps(event))
        if self._task is None:
            self._task = asyncio.create_task(self._send_all())

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                async with asyncio.timeout(self._send_s):
                    await self._socket.send_str(self._waiting[0])
                self._waiting.popleft()
        except OSError:  # TimeoutError and ConnectionError are some
            UNSENT.inc(len(self._waiting))
            self._waiting.clear()
            await self._socket.close()
        finally:
            self._task = None
