"""Requests about a call, by whichever way the settings name: its sideband, and its hangup."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    ClientWebSocketResponse,
    ClientWSTimeout,
    DummyCookieJar,
    TCPConnector,
    WSMsgType,
    WSServerHandshakeError,
)

from callkeeper.errors import NotThereError, UpstreamError
from callkeeper.reach import Reach
from callkeeper.way import Way
from ringback import __version__
from ringback.contract import CLUSTER_HEADER
from ringback.secrets import Secret

_HANDSHAKE_S: Final = 10.0
_HANGUP_S: Final = 10.0
# Also what tells that the other side is gone without a word.
_HEARTBEAT_S: Final = 20.0
# The longest event that is heeded is the end of a response, with all that it said.
_MAX_EVENT_BYTES: Final = 4 * 1024 * 1024
# The same call is asked for with the other credential after one of these.
_TRY_OTHER: Final = frozenset({401, 403, 404})


class Egress:
    """A client of providers.

    Args:
        way: How they are reached.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._session: ClientSession | None = None

    def start(self) -> None:
        """Be ready to connect; needs a running event loop."""
        self._session = ClientSession(
            # However many calls there are: each has a connection.
            connector=TCPConnector(limit=0, ssl=self._way.tls or True),
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=("accept-encoding",),
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def attach(self, reach: Reach) -> ClientWebSocketResponse:
        """Open the sideband of a call.

        With the standard credential first; sources disagree on which one a call that was opened
        with an ephemeral key wants. What the ephemeral key does not find may go on: only what the
        standard credential does not find either is not there.

        Raises:
            NotThereError: If the provider knows no such call, whatever it is shown.
            UpstreamError: If it cannot be asked, or does not let the standard credential in.
        """
        try:
            return await self._open(reach, reach.headers)
        except WSServerHandshakeError as error:
            status = error.status
        if status in _TRY_OTHER and reach.ephemeral_headers:
            try:
                return await self._open(reach, reach.ephemeral_headers)
            except WSServerHandshakeError as error:
                # An ephemeral key that has expired says nothing about the call.
                if status == 404 and error.status not in _TRY_OTHER:
                    status = error.status
        if status == 404:
            raise NotThereError
        raise UpstreamError(str(status))

    async def _open(self, reach: Reach, headers: Mapping[str, Secret]) -> ClientWebSocketResponse:
        try:
            async with asyncio.timeout(_HANDSHAKE_S):
                return await self._client.ws_connect(
                    self._url(reach, reach.sideband_path),
                    headers=self._headers(reach, headers),
                    heartbeat=_HEARTBEAT_S,
                    max_msg_size=_MAX_EVENT_BYTES,
                    timeout=ClientWSTimeout(ws_close=2.0),
                )
        except WSServerHandshakeError:
            raise
        except (ClientError, OSError) as error:  # TimeoutError is one
            raise UpstreamError(type(error).__name__) from None

    async def hang_up(self, reach: Reach) -> None:
        """End a call.

        Raises:
            NotThereError: If there is no such call any more, or not yet.
            UpstreamError: If the provider does not confirm.
        """
        try:
            async with self._client.post(
                self._url(reach, reach.hangup_path),
                headers=self._headers(reach, reach.headers) | {"content-length": "0"},
                timeout=ClientTimeout(total=_HANGUP_S),
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except (ClientError, OSError) as error:
            raise UpstreamError(type(error).__name__) from None
        if status == 404:
            raise NotThereError
        if not 200 <= status < 300:
            raise UpstreamError(str(status))

    def _url(self, reach: Reach, path: str) -> str:
        return self._way.base(reach.origin) + path

    def _headers(self, reach: Reach, headers: Mapping[str, Secret]) -> dict[str, str]:
        cluster = {CLUSTER_HEADER: reach.cluster} if self._way.is_listener else {}
        return {
            **{name: value.reveal() for name, value in headers.items()},
            "host": reach.authority,
            "user-agent": f"ringback/{__version__}",
            **cluster,
        }

    @property
    def _client(self) -> ClientSession:
        if self._session is None:
            raise RuntimeError("start() comes first")
        return self._session


async def texts_of(socket: ClientWebSocketResponse) -> AsyncIterator[str]:
    """Give the messages of a sideband until it is closed, by whomever."""
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            yield message.data
