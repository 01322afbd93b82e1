"""ICE over TCP (RFC 6544) in front of a peer that has UDP alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

_LENGTH_BYTES: Final = 2


class TcpRelay:
    """Takes connections and relays their packets, each framed by its length (RFC 4571)."""

    address: Final = "127.0.0.2"
    """Another one than the peer's, for policies to tell them apart."""

    def __init__(self) -> None:
        self.port = 0
        """Never 443: libwebrtc believes that port of public addresses only."""

        self.udp_port = 0
        """Where the peer is at 127.0.0.1; for connections from now on."""

        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def candidate(self) -> str:
        """The line of an answer that leads here, worse than any of UDP."""
        return f"a=candidate:1 1 tcp 1 {self.address} {self.port} typ host tcptype passive\r\n"

    async def listen(self) -> asyncio.Server:
        """Begin to listen."""
        server = await asyncio.start_server(self._serve, self.address, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(cast("asyncio.Task[None]", asyncio.current_task()))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Back(writer), remote_addr=("127.0.0.1", self.udp_port)
        )
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
                transport.sendto(await reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client hung up
        finally:
            transport.close()
            writer.close()


class _Back(asyncio.DatagramProtocol):
    """Packets of the peer, to the client."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  its interface
        """Frame one."""
        self._writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)


@asynccontextmanager
async def tcp_relay() -> AsyncIterator[TcpRelay]:
    """Run a relay."""
    relay = TcpRelay()
    server = await relay.listen()
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
