"""``POST calls`` with a token: the offer goes to the deployment that minted it, and only there."""

from dataclasses import replace
from typing import Final

from extauthz.admission import Admission
from extauthz.calls import DeploymentGoneError, allow_call, check_form, pinned
from extauthz.configuration import Knowing
from extauthz.credentials import bearer_credential
from extauthz.decision import Decision, RequestFacts
from extauthz.errors import AuthError
from extauthz.leashes import Leashes
from extauthz.metrics import TOKENS_REFUSED
from extauthz.safety import SAFETY_IDENTIFIER, SafetyIdentifiers
from extauthz.slots import Slots
from extauthz.tokenguard import TokenGuard, refused
from ringback.contract import CALLS_PATHS
from ringback.settings import SupervisionSettings
from ringback.tokens.claims import CallClaims


class Calls:
    """Turns tokens into the upstream requests that they were made for.

    Args:
        knowing: Returns the configuration that knows a token's deployment.
        admission: Looks at the token's key again.
        tokens: Opens tokens.
        safety: Says what providers are told of who calls.
        leashes: Says what callkeeper is told of calls.
        slots: Counts open calls.
    """

    name: Final = "calls"

    def __init__(
        self,
        knowing: Knowing,
        admission: Admission,
        tokens: TokenGuard,
        safety: SafetyIdentifiers | None = None,
        leashes: Leashes | None = None,
        *,
        slots: Slots | None = None,
    ) -> None:
        self._knowing = knowing
        self._admission = admission
        self._tokens = tokens
        self._safety = safety or SafetyIdentifiers()
        self._leashes = leashes or Leashes()
        self._slots = slots or Slots(SupervisionSettings())

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "POST" and request.path in CALLS_PATHS

    async def decide(self, request: RequestFacts) -> Decision:
        """Return how the request changes; a token that is no good for it is 401 for any reason."""
        claims = self._open(request)
        # Before the key is looked at: it may be for a model that is new.
        known = self._knowing(lambda known: pinned(claims, known.catalogue) is not None)
        deployment = known.catalogue.by_id(claims.deployment)
        try:
            key = await self._admission.readmit(claims)
        except AuthError:
            raise refused("key") from None
        check_form(request)
        identifier = self._safety.of(
            request.headers.get(SAFETY_IDENTIFIER), key_hash=key.hash, user=key.user
        )
        try:
            allowed = allow_call(
                claims, deployment, request.headers, query=request.query, identifier=identifier
            )
        except DeploymentGoneError:
            TOKENS_REFUSED.labels("deployment").inc()
            raise
        labels = self._leashes.put_on(
            replace(allowed.labels, sdp_policy=key.sdp_policy), claims, key, deployment
        )
        async with (
            self._tokens.spend(claims, request),
            self._slots.taken(key, deployment) as slots,
        ):
            await self._admission.count(claims, key)
        return replace(allowed, labels=replace(labels, slot_id=slots.id))

    def _open(self, request: RequestFacts) -> CallClaims:
        try:
            credential = bearer_credential(request.headers)
        except AuthError:
            raise refused("credential") from None
        return self._tokens.open(credential.reveal(), request)
