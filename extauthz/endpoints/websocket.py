"""``GET /v1/realtime?model=...`` as a WebSocket: a conversation that goes through the gateway."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from extauthz.admission import Admission
from extauthz.calls import DeploymentGoneError, is_where_it_was, pinned
from extauthz.configuration import Configuration, Knowing
from extauthz.decision import Decision, Labels, RequestFacts, labels_of, refuse
from extauthz.deployments import Deployment
from extauthz.endpoints.callcontrol import KeyHeaders
from extauthz.errors import ModelRequiredError
from extauthz.keys import VirtualKey
from extauthz.ownership import Caller, Callers
from extauthz.providers import provider_of
from extauthz.providers.base import credential
from extauthz.safety import SAFETY_IDENTIFIER, SafetyIdentifiers
from extauthz.sessionlocks import check_unlocked
from extauthz.tokenguard import TokenGuard
from extauthz.websocket import (
    TRANSCRIPTION,
    InvalidQueryError,
    WebSocketModelRequiredError,
    WebSocketQuery,
    allow_websocket,
    check_origin,
    is_sideband,
    is_websocket,
    parse_query,
    with_credential,
)
from ringback.contract import OUTCOME_WEBSOCKET
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims


class WebSockets:
    """Opens conversations, with a virtual key or with a token.

    A deployment is chosen once: what has become a WebSocket cannot be tried elsewhere.

    Args:
        knowing: Returns the configuration that knows a token's deployment.
        callers: Tells who calls.
        admission: Lets keys in.
        tokens: Knows whether a token is spent.
        key_headers: Returns the headers that open a deployment.
        origins: Whose pages may, as in the setting ``websocket.origins``.
        safety: What the provider is told of who calls.
        choose: Which of several deployments it is.
    """

    name: Final = "websocket"

    def __init__(
        self,
        knowing: Knowing,
        callers: Callers,
        *,
        admission: Admission,
        tokens: TokenGuard,
        key_headers: KeyHeaders,
        origins: Sequence[str],
        safety: SafetyIdentifiers,
        choose: Callable[[Sequence[Deployment]], Deployment] = random.choice,
    ) -> None:
        self._knowing = knowing
        self._callers = callers
        self._admission = admission
        self._tokens = tokens
        self._key_headers = key_headers
        self._origins = tuple(origins)
        self._safety = safety
        self._choose = choose

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return is_websocket(request) and not is_sideband(request)

    async def decide(self, request: RequestFacts) -> Decision:
        """Return how the handshake changes."""
        check_origin(request.headers, self._origins)
        caller = await self._callers.identify(with_credential(request))
        labels = labels_of(caller, OUTCOME_WEBSOCKET)
        try:
            wanted = parse_query(request.query)
            key = await self._key_of(caller)
            deployment, path, credentials = await self._open(caller, wanted)
            check_unlocked(deployment, key, _session_type(caller, wanted))
            labels = replace(labels, model=deployment.model_name, deployment=deployment.id)
            told = self._told(request, labels)
            if isinstance(caller, CallClaims):
                async with self._tokens.spend(caller, request):
                    await self._admission.count(caller, key)
        except ApiError as error:
            return refuse(error, replace(labels, outcome=error.code))
        return allow_websocket(request, deployment.origin, path, {**credentials, **told}, labels)

    async def _key_of(self, caller: Caller) -> VirtualKey:
        return await self._admission.readmit(caller) if isinstance(caller, CallClaims) else caller

    async def _open(
        self, caller: Caller, wanted: WebSocketQuery
    ) -> tuple[Deployment, str, Mapping[str, Secret]]:
        """Return where a conversation goes: the deployment, the path there, and what opens it."""
        if isinstance(caller, CallClaims):
            known = self._knowing(lambda known: pinned(caller, known.catalogue) is not None)
            deployment = _deployment_of(caller, wanted, known)
            intent = TRANSCRIPTION if caller.session_type == TRANSCRIPTION else None
            name, value = credential(caller.auth_scheme, caller.ek)
            credentials: Mapping[str, Secret] = {**deployment.extra_headers, name: value}
        else:
            deployment, intent = await self._admit(caller, wanted), wanted.intent
            credentials = await self._key_headers(deployment)
        return (
            deployment,
            provider_of(deployment).websocket_path(deployment, intent=intent),
            credentials,
        )

    async def _admit(self, key: VirtualKey, wanted: WebSocketQuery) -> Deployment:
        try:
            admitted = await self._admission.admit(key, wanted.model)
        except ModelRequiredError:
            raise WebSocketModelRequiredError from None
        return self._choose(admitted.deployments)

    def _told(self, request: RequestFacts, labels: Labels) -> Mapping[str, Secret]:
        given = request.headers.get(SAFETY_IDENTIFIER)
        told = self._safety.of(given, key_hash=labels.key_hash or "", user=labels.user)
        return {} if told is None else {SAFETY_IDENTIFIER: told}


def _session_type(caller: Caller, wanted: WebSocketQuery) -> str | None:
    return caller.session_type if isinstance(caller, CallClaims) else wanted.intent


def _deployment_of(
    claims: CallClaims, wanted: WebSocketQuery, configuration: Configuration
) -> Deployment:
    """Return the deployment that minted a token.

    Raises:
        InvalidQueryError: If the query names another model: 400.
        DeploymentGoneError: If the deployment is gone or has moved: 401.
    """
    catalogue = configuration.catalogue
    if wanted.model not in {None, claims.model, claims.asked} and (
        catalogue.resolve(str(wanted.model), claims.team) != claims.model
    ):
        raise InvalidQueryError("model", "The token was made for another model. Leave it out.")
    # Not by its id: one that a wildcard found has the name of the model only here. The model's own
    # name, too: the alias may mean another by now.
    names = (claims.asked, claims.model, *configuration.router.fallbacks_of(claims.model))
    groups = (catalogue.find(name, claims.team) for name in names if name)
    for deployment in chain.from_iterable(group.deployments for group in groups if group):
        if deployment.id == claims.deployment and is_where_it_was(claims, deployment):
            return deployment
    raise DeploymentGoneError
