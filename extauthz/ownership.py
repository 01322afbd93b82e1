"""Whose call it is: finds a call by its handle, for its owner and nobody else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from extauthz.admission import Admission
from extauthz.callcontrol import NoSuchCallError, is_owner
from extauthz.calls import TokenRefusedError
from extauthz.configuration import Configuration
from extauthz.credentials import caller_credential
from extauthz.decision import Labels, RequestFacts, labels_of
from extauthz.deployments import Deployment
from extauthz.errors import AuthError
from extauthz.keys import VirtualKey
from extauthz.metrics import TOKENS_OPENED, TOKENS_REFUSED
from ringback.contract import TOKEN_PREFIX
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import CallHandle, open_handle
from ringback.tokens.jwe import Sealer

Caller = VirtualKey | CallClaims


@dataclass(frozen=True, slots=True)
class OwnCall:
    """A call of the caller's.

    Attributes:
        handle: The call.
        caller: The key, or what the token says.
        deployment: Where it is.
    """

    handle: CallHandle
    caller: Caller
    deployment: Deployment

    def labels(self, outcome: str) -> Labels:
        """Return what logs learn; the model group is the deployment's, the token the call's."""
        return replace(
            labels_of(self.caller, outcome),
            model=self.deployment.model_name,
            deployment=self.deployment.id,
            token_id=self.handle.token_id,
        )


class Callers:
    """Tells who calls, by a virtual key or by a token, and finds their calls.

    Args:
        configuration: Returns the configuration in force.
        admission: Knows keys.
        tokens: From `ringback.tokens.token_sealer`.
        handles: From `ringback.tokens.handle_sealer`.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        admission: Admission,
        tokens: Sealer,
        handles: Sealer,
        now: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._admission = admission
        self._tokens = tokens
        self._handles = handles
        self._now = now

    async def identify(self, request: RequestFacts, *, grace_s: int = 0) -> Caller:
        """Return the caller's key, or the claims of the caller's token.

        Args:
            request: With the credential in one of the headers that may hold keys.
            grace_s: With it, a token is good for so long after its expiry, and also when its key
                is not good any more: to end a call harms nobody but its owner.

        Raises:
            AuthError: If there is no valid key, or no token that could open a call: 401.
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        token = _token_of(request)
        if token is None:
            return await self._admission.identify(request)
        try:
            sealed = self._tokens.open(token, self._now(), grace_s=grace_s)
            claims = CallClaims.from_claims(sealed)
        except TokenError as error:
            TOKENS_REFUSED.labels(error.reason).inc()
            raise TokenRefusedError from None
        TOKENS_OPENED.inc()
        if claims.bound_origin not in {None, request.headers.get("origin")}:
            TOKENS_REFUSED.labels("origin").inc()
            raise TokenRefusedError
        if not grace_s:
            try:
                await self._admission.readmit(claims)
            except AuthError:
                TOKENS_REFUSED.labels("key").inc()
                raise TokenRefusedError from None
        return claims

    def find_call(self, caller: Caller, handle: str) -> OwnCall:
        """Return a call of the caller's.

        The caller is identified before, whatever the handle is: who has no credential learns
        nothing about handles.

        Args:
            caller: From `identify`.
            handle: What the downstream knows the call by, or whatever it sends instead.

        Raises:
            NoSuchCallError: If there is no such call, or it is none of the caller's: 404.
        """
        try:
            call = open_handle(handle, self._handles, self._now())
        except TokenError:
            raise NoSuchCallError from None
        deployment = self._configuration().catalogue.by_id(call.deployment)
        if not is_owner(caller, call) or deployment is None:
            raise NoSuchCallError
        return OwnCall(call, caller, deployment)


def _token_of(request: RequestFacts) -> str | None:
    """Return the caller's credential if it is a token, whatever header it is in."""
    try:
        credential = caller_credential(request.headers).reveal()
    except AuthError:
        return None
    return credential if credential.startswith(TOKEN_PREFIX) else None
