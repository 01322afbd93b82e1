"""``GET /v1/realtime?call_id=...`` as a WebSocket: joins a call that is under way."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from extauthz.callcontrol import UnsupportedByProviderError
from extauthz.calls import DeploymentGoneError, is_where_it_was
from extauthz.decision import Decision, RequestFacts, refuse
from extauthz.endpoints.callcontrol import KeyHeaders
from extauthz.ownership import Callers, OwnCall
from extauthz.providers import provider_of
from extauthz.providers.base import credential
from extauthz.websocket import (
    allow_websocket,
    check_origin,
    is_sideband,
    parse_query,
    with_credential,
)
from ringback.contract import OUTCOME_SIDEBAND
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims


class Sideband:
    """Lets the owner of a call listen and speak beside the browser.

    Args:
        callers: Finds calls of callers.
        key_headers: Returns the headers that open a deployment.
        origins: Whose pages may, as in the setting ``websocket.origins``.
        with_token: Ids of deployments that want the ephemeral key of a call's token.
    """

    name: Final = "sideband"

    def __init__(
        self,
        callers: Callers,
        key_headers: KeyHeaders,
        origins: Sequence[str],
        with_token: Collection[str] = (),
    ) -> None:
        self._callers = callers
        self._key_headers = key_headers
        self._origins = tuple(origins)
        self._with_token = frozenset(with_token)

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return is_sideband(request)

    async def decide(self, request: RequestFacts) -> Decision:
        """Return how the handshake changes."""
        check_origin(request.headers, self._origins)
        # A query that makes no sense is told only to those who have a credential.
        shown = with_credential(request)
        caller = await self._callers.identify(shown)
        handle = parse_query(request.query).call_id or ""
        call = self._callers.find_call(caller, handle)
        try:
            deployment = call.deployment
            path = provider_of(deployment).sideband_path(deployment, call.handle.call_id)
            if path is None:
                raise UnsupportedByProviderError
            credentials = await self._credentials(call)
        except ApiError as error:
            return refuse(error, call.labels(error.code))
        labels = call.labels(OUTCOME_SIDEBAND)
        return allow_websocket(request, deployment.origin, path, credentials, labels)

    async def _credentials(self, call: OwnCall) -> Mapping[str, Secret]:
        if isinstance(call.caller, CallClaims) and call.deployment.id in self._with_token:
            if not is_where_it_was(call.caller, call.deployment):
                raise DeploymentGoneError
            name, value = credential(call.caller.auth_scheme, call.caller.ek)
            return {**call.deployment.extra_headers, name: value}
        return await self._key_headers(call.deployment)
