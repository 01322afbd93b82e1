"""Short HTTP requests to Envoy: is it ready, and let it drain."""

import asyncio
import http.client
import io
import json
import socket
from collections.abc import Awaitable
from contextlib import closing, suppress
from typing import Final, cast

from ringback.contract import INGRESS_LISTENER, READY_PATH
from ringback.render.bootstrap import Address

_ACTIVE_STAT: Final = f"http.{INGRESS_LISTENER}.downstream_rq_active"
_TIMEOUT_S: Final = 2.0


async def is_ready(ingress: Address) -> bool:
    """Tell whether Envoy and both services answer as they must for a call."""
    answer = await _ask(ingress, "GET", READY_PATH)
    return answer is not None and answer[0] == 200


async def is_listening(address: Address) -> bool:
    """Tell whether something accepts connections at an address."""
    return await _connects(asyncio.open_connection(address.host, address.port))


async def is_accepting(path: str) -> bool:
    """Tell whether something accepts connections at a Unix socket."""
    return await _connects(asyncio.open_unix_connection(path))


async def _connects(opening: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> bool:
    try:
        _, writer = await opening
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def drain(admin: Address) -> None:
    """Make Envoy end each connection with its next answer, and accept none from downstreams."""
    await _ask(admin, "POST", "/healthcheck/fail")
    # Not the egress listener: extauthz needs it until the last mint is answered.
    await _ask(admin, "POST", "/drain_listeners?inboundonly")


async def count_requests(admin: Address) -> int:
    """Return the number of downstream requests that Envoy is serving; 0 if it does not say."""
    answer = await _ask(admin, "GET", f"/stats?filter=^{_ACTIVE_STAT}$")
    if answer is None:
        return 0
    _, _, count = answer[1].decode("ascii", "replace").partition(":")
    return int(count) if count.strip().isdigit() else 0


async def envoy_version(admin: Address) -> str:
    """Return what Envoy calls its version, for example ``1.40.0``; empty if it does not say."""
    answer = await _ask(admin, "GET", "/server_info")
    try:
        said = json.loads(answer[1])["version"] if answer else ""
    except (ValueError, KeyError):
        return ""
    # It says COMMIT/VERSION/STATE/KIND/TLS.
    parts = said.split("/")
    return parts[1] if len(parts) > 1 else ""


async def _ask(address: Address, method: str, path: str) -> tuple[int, bytes] | None:
    """Return status and body, or None if there is no answer in time.

    NOTE: no thread may come of this, or the process could not be forked any more.
    """
    request = f"{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with closing(writer):
                writer.write(request.encode("ascii"))
                return _parse(await reader.read())
    except (OSError, TimeoutError, http.client.HTTPException):
        return None


class _Received:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parse(data: bytes) -> tuple[int, bytes]:
    answer = http.client.HTTPResponse(cast("socket.socket", _Received(data)))
    answer.begin()
    return answer.status, answer.read()
