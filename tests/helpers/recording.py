"""An upstream that records every request, byte by byte, and answers as a test tells it to."""

import asyncio
import itertools
import json
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from helpers.descriptions import ANSWERS
from helpers.http11 import Header, Message, read_message
from helpers.wsserver import serve_websocket

# Paths end so at OpenAI and at Azure.
CLIENT_SECRETS: Final = "client_secrets"
CALLS: Final = "calls"
# Answers any offer with an audio section followed by a data channel.
SDP_ANSWER: Final = ANSWERS["answer_openai_2026-08-17_ga_calls"]
JSON: Final = ("Content-Type", "application/json")
SDP: Final = ("Content-Type", "application/sdp")
_LIMIT_BYTES: Final = 256 * 1024
_REASONS: Final = {200: "OK", 201: "Created"}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the upstream answers.

    Attributes:
        headers: ``Content-Length`` is added.
        delay_s: Time before the first byte.
        held: If given, nothing is answered before it is set.
        hangs_up: The connection is closed instead of any answer.
    """

    status: int = 200
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    delay_s: float = 0
    held: asyncio.Event | None = None
    hangs_up: bool = False

    def to_bytes(self) -> bytes:
        """Return the answer as it goes over the wire."""
        lines = [*self.headers, ("Content-Length", str(len(self.body)))]
        head = "".join(f"{name}: {value}\r\n" for name, value in lines)
        reason = _REASONS.get(self.status, "Whatever")
        return f"HTTP/1.1 {self.status} {reason}\r\n{head}\r\n".encode("latin-1") + self.body


def error_reply(status: int, error: object, *headers: Header) -> Reply:
    """Return a provider's error."""
    return Reply(status, (JSON, *headers), json.dumps({"error": error}).encode())


@dataclass(slots=True)
class RecordingUpstream:
    """OpenAI and Azure in shape, on 127.0.0.1, on a port that the kernel chooses.

    Without a script it mints ``ek_upstream_N``, answers every offer with a captured answer, and
    echoes on WebSockets.

    Attributes:
        tls: Serve https with this context.
        received: All requests so far, in the order of their ends.
        script: By the last part of a path, what is answered instead of the default.
        connections: How many were accepted.
    """

    tls: ssl.SSLContext | None = None
    received: list[Message] = field(default_factory=list)
    script: dict[str, Reply] = field(default_factory=dict)
    connections: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _port: int = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, ssl=self.tls, limit=_LIMIT_BYTES
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end all connections."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, host: str = "127.0.0.1") -> str:
        """Return ``scheme://host:port``."""
        return f"{'http' if self.tls is None else 'https'}://{host}:{self._port}"

    def reset(self) -> None:
        """Forget what was received, and the script."""
        self.received.clear()
        self.script.clear()

    def received_at(self, ending: str) -> list[Message]:
        """Return the requests to paths that end so."""
        return [request for request in self.received if request.target.endswith("/" + ending)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    request = await read_message(reader)
                    self.received.append(request)
                    if request.header("upgrade") and ending_of(request) not in self.script:
                        await serve_websocket(request, reader, writer)
                        return
                    reply = self._reply_to(request)
                    await asyncio.sleep(reply.delay_s)
                    if reply.held is not None:
                        await reply.held.wait()
                    if reply.hangs_up:
                        return
                    writer.write(reply.to_bytes())
                    await writer.drain()
        except asyncio.CancelledError:
            # The loop ends; asyncio would log a cancelled handler as an error.
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _reply_to(self, request: Message) -> Reply:
        ending = ending_of(request)
        if ending in self.script:
            return self.script[ending]
        if ending == CLIENT_SECRETS:
            return minted_reply(f"ek_upstream_{next(self._numbers):08d}")
        if ending == CALLS:
            return call_reply(f"rtc_upstream_{next(self._numbers):08d}")
        return error_reply(404, {"message": "no such path", "type": "invalid_request_error"})


def ending_of(request: Message) -> str:
    """Return the last part of a request's path."""
    return request.target.partition("?")[0].rpartition("/")[2]


def minted_reply(ephemeral_key: str, *headers: Header, lifetime_s: int = 600) -> Reply:
    """Return OpenAI's answer to ``client_secrets``."""
    content = {
        "value": ephemeral_key,
        "expires_at": int(time.time()) + lifetime_s,
        "session": {"type": "realtime", "object": "realtime.session", "model": "gpt-realtime"},
    }
    return Reply(200, (JSON, *headers), json.dumps(content).encode())


def call_reply(call_id: str, *headers: Header) -> Reply:
    """Return OpenAI's answer to ``calls``."""
    location = ("Location", f"/v1/realtime/calls/{call_id}")
    return Reply(201, (SDP, location, *headers), SDP_ANSWER)
