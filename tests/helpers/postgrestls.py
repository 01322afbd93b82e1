"""TLS in front of a Postgres that was built without it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

# PostgreSQL's protocol, section 54.7, SSLRequest: the length of 8 bytes, and 80877103.
_SSL_REQUEST: Final = (8).to_bytes(4) + (80877103).to_bytes(4)
_GONE: Final = (OSError, EOFError, ssl.SSLError)


@asynccontextmanager
async def tls_in_front(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Give a port of 127.0.0.1 which speaks TLS with who asks for it, and plain text otherwise.

    Args:
        port: Of the server behind it.
        context: With a certificate.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*_GONE):
            first = await reader.readexactly(8)
            if first == _SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(context)
                first = b""
            behind, ahead = await asyncio.open_connection("127.0.0.1", port)
            ahead.write(first)
            pumps = asyncio.gather(_pump(reader, ahead), _pump(behind, writer))
            with suppress(*_GONE):
                await pumps
            ahead.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_GONE):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
