"""Decides every request: which rules apply, in which order."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime

from extauthz.calls import TokenRefusedError, allow_call
from extauthz.configuration import Configuration
from extauthz.decision import (
    Allow,
    Answer,
    Decision,
    Labels,
    RequestFacts,
    bearer_credential,
    refuse,
)
from extauthz.errors import AuthError, ModelRequiredError, NotServedError, UnknownModelError
from extauthz.keys import VirtualKey, hash_key
from extauthz.metrics import DECISIONS, TOKENS_REFUSED
from extauthz.mint import SAFETY_IDENTIFIER, Minter
from extauthz.mintbody import parse_mint_request
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
        endpoint, rule = self._rule(request.path)
        try:
            decision = await rule(request)
        except ApiError as error:
            decision = refuse(error)
        DECISIONS.labels(endpoint, decision.labels.outcome).inc()
        return decision

    def _rule(self, path: str) -> tuple[str, Callable[[RequestFacts], Awaitable[Decision]]]:
        if path in CALLS_PATHS:
            return "calls", self._call
        if path in CLIENT_SECRETS_PATHS:
            return "client_secrets", self._client_secret
        if path == READY_PATH:
            return "ready", self._ready
        return "other", self._not_served

    async def _client_secret(self, request: RequestFacts) -> Decision:
        configuration = self._configuration()
        key = await self._caller(request, configuration)
        labels = Labels("", key.alias, key.hash, key.team, key.user)
        try:
            return await self._mint(request, configuration, key)
        except ApiError as error:
            return refuse(error, replace(labels, outcome=error.code))

    async def _mint(
        self, request: RequestFacts, configuration: Configuration, key: VirtualKey
    ) -> Answer:
        wanted = parse_mint_request(request.body)
        catalogue = configuration.catalogue
        model = wanted.model or catalogue.only_realtime_group()
        if model is None:
            raise ModelRequiredError
        group = catalogue.resolve(model)
        check_model(key, group or model, model)
        if group is None:
            raise UnknownModelError
        return await self._minter.mint(
            wanted, catalogue.pick(group), key, request.headers.get(SAFETY_IDENTIFIER)
        )

    async def _call(self, request: RequestFacts) -> Decision:
        configuration = self._configuration()
        claims = self._open(request)
        # The token is as good as the key that minted it: blocked, expired or gone ends it.
        key = await configuration.keys.find(claims.key_hash)
        try:
            check_key(key, self._time())
        except AuthError:
            TOKENS_REFUSED.labels("key").inc()
            raise TokenRefusedError from None
        deployment = configuration.catalogue.by_id(claims.deployment)
        if deployment is None:
            TOKENS_REFUSED.labels("deployment").inc()
            raise TokenRefusedError
        return allow_call(claims, deployment, request.headers)

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
