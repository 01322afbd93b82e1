"""Requests to upstreams over connections that are kept, by whichever way the settings name."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import httpx
from aiohttp import (
    ClientError,
    ClientSession,
    DummyCookieJar,
    ServerTimeoutError,
    TCPConnector,
)
from httpx_aiohttp import AiohttpTransport

from extauthz.deployments import Origin
from extauthz.egressway import Way, listener_way
from extauthz.metrics import UPSTREAM_ERRORS
from extauthz.providers.base import USER_AGENT, UpstreamRequest
from ringback import tracing
from ringback.contract import CLUSTER_HEADER, EGRESS_MARK_HEADER
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError, UpstreamUnreachableError

# A client secret with a long session configuration has a few kB.
MAX_ANSWER_BYTES: Final = 1024 * 1024
_MAX_CONNECTIONS: Final = 1024
_MAX_URLS: Final = 1024


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
    """An HTTP client for upstreams.

    Cookies are never kept: upstreams may share an address, and one provider's cookie is none of
    another's business.

    Args:
        way: How upstreams are reached.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        # Of providers, whose paths are few and hold no secret: to parse one takes as long as the
        # rest of a request.
        self._provider_url = lru_cache(maxsize=_MAX_URLS)(self._url)
        # The transport without httpx's client around it, which would look for redirects, cookies,
        # proxies and credentials that we do not want, and take longer for it than for the request.
        # Its own TLS is not used, so without `verify` it reads no CA file: `_session` has ours.
        self._transport = AiohttpTransport(verify=False, client=self._session)

    @classmethod
    def through(cls, url: str) -> Self:
        """Return the client of Envoy's egress listener at ``http://host:port``."""
        return cls(listener_way(url))

    async def post(
        self, request: UpstreamRequest, body: bytes, *, timeout_s: float, is_repeatable: bool = True
    ) -> UpstreamAnswer:
        """Send one request to a provider and read the whole answer.

        Args:
            request: Where to, and with which credentials.
            body: JSON.
            timeout_s: For everything, in seconds.
            is_repeatable: As in `send`.

        Raises:
            ApiError: As `send` does.
        """
        return await self._send(
            "POST",
            self._provider_url(request.origin, request.path),
            request.origin,
            request.headers,
            body,
            timeout_s=timeout_s,
            max_bytes=MAX_ANSWER_BYTES,
            is_repeatable=is_repeatable,
        )

    async def send(
        self,
        method: str,
        origin: Origin,
        path: str,
        headers: Mapping[str, Secret],
        body: bytes = b"",
        *,
        timeout_s: float,
        max_bytes: int = MAX_ANSWER_BYTES,
        is_repeatable: bool = True,
    ) -> UpstreamAnswer:
        """Send one request and read the whole answer.

        Args:
            method: For example ``POST``.
            origin: Where to; an egress listener must have its cluster (`extauthz.services`).
            path: With its query, if any.
            headers: Names in lower case.
            body: None is sent if it is empty.
            timeout_s: For everything, in seconds.
            max_bytes: How long the answer may be.
            is_repeatable: Whether the request is sent again, once, if nothing at all comes back:
                what it asks for may then happen twice.

        Raises:
            UpstreamTimeoutError: If that time is over: 504.
            UpstreamUnreachableError: If nothing answers: 503.
            UpstreamFailedError: If the answer is no HTTP, cut off or too large: 502.
        """
        return await self._send(
            method,
            self._url(origin, path),
            origin,
            headers,
            body,
            timeout_s=timeout_s,
            max_bytes=max_bytes,
            is_repeatable=is_repeatable,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def _url(self, origin: Origin, path: str) -> httpx.URL:
        return self._way.base(origin).copy_with(raw_path=httpx.URL(path).raw_path)

    def _session(self) -> ClientSession:
        way = self._way
        connector = TCPConnector(
            # True: never used, and would check by what the machine trusts.
            ssl=way.tls or True,
            limit=_MAX_CONNECTIONS,
            keepalive_timeout=way.keepalive_s,
            use_dns_cache=not way.is_listener,
        )
        return ClientSession(connector=connector, cookie_jar=DummyCookieJar())

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        origin: Origin,
        headers: Mapping[str, Secret],
        body: bytes,
        *,
        timeout_s: float,
        max_bytes: int,
        is_repeatable: bool,
    ) -> UpstreamAnswer:
        message = httpx.Request(
            method,
            url,
            headers={
                "accept": "*/*",
                "connection": "keep-alive",
                **{name: value.reveal() for name, value in headers.items()},
                "host": origin.authority,
                "user-agent": USER_AGENT,
                "accept-encoding": "identity",
            }
            | ({CLUSTER_HEADER: origin.cluster} if self._way.is_listener else {})
            | (tracing.headers() if self._way.sends_trace else {}),
            content=body or None,
            extensions={"timeout": {"connect": self._way.connect_timeout_s}},
        )
        try:
            async with (
                asyncio.timeout(timeout_s),
                aclosing(await self._begin(message, is_repeatable=is_repeatable)) as answer,
            ):
                if self._way.is_listener:
                    _check_mark(answer)
                read = await _read(answer, max_bytes)
        except TimeoutError as error:
            raise _counted(origin, UpstreamTimeoutError()) from error
        except (httpx.HTTPError, ClientError) as error:
            raise _counted(origin, UpstreamFailedError()) from error
        except ApiError as error:
            raise _counted(origin, error) from error.__cause__
        if read.status >= 500:
            _counted(origin, UpstreamFailedError())
        return read

    async def _begin(self, message: httpx.Request, *, is_repeatable: bool) -> httpx.Response:
        """Send a request and return the head of its answer.

        It is sent again, once, if nothing at all comes back: then the other side closed a
        connection that was kept open, at the very moment at which it was used again. Should both
        requests arrive, the ephemeral key that nobody received costs nothing.
        """
        try:
            return await self._transport.handle_async_request(message)
        except httpx.TransportError as error:
            # Who takes no connection in time is not waited for twice.
            if not is_repeatable or isinstance(error.__cause__, ServerTimeoutError):
                raise UpstreamUnreachableError from error
        try:
            return await self._transport.handle_async_request(message)
        except httpx.TransportError as error:
            raise UpstreamUnreachableError from error


def _counted(origin: Origin, error: ApiError) -> ApiError:
    """Count a failure of an upstream, and return it."""
    UPSTREAM_ERRORS.labels(origin.cluster, error.code).inc()
    return error


def _check_mark(answer: httpx.Response) -> None:
    """Raise what it means that Envoy itself speaks: it got no answer from the upstream."""
    if EGRESS_MARK_HEADER in answer.headers:
        raise UpstreamTimeoutError if answer.status_code == 504 else UpstreamUnreachableError


async def _read(answer: httpx.Response, max_bytes: int) -> UpstreamAnswer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise UpstreamFailedError
    return UpstreamAnswer(answer.status_code, headers, bytes(body))
