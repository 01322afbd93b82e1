"""Sends JSON over HTTP, for sinks."""

import ssl
from collections.abc import Mapping
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from callkeeper.sinks.base import SinkRefusedError, SinkUnavailableError
from ringback import __version__

_CONNECTIONS: Final = 16
# The content is to blame, so that another try would fare no better.
_REFUSED: Final = frozenset({400, 413, 415, 422})


class Poster:
    """Sends to one URL.

    Args:
        url: ``http://`` or ``https://``.
        tls: What checks certificates, for ``https``.
        timeout_s: For one request.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._url, self._tls = url, tls
        self._timeout = ClientTimeout(total=timeout_s)
        self._session: ClientSession | None = None

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send JSON; returns when it was taken.

        Raises:
            SinkUnavailableError: If it was not, or nobody knows.
            SinkRefusedError: If it never will be.
        """
        if self._session is None:
            connector = TCPConnector(limit=_CONNECTIONS, ssl=self._tls or True)
            self._session = ClientSession(connector=connector, cookie_jar=DummyCookieJar())
        given = {
            "content-type": "application/json",
            "user-agent": f"ringback/{__version__}",
            **headers,
        }
        try:
            async with self._session.post(
                self._url, data=body, headers=given, timeout=self._timeout, allow_redirects=False
            ) as answer:
                status = answer.status
        except (ClientError, OSError) as error:  # TimeoutError is one
            raise SinkUnavailableError(type(error).__name__) from None
        if status in _REFUSED:
            raise SinkRefusedError(str(status))
        if not 200 <= status < 300:
            raise SinkUnavailableError(str(status))

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
