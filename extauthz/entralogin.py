"""Logins at Entra ID by azure-identity, whose requests go through Envoy's egress listener.

NOTE: Importing this module imports azure-identity, which takes a second and is not installed
everywhere; `log_in_through` does it when the first login needs it.
"""

import asyncio
import logging
import re
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode, urlsplit

from azure.core.credentials import AccessTokenInfo
from azure.core.credentials_async import AsyncSupportsTokenInfo
from azure.core.pipeline.transport import AsyncHttpResponse, AsyncHttpTransport
from azure.core.rest import HttpRequest
from azure.core.utils import case_insensitive_dict
from azure.identity.aio import (
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from extauthz.deployments import DEFAULT_PORTS, EntraLogin, Origin
from extauthz.egress import Egress, UpstreamAnswer
from extauthz.entra import Grant
from ringback.secrets import Secret

# Set by Egress and by HTTP itself.
_OWN_HEADERS: Final = frozenset({"host", "content-length", "user-agent", "accept-encoding"})
_RETRIES: Final[dict[str, Any]] = {"retry_total": 1, "retry_backoff_factor": 0.1}
_TIMEOUT_S: Final = 5.0
# It becomes the value of a header.
_TOKEN: Final = re.compile(r"[!-~]+")
# Its warnings repeat what the login service says, which is for us to sort.
logging.getLogger("azure").setLevel(logging.CRITICAL)


class UnexpectedOriginError(Exception):
    """A login would go to another place than the configuration names: it is not sent."""


class EgressTransport(AsyncHttpTransport[HttpRequest, AsyncHttpResponse]):
    """Sends what azure-core sends through Envoy, which does TLS and knows the login's cluster.

    Args:
        egress: The client of Envoy's listener.
        origin: The only place that requests may go to.
    """

    def __init__(self, egress: Egress, origin: Origin) -> None:
        self._egress = egress
        self._origin = origin

    async def send(self, request: HttpRequest, **_options: object) -> AsyncHttpResponse:
        """Send one request and read the whole answer.

        Raises:
            UnexpectedOriginError: If it is for another origin.
            ApiError: As `Egress.send` does.
        """
        url = urlsplit(request.url)
        port = url.port or DEFAULT_PORTS.get(url.scheme, 0)
        if Origin(url.scheme, url.hostname or "", port) != self._origin:
            raise UnexpectedOriginError
        headers = {
            name.lower(): Secret(value)
            for name, value in request.headers.items()
            if name.lower() not in _OWN_HEADERS
        }
        answer = await self._egress.send(
            request.method,
            self._origin,
            f"{url.path}?{url.query}" if url.query else url.path,
            headers,
            _body(request),
            timeout_s=_TIMEOUT_S,
        )
        return _Answer(request, answer)

    async def open(self) -> None:
        """Do nothing: the client belongs to the service."""

    async def close(self) -> None:
        """Do nothing: the client belongs to the service."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        return None


class _Answer(AsyncHttpResponse):
    """An answer in the shape that azure-core reads."""

    def __init__(self, request: HttpRequest, answer: UpstreamAnswer) -> None:
        super().__init__(request, answer)  # type: ignore[arg-type]
        self.status_code = answer.status
        self.headers = case_insensitive_dict(answer.headers)
        self.content_type = answer.headers.get("content-type", "")
        self.reason = ""

    def body(self) -> bytes:
        body: bytes = self.internal_response.body
        return body


async def log_in(login: EntraLogin, egress: Egress) -> Grant:
    """Ask for a token, once or twice, within five seconds.

    Raises:
        Exception: Whatever azure-identity raises if there is none.
        TimeoutError: If that time is over.
        ValueError: If the token is none that could be sent.
    """
    # A credential of azure-identity keeps its tokens; a new one asks.
    credential = _credential(login, EgressTransport(egress, login.origin))
    async with asyncio.timeout(_TIMEOUT_S):
        found: AccessTokenInfo = await credential.get_token_info(login.scope)
    if not _TOKEN.fullmatch(found.token):
        raise ValueError("the login service gave a token that no header can hold")
    return Grant(Secret(found.token), found.expires_on, found.refresh_on)


def _credential(login: EntraLogin, transport: EgressTransport) -> AsyncSupportsTokenInfo:
    if login.method == "managed_identity":
        return ManagedIdentityCredential(client_id=login.client_id, transport=transport, **_RETRIES)
    if login.method == "workload_identity":
        return WorkloadIdentityCredential(
            tenant_id=login.tenant_id,
            client_id=login.client_id,
            token_file_path=login.token_file,
            authority=str(login.origin),
            transport=transport,
            **_RETRIES,
        )
    return ClientSecretCredential(
        login.tenant_id or "",
        login.client_id or "",
        login.secret.reveal() if login.secret else "",
        authority=str(login.origin),
        transport=transport,
        **_RETRIES,
    )


def _body(request: HttpRequest) -> bytes:
    data = request.content
    if isinstance(data, dict):
        return urlencode(data).encode()
    return data.encode() if isinstance(data, str) else bytes(data or b"")
