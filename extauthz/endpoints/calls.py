"""``POST calls`` with a token: the offer goes to the deployment that minted it, and only there."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from extauthz.admission import Admission
from extauthz.calls import DeploymentGoneError, TokenRefusedError, allow_call, check_form
from extauthz.configuration import Configuration
from extauthz.credentials import bearer_credential
from extauthz.decision import Decision, RequestFacts
from extauthz.errors import AuthError
from extauthz.metrics import TOKENS_OPENED, TOKENS_REFUSED
from extauthz.safety import SAFETY_IDENTIFIER, SafetyIdentifiers
from ringback.contract import CALLS_PATHS
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.jwe import Sealer


class Calls:
    """Turns tokens into the upstream requests that they were made for.

    Args:
        configuration: Returns the configuration in force.
        admission: Looks at the token's key again.
        sealer: From `ringback.tokens.token_sealer`.
        now: The time in seconds since the epoch.
        safety: Says what providers are told of who calls.
    """

    name: Final = "calls"

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        admission: Admission,
        sealer: Sealer,
        now: Callable[[], float],
        safety: SafetyIdentifiers | None = None,
    ) -> None:
        self._configuration = configuration
        self._admission = admission
        self._sealer = sealer
        self._now = now
        self._safety = safety or SafetyIdentifiers()

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "POST" and request.path in CALLS_PATHS

    async def decide(self, request: RequestFacts) -> Decision:
        """Return how the request changes; a token that is no good for it is 401 for any reason."""
        claims = self._open(request)
        TOKENS_OPENED.inc()
        if claims.bound_origin not in {None, request.headers.get("origin")}:
            TOKENS_REFUSED.labels("origin").inc()
            raise TokenRefusedError
        try:
            key = await self._admission.readmit(claims)
        except AuthError:
            TOKENS_REFUSED.labels("key").inc()
            raise TokenRefusedError from None
        check_form(request)
        identifier = self._safety.of(
            request.headers.get(SAFETY_IDENTIFIER), key_hash=key.hash, user=key.user
        )
        deployment = self._configuration().catalogue.by_id(claims.deployment)
        try:
            allowed = allow_call(
                claims, deployment, request.headers, query=request.query, identifier=identifier
            )
        except DeploymentGoneError:
            TOKENS_REFUSED.labels("deployment").inc()
            raise
        await self._admission.count(claims, key)
        return replace(allowed, labels=replace(allowed.labels, sdp_policy=key.sdp_policy))

    def _open(self, request: RequestFacts) -> CallClaims:
        try:
            credential = bearer_credential(request.headers)
            return CallClaims.from_claims(self._sealer.open(credential.reveal(), self._now()))
        except AuthError:
            TOKENS_REFUSED.labels("credential").inc()
            raise TokenRefusedError from None
        except TokenError as error:
            TOKENS_REFUSED.labels(error.reason).inc()
            raise TokenRefusedError from None
