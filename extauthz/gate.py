"""Decides every request: which rules apply, in which order."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from extauthz.calls import TokenRefusedError, allow_call
from extauthz.configuration import Configuration
from extauthz.decision import (
    Allow,
    Decision,
    Labels,
    RequestFacts,
    bearer_credential,
    refuse,
)
from extauthz.deployments import Catalogue, Deployment
from extauthz.errors import AuthError, ModelRequiredError, NotServedError, UnknownModelError
from extauthz.keys import VirtualKey, hash_key
from extauthz.metrics import DECISIONS, TOKENS_REFUSED
from extauthz.mint import SAFETY_IDENTIFIER, Minter
from extauthz.mintbody import MintRequest, parse_mint_request
from extauthz.policy import check_key, check_model
from ringback.contract import CALLS_PATHS, CLIENT_SECRETS_PATHS, OUTCOME_READY, READY_PATH
from ringback.errors import ApiError
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.jwe import Sealer


class Gate:
    """Holds the door.

    Args:
        configuration: Returns the configuration in force.
        minter: Mints tokens.
        sealer: From `ringback.tokens.token_sealer`.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self,
        configuration: Callable[[], Configuration],
        minter: Minter,
        sealer: Sealer,
        now: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._minter = minter
        self._sealer = sealer
        self._now = now

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the decision about one request.

        Every `ApiError` becomes its answer; anything else is for the caller to fail closed on.
        """
        endpoint, rule = self._rule(request)
        try:
            decision = await rule(request)
        except ApiError as error:
            decision = refuse(error)
        DECISIONS.labels(endpoint, decision.labels.outcome).inc()
        return decision

    def _rule(
        self, request: RequestFacts
    ) -> tuple[str, Callable[[RequestFacts], Awaitable[Decision]]]:
        """Return the endpoint, as a label, and what decides about it."""
        if request.method == "POST" and request.path in CALLS_PATHS:
            return "calls", self._call
        if request.method == "POST" and request.path in CLIENT_SECRETS_PATHS:
            return "client_secrets", self._client_secret
        if request.method == "GET" and request.path == READY_PATH:
            return "ready", self._ready
        return "other", self._not_served

    async def _client_secret(self, request: RequestFacts) -> Decision:
        configuration = self._configuration()
        key = await self._caller(request, configuration)
        labels = Labels("", key.alias, key.hash, key.team, key.user)
        try:
            wanted = parse_mint_request(request.body)
            deployment = _choose(wanted, key, configuration.catalogue)
            labels = replace(labels, model=deployment.model_name, deployment=deployment.id)
            return await self._minter.mint(
                wanted, deployment, key, request.headers.get(SAFETY_IDENTIFIER)
            )
        except ApiError as error:
            return refuse(error, replace(labels, outcome=error.code))

    async def _call(self, request: RequestFacts) -> Decision:
        configuration = self._configuration()
        claims = self._open(request)
        if claims.bound_origin not in {None, request.headers.get("origin")}:
            TOKENS_REFUSED.labels("origin").inc()
            raise TokenRefusedError
        key = await configuration.keys.find(claims.key_hash)
        try:
            key = _check_token_key(key, claims, configuration.catalogue, self._time())
        except AuthError:
            TOKENS_REFUSED.labels("key").inc()
            raise TokenRefusedError from None
        deployment = configuration.catalogue.by_id(claims.deployment)
        try:
            allowed = allow_call(claims, deployment, request.headers)
        except TokenRefusedError:
            TOKENS_REFUSED.labels("deployment").inc()
            raise
        return replace(allowed, labels=replace(allowed.labels, sdp_policy=key.sdp_policy))

    async def _ready(self, _request: RequestFacts) -> Decision:
        return Allow(Labels(OUTCOME_READY))

    async def _not_served(self, _request: RequestFacts) -> Decision:
        raise NotServedError

    async def _caller(self, request: RequestFacts, configuration: Configuration) -> VirtualKey:
        credential = bearer_credential(request.headers)
        key = await configuration.keys.find(hash_key(credential))
        check_key(key, self._time())
        assert key is not None  # noqa: S101  check_key refuses None
        return key

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

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)


def _choose(wanted: MintRequest, key: VirtualKey, catalogue: Catalogue) -> Deployment:
    """Return the deployment that mints, if the key may use its group."""
    model = wanted.model or catalogue.only_realtime_group()
    if model is None:
        raise ModelRequiredError
    group = catalogue.resolve(model)
    check_model(key, group or model, model)
    if group is None:
        raise UnknownModelError
    return catalogue.pick(group)


def _check_token_key(
    key: VirtualKey | None, claims: CallClaims, catalogue: Catalogue, now: datetime
) -> VirtualKey:
    """Return a token's key if it could still mint it: a token is as good as its key.

    Raises:
        AuthError: If the key is gone, blocked, expired, or not for that model any more.
    """
    check_key(key, now)
    assert key is not None  # noqa: S101  check_key refuses None
    # The token names the group; the key's list may name an alias of it.
    aliases = (name for name in key.models if catalogue.resolve(name) == claims.model)
    check_model(key, claims.model, *aliases)
    return key
