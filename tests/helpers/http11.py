"""HTTP/1.1 byte by byte: what tests send and what they read, with nothing added or changed."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

Header = tuple[str, str]

_MAX_HEAD_BYTES: Final = 256 * 1024
_TIMEOUT_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it came.

    Attributes:
        start_line: Without the line end.
        headers: Names as they were written, in the order in which they came.
        body: Without the framing of ``Transfer-Encoding: chunked``.
        raw: Every byte, framing included.
    """

    start_line: str
    headers: tuple[Header, ...]
    body: bytes
    raw: bytes

    def values(self, name: str) -> list[str]:
        """Return the values of all lines of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str | None:
        """Return the value of a header that occurs at most once."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        """Names of all headers, in lower case."""
        return {name.lower() for name, _ in self.headers}

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start_line.split(" ")[0]

    @property
    def target(self) -> str:
        """Of a request: path and query as they were sent."""
        return self.start_line.split(" ")[1]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start_line.split(" ")[1])

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of an answer; checks its shape."""
        content = self.json()
        assert content.keys() == {"error"}
        error: dict[str, Any] = content["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert error["message"]
        return error


def request_bytes(
    method: str,
    target: str,
    headers: Iterable[Header] | Mapping[str, str] = (),
    body: bytes = b"",
    *,
    host: str = "ringback.example",
) -> bytes:
    """Return a request; ``host`` and, with a body or POST, ``content-length`` are added.

    A header of that name among the given ones takes the place of the added one.
    """
    lines = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name.lower() for name, _ in lines}
    if "host" not in given:
        lines.insert(0, ("host", host))
    framed = {"content-length", "transfer-encoding"} & given
    if not framed and (body or method == "POST"):
        lines.append(("content-length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def read_message(
    reader: asyncio.StreamReader, *, is_answer: bool = False, to_head: bool = False
) -> Message:
    """Read one message; answers of 1xx are passed over, but not 101.

    Args:
        reader: Must have a limit of at least 256 KiB.
        is_answer: Without framing, the body of an answer goes to the end of the connection.
        to_head: The answer is one to HEAD, or a 2xx to CONNECT, and has no body.

    Raises:
        asyncio.IncompleteReadError: If the connection ends before.
    """
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        start_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        if not is_answer or start_line.split(" ")[1] == "101" or start_line[9:10] != "1":
            break
    headers = tuple(_parse_line(line) for line in lines)
    fields = {name.lower(): value for name, value in headers}
    if to_head or start_line.split(" ")[1] in {"101", "204", "304"}:
        body = raw = b""
    elif "chunked" in fields.get("transfer-encoding", ""):
        body, raw = await _read_chunks(reader)
    elif "content-length" in fields:
        body = raw = await reader.readexactly(int(fields["content-length"]))
    else:
        body = raw = await reader.read() if is_answer else b""
    return Message(start_line, headers, body, head + raw)


class Client:
    """One connection to a server, kept until the end of the ``with`` block."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._port = port
        self._host = host
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, limit=_MAX_HEAD_BYTES
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def read(self, *, to_head: bool = False, timeout_s: float = _TIMEOUT_S) -> Message:
        """Read one answer.

        Raises:
            TimeoutError: If it does not come in time.
            asyncio.IncompleteReadError: If the connection ends before.
        """
        async with asyncio.timeout(timeout_s):
            return await read_message(self._reader, is_answer=True, to_head=to_head)


async def send(
    port: int, data: bytes, *, timeout_s: float = _TIMEOUT_S, host: str = "127.0.0.1"
) -> Message:
    """Send bytes over a connection of their own and return the answer to them.

    Raises:
        TimeoutError: If it does not come in time.
        asyncio.IncompleteReadError: If the connection ends before.
    """
    async with Client(port, host) as client:
        await client.write(data)
        return await client.read(to_head=data.startswith(b"HEAD "), timeout_s=timeout_s)


def _parse_line(line: str) -> Header:
    name, _, value = line.partition(":")
    return name, value.strip()


async def _read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    body, raw = b"", b""
    while True:
        size = await reader.readuntil(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        chunk = await reader.readexactly(length + 2)
        body += chunk[:-2]
        raw += size + chunk
        if length == 0:
            return body, raw
