"""The downstream's end of a WebSocket: handshakes byte by byte, and conversations."""

from collections.abc import Iterable, Sequence
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from helpers.gateway import Gateway
from helpers.http11 import Header, Message, request_bytes, send

UPGRADE: Final[tuple[Header, ...]] = (
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
# RFC 6455 section 1.3: what that key is answered with.
ACCEPT: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def shake_hands(
    gateway: Gateway, target: str, *headers: Header, method: str = "GET"
) -> Message:
    """Send a handshake and return the answer; the connection is closed behind it."""
    return await send(gateway.port, request_bytes(method, target, [*UPGRADE, *headers]))


def converse(
    gateway: Gateway,
    target: str,
    headers: Iterable[Header] = (),
    *,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
) -> connect:
    """Open a WebSocket, as a client that is no browser unless it has an origin."""
    return connect(
        f"ws://127.0.0.1:{gateway.port}{target}",
        additional_headers=list(headers),
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        origin=None if origin is None else Origin(origin),
        proxy=None,
        open_timeout=10,
        # Envoy leaves a connection that it ends open for a second more.
        close_timeout=0.1,
    )


async def echoed(connection: ClientConnection, message: str | bytes) -> str | bytes:
    """Send a message and return what comes back."""
    await connection.send(message)
    return await connection.recv()
