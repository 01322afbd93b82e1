"""Whose call it is: finds a call by its handle, for its owner and nobody else."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from extauthz.admission import Admission
from extauthz.callcontrol import NoSuchCallError, is_owner
from extauthz.calls import pinned
from extauthz.configuration import Knowing
from extauthz.credentials import caller_credential
from extauthz.decision import Labels, RequestFacts, labels_of
from extauthz.deployments import Deployment
from extauthz.errors import AuthError
from extauthz.keys import VirtualKey
from extauthz.tokenguard import TokenGuard, refused
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
        knowing: Returns the configuration that knows the deployment of a token or a call.
        admission: Knows keys.
        tokens: Opens tokens.
        handles: From `ringback.tokens.handle_sealer`.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self,
        knowing: Knowing,
        admission: Admission,
        tokens: TokenGuard,
        handles: Sealer,
        now: Callable[[], float],
    ) -> None:
        self._knowing = knowing
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
        claims = self._tokens.open(token, request, grace_s=grace_s)
        if not grace_s:
            # The key may be for a model that is new.
            self._knowing(lambda known: pinned(claims, known.catalogue) is not None)
            try:
                await self._admission.readmit(claims)
            except AuthError:
                raise refused("key") from None
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
        call, deployment = self.find(handle)
        if not is_owner(caller, call):
            raise NoSuchCallError
        return OwnCall(call, caller, deployment)

    def find(self, handle: str) -> tuple[CallHandle, Deployment]:
        """Return a call, whosesoever it is, and where it is: for the gateway itself.

        Raises:
            NoSuchCallError: If there is no such call, or its deployment is gone: 404.
        """
        try:
            call = open_handle(handle, self._handles, self._now())
        except TokenError:
            raise NoSuchCallError from None
        known = self._knowing(lambda known: known.catalogue.by_id(call.deployment) is not None)
        deployment = known.catalogue.by_id(call.deployment)
        if deployment is None:
            raise NoSuchCallError
        return call, deployment


def _token_of(request: RequestFacts) -> str | None:
    """Return the caller's credential if it is a token, whatever header it is in."""
    try:
        credential = caller_credential(request.headers).reveal()
    except AuthError:
        return None
    return credential if credential.startswith(TOKEN_PREFIX) else None
