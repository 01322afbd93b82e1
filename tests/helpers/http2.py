"""One HTTP/2 request in clear text, with prior knowledge (RFC 9113 section 3.3)."""

import asyncio
from collections.abc import Iterable
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)

from helpers.http11 import Header, Message

_STREAM: Final = 1
_TIMEOUT_S: Final = 20.0
_READ_BYTES: Final = 65536


class ResetError(Exception):
    """The server reset the stream or ended the connection instead of an answer."""


async def send_h2(
    port: int, method: str, path: str, headers: Iterable[Header] = (), body: bytes = b""
) -> Message:
    """Send a request to 127.0.0.1 and return the answer; its start line is ``HTTP/2 STATUS``.

    Raises:
        ResetError: If there is none.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # Nothing is checked or changed on the way out: some tests send what they should not.
    config = H2Configuration(
        header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = H2Connection(config)
    connection.initiate_connection()
    pseudo = [(":method", method), (":scheme", "http"), (":authority", "ringback.example")]
    lines = [*pseudo, *([(":path", path)] if path else []), *headers]
    connection.send_headers(_STREAM, lines, end_stream=not body)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await _exchange(connection, reader, writer, body)
    finally:
        writer.transport.abort()


async def _exchange(
    connection: H2Connection,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    body: bytes,
) -> Message:
    answer: list[Header] = []
    content = b""
    while True:
        body = _send_some(connection, body)
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(_READ_BYTES)
        if not data:
            raise ResetError
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                answer = [(str(name), str(value)) for name, value in event.headers]
            elif isinstance(event, DataReceived):
                content += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, _STREAM)
            elif isinstance(event, StreamEnded):
                return _message(answer, content)
            elif isinstance(event, StreamReset | ConnectionTerminated):
                # An answer before a reset that only stops the request is an answer.
                if answer and not isinstance(event, ConnectionTerminated):
                    return _message(answer, content)
                raise ResetError
            elif isinstance(event, WindowUpdated):
                continue


def _send_some(connection: H2Connection, body: bytes) -> bytes:
    """Send as much as the windows allow and return the rest."""
    while body:
        window = connection.local_flow_control_window(_STREAM)
        size = min(window, connection.max_outbound_frame_size, len(body))
        if size <= 0:
            break
        part, body = body[:size], body[size:]
        connection.send_data(_STREAM, part, end_stream=not body)
    return body


def _message(headers: list[Header], content: bytes) -> Message:
    status = dict(headers)[":status"]
    rest = tuple((name, value) for name, value in headers if not name.startswith(":"))
    return Message(f"HTTP/2 {status}", rest, content, content)
