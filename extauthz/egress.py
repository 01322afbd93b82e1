"""Requests to upstreams through Envoy's egress listener, which pools connections and does TLS."""

import asyncio
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from httpx_aiohttp import AiohttpTransport

from extauthz.providers.base import UpstreamRequest
from ringback import __version__
from ringback.contract import CLUSTER_HEADER, EGRESS_MARK_HEADER
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError, UpstreamUnreachableError

USER_AGENT: Final = f"ringback/{__version__}"
# A client secret with a long session configuration has a few kB.
MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_CONNECTIONS: Final = 1024
# Envoy's own idle timeout is an hour; we let go first.
_KEEPALIVE_S: Final = 300


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """What an upstream answered.

    Attributes:
        headers: Names in lower case.
    """

    status: int
    headers: dict[str, str]
    body: bytes


class Egress:
    """An HTTP client that knows one address: Envoy's egress listener.

    Cookies are never kept: all upstreams share that address, and one provider's cookie is none of
    another's business.

    Args:
        url: ``http://host:port`` of the listener.
    """

    def __init__(self, url: str) -> None:
        # Plain HTTP on loopback: Envoy originates TLS. Without `verify` no CA file is read.
        transport = AiohttpTransport(verify=False, client=_session)
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,  # noqa: S113  every request runs under its own deadline below
        )

    async def post(
        self, request: UpstreamRequest, body: bytes, *, timeout_s: float
    ) -> UpstreamAnswer:
        """Send one request and read the whole answer.

        A connection that turns out to be closed is replaced once: an ephemeral key that nobody
        received costs nothing.

        Args:
            request: Where to, and with which credentials.
            body: JSON.
            timeout_s: For everything, in seconds.

        Raises:
            UpstreamTimeoutError: If that time is over: 504.
            UpstreamUnreachableError: If no connection could be made: 503.
            UpstreamFailedError: If the answer is too large: 502.
        """
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._post(request, body)
                except httpx.TransportError:
                    return await self._post(request, body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise UpstreamTimeoutError from error
        except httpx.HTTPError as error:
            raise UpstreamUnreachableError from error

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _post(self, request: UpstreamRequest, body: bytes) -> UpstreamAnswer:
        headers = {name: value.reveal() for name, value in request.headers.items()}
        headers |= {
            "host": request.origin.authority,
            "user-agent": USER_AGENT,
            "accept-encoding": "identity",
            CLUSTER_HEADER: request.origin.cluster,
        }
        async with self._client.stream(
            "POST", request.path, headers=headers, content=body
        ) as response:
            answered = {name.lower(): value for name, value in response.headers.items()}
            if EGRESS_MARK_HEADER in answered:
                raise (
                    UpstreamTimeoutError
                    if response.status_code == 504
                    else (UpstreamUnreachableError)
                )
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise UpstreamFailedError
            return UpstreamAnswer(response.status_code, answered, bytes(content))


def _session() -> ClientSession:
    connector = TCPConnector(
        limit=_MAX_CONNECTIONS, keepalive_timeout=_KEEPALIVE_S, use_dns_cache=False
    )
    return ClientSession(connector=connector, cookie_jar=DummyCookieJar())
