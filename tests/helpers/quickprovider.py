"""A provider that answers at once and remembers nothing, in a process of its own."""

import asyncio
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

from helpers.descriptions import ANSWERS

_SDP = ANSWERS["answer_openai_2026-08-17_ga_calls"]


class _Provider(asyncio.Protocol):
    """Answers `client_secrets` and `calls`; everything that arrives is one request at a time."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        lower = head.lower()
        _, sized, rest = lower.partition(b"\r\ncontent-length: ")
        if not found or (sized and len(body) < int(rest.partition(b"\r\n")[0])):
            return
        if not sized and b"chunked" in lower and not body.endswith(b"0\r\n\r\n"):
            return
        self._buffer = b""
        answer = _minted() if b"client_secrets" in head[:60] else _called()
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _minted() -> bytes:
    session = {"type": "realtime", "object": "realtime.session", "model": "gpt-realtime"}
    content = {
        "value": "ek_of_a_provider_that_is_made_up",
        "expires_at": int(time.time()) + 7200,
        "session": session,
    }
    return _answer(b"200 OK", b"application/json", json.dumps(content).encode())


def _called() -> bytes:
    location = b"\r\nLocation: /v1/realtime/calls/rtc_of_this_provider"
    return _answer(b"201 Created", b"application/sdp" + location, _SDP)


def _answer(status: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def _serve(told: Connection, delay_s: float) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Provider(delay_s), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def provider(delay_s: float = 0) -> Iterator[int]:
    """Give the port of a provider that takes so long for each answer."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, delay_s), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()
