"""The upstream's end of a WebSocket, for `helpers.recording`: it echoes."""

import asyncio
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from helpers.http11 import Message

# A text that makes the upstream close, with the code behind it.
CLOSE: Final = "close:"


async def serve_websocket(
    request: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take a handshake that was read already, and echo messages until either side closes."""
    protocol = ServerProtocol()
    protocol.receive_data(request.raw)
    (handshake,) = protocol.events_received()
    assert isinstance(handshake, Request)
    response = protocol.accept(handshake)
    # As providers: more than Envoy may pass on.
    response.headers["X-Provider-Internal"] = "sk-provider-internal-key"
    response.headers["Set-Cookie"] = "a=b"
    protocol.send_response(response)
    await _flush(protocol, writer)
    while protocol.state is not State.CLOSED:
        data = await reader.read(65536)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Frame):
                _echo(protocol, event)
        # What says goodbye hangs up, as providers do.
        if await _flush(protocol, writer) or not data:
            return


def _echo(protocol: ServerProtocol, frame: Frame) -> None:
    data = bytes(frame.data)
    if frame.opcode is Opcode.TEXT:
        text = data.decode()
        if text.startswith(CLOSE):
            protocol.send_close(int(text.removeprefix(CLOSE)), "the upstream says so")
        else:
            protocol.send_text(data, fin=frame.fin)
    elif frame.opcode is Opcode.BINARY:
        protocol.send_binary(data, fin=frame.fin)
    elif frame.opcode is Opcode.CONT:
        protocol.send_continuation(data, fin=frame.fin)


async def _flush(protocol: ServerProtocol, writer: asyncio.StreamWriter) -> bool:
    """Send what is to be sent; return whether that was all."""
    chunks = protocol.data_to_send()
    for data in chunks:
        if data:
            writer.write(data)
    await writer.drain()
    if b"" in chunks:
        writer.close()
    return b"" in chunks
