"""A load that does not wait: requests leave when they are due, whether or not others were answered.

Raw HTTP/1.1 over kept connections, as cheap as Python can; for benchmarks and soaks.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, cast

_TICK_S: Final = 0.002


@dataclass(slots=True)
class Seen:
    """What became of requests.

    Attributes:
        times: By status, how many seconds each answer took.
        failed: Connections that ended instead of an answer.
    """

    times: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0

    def count(self, *statuses: int) -> int:
        """Return how many answers had one of these statuses."""
        return sum(len(self.times.get(status, ())) for status in statuses)

    def quantile(self, share: float, *statuses: int) -> float:
        """Return a quantile of the times of answers with these statuses, in seconds; 0 of none."""
        times = sorted(t for status in statuses for t in self.times.get(status, ()))
        return times[min(int(len(times) * share), len(times) - 1)] if times else 0.0


class _Connection(asyncio.Protocol):
    def __init__(self, load: "OpenLoop") -> None:
        self._load = load
        self._buffer = b""
        self._sent_at = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, data: bytes) -> None:
        self._sent_at = time.perf_counter()
        if self.transport is not None:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or not _is_whole(head, body):
            return
        status = int(self._buffer[9:12])
        self._load.seen.times.setdefault(status, []).append(time.perf_counter() - self._sent_at)
        self._buffer, self._sent_at = b"", 0.0
        self._load.free(self, may_stay=b"\r\nconnection: close" not in head)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.transport = None
        if self._sent_at:
            self._sent_at = 0.0
            self._load.seen.failed += 1
            self._load.free(self, may_stay=False)


def _is_whole(head: bytes, body: bytes) -> bool:
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    if found:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


class OpenLoop:
    """Sends requests to a port of 127.0.0.1.

    Args:
        port: The port.
        requests: Sent in turn, over and over.
    """

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self.seen = Seen()
        self._port = port
        self._requests = requests
        self._idle: deque[_Connection] = deque()
        self._number = 0
        self._busy = 0
        self._closed_loop_ends = 0.0
        self._left = 0
        self._sending: set[asyncio.Future[None]] = set()

    async def closed(self, at_once: int, seconds: float) -> float:
        """Send a request when the one before was answered, in so many lines; return their rate."""
        self._closed_loop_ends = time.perf_counter() + seconds
        began = time.perf_counter()
        for _ in range(at_once):
            await self._send()
        await self._settle()
        self._closed_loop_ends = 0.0
        return self.seen.count(200, 201) / (time.perf_counter() - began)

    async def exactly(self, count: int, at_once: int) -> None:
        """Send so many requests, each when one before was answered."""
        self._left = count - at_once
        for _ in range(at_once):
            await self._send()
        await self._settle(3600)

    async def open(self, rate: float, seconds: float) -> None:
        """Send so many requests per second, then wait for the last answers."""
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < seconds:
            due = int(now * rate)
            while sent < due:
                await self._send()
                sent += 1
            await asyncio.sleep(_TICK_S)
        await self._settle()

    def free(self, connection: _Connection, *, may_stay: bool) -> None:
        """Take a connection back whose request has ended."""
        self._busy -= 1
        if connection.transport is not None and not may_stay:
            connection.transport.close()
        elif connection.transport is not None:
            self._idle.append(connection)
        if self._left > 0 or time.perf_counter() < self._closed_loop_ends:
            self._left -= 1
            self._busy += 1
            task = asyncio.ensure_future(self._send_counted())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def close(self) -> None:
        """Hang up."""
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.abort()
        self._idle.clear()

    async def _send_counted(self) -> None:
        self._busy -= 1
        await self._send()

    def _next(self) -> bytes:
        self._number += 1
        return self._requests[self._number % len(self._requests)]

    async def _send(self) -> None:
        while self._idle:
            connection = self._idle.popleft()
            if connection.transport is not None and not connection.transport.is_closing():
                break
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        self._busy += 1
        connection.send(self._next())

    async def _settle(self, timeout_s: float = 30) -> None:
        deadline = time.perf_counter() + timeout_s
        while self._busy and time.perf_counter() < deadline:  # noqa: ASYNC110  simpler than an event
            await asyncio.sleep(_TICK_S)
