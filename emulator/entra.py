"""A stand-in for Entra ID: issues tokens for Azure, and knows them again.

Tokens come from the two places that applications ask: ``POST /{tenant}/oauth2/v2.0/token`` for
those with a client secret or a federated token, and the instance metadata service for managed
identities.
"""

import secrets
import time
from collections.abc import Iterable
from typing import Final

from aiohttp import web

from emulator import errors
from emulator.faults import Faults
from emulator.mishaps import with_faults
from emulator.sessions import Credential

LIFETIME_S: Final = 3600
_AUDIENCE: Final = "https://cognitiveservices.azure.com"
_GRANT: Final = "client_credentials"


class EntraId:
    """The tokens that Azure accepts.

    Args:
        is_strict: Whether only these are accepted; otherwise any is.
        tokens: Accepted from the start, for ever.
    """

    def __init__(self, *, is_strict: bool, tokens: Iterable[str] = ()) -> None:
        self._is_strict = is_strict
        self._expiries = dict.fromkeys(tokens, float("inf"))

    def issue(self, now: float) -> str:
        """Return a new token, in the shape of a JWT; it is good for an hour."""
        self._expiries = {token: at for token, at in self._expiries.items() if at > now}
        token = f"eyJ0eXAiOiJKV1QifQ.{secrets.token_urlsafe(48)}.{secrets.token_urlsafe(32)}"
        self._expiries[token] = now + LIFETIME_S
        return token

    def check(self, credential: Credential, now: float) -> None:
        """Check that what opens Azure, if it is a token, was issued here and has not expired.

        Raises:
            ApiError: 401 if not.
        """
        is_token = not credential.api_key_header and not credential.is_ephemeral
        if is_token and self._is_strict and self._expiries.get(credential.value, 0) <= now:
            raise errors.wrong_entra_token()

    def add_routes(self, router: web.UrlDispatcher, faults: Faults) -> None:
        """Add the endpoints that issue tokens."""
        router.add_post("/{tenant}/oauth2/v2.0/token", with_faults(faults, "entra", self._grant))
        path = "/metadata/identity/oauth2/token"
        router.add_get(path, with_faults(faults, "entra", self._identify))

    async def _grant(self, request: web.Request) -> web.Response:
        """Answer an application that has a secret or an assertion; which one is not looked at."""
        form = await request.post()
        if form.get("grant_type") != _GRANT:
            return _refuse(400, "unsupported_grant_type", f"AADSTS70003: expected {_GRANT}.")
        if not form.get("client_id") or not (
            form.get("client_secret") or form.get("client_assertion")
        ):
            return _refuse(401, "invalid_client", "AADSTS7000215: no client secret is provided.")
        if not str(form.get("scope", "")).endswith("/.default"):
            return _refuse(400, "invalid_scope", "AADSTS70011: the scope must end in /.default.")
        now = time.time()
        return web.json_response(
            {"token_type": "Bearer", "expires_in": LIFETIME_S, "access_token": self.issue(now)}
        )

    async def _identify(self, request: web.Request) -> web.Response:
        """Answer a virtual machine; every value is a string there."""
        if request.headers.get("Metadata") != "true":
            return _refuse(400, "invalid_request", "Required metadata header not specified")
        now = time.time()
        return web.json_response(
            {
                "access_token": self.issue(now),
                "expires_in": str(LIFETIME_S),
                "expires_on": str(int(now) + LIFETIME_S),
                "resource": request.query.get("resource", _AUDIENCE),
                "token_type": "Bearer",
            }
        )


def _refuse(status: int, code: str, description: str) -> web.Response:
    """Refuse in the shape of OAuth 2.0 (RFC 6749 section 5.2)."""
    return web.json_response({"error": code, "error_description": description}, status=status)
