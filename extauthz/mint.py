"""``client_secrets``: mints an ephemeral key upstream and hands out a sealed token instead."""

import random
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from extauthz.admission import Admitted
from extauthz.decision import Answer, Labels
from extauthz.deployments import Deployment
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.metrics import MINT_SECONDS
from extauthz.mintbody import Minted, MintRequest, parse_minted
from extauthz.providers import provider_of
from extauthz.providers.base import UpstreamRequest
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.jwe import Sealer
from ringback.upstream import UpstreamFailedError, error_of

SAFETY_IDENTIFIER: Final = "openai-safety-identifier"
# One value: repeated lines are joined by a comma.
_IDENTIFIER: Final = re.compile(r"[!-+\--~]{1,256}")


class InvalidSafetyIdentifierError(ApiError):
    """The caller's ``OpenAI-Safety-Identifier`` cannot be passed on: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "safety_identifier_invalid"
    param = "OpenAI-Safety-Identifier"

    def __str__(self) -> str:
        return (
            "The OpenAI-Safety-Identifier header cannot be passed on. Send it once, as a hash of "
            "at most 256 ASCII characters without spaces and commas."
        )


class Minter:
    """Mints tokens.

    Args:
        egress: Sends requests upstream.
        sealer: From `ringback.tokens.token_sealer`.
        settings: Lifetimes and timeouts.
        now: The time in seconds since the epoch.
        choose: Which of several deployments mints.
    """

    def __init__(
        self,
        egress: Egress,
        sealer: Sealer,
        settings: Settings,
        now: Callable[[], float],
        choose: Callable[[Sequence[Deployment]], Deployment] = random.choice,
    ) -> None:
        self._egress = egress
        self._sealer = sealer
        self._settings = settings
        self._now = now
        self._choose = choose

    async def mint(
        self,
        request: MintRequest,
        admitted: Admitted,
        safety_identifier: str | None,
    ) -> Answer:
        """Return the answer to the downstream.

        Args:
            request: What the caller asks for.
            admitted: Who asks, and who may mint.
            safety_identifier: The caller's ``OpenAI-Safety-Identifier``, passed on.

        Raises:
            ApiError: If the upstream refuses, fails or is too slow.
        """
        key, deployment = admitted.key, self._choose(admitted.deployments)
        upstream = provider_of(deployment).mint_request(deployment)
        if safety_identifier:
            upstream = _identify(upstream, safety_identifier)
        timeout_s = min(
            deployment.timeout_s or self._settings.upstream.mint_timeout_s,
            self._settings.upstream.mint_timeout_s,
        )
        body = request.upstream_body(deployment.upstream_model)
        with MINT_SECONDS.labels(deployment.id).time():
            answer = await self._egress.post(upstream, body, timeout_s=timeout_s)
        if not 200 <= answer.status < 300:
            # A provider's words may reach the caller, unless they quote the key that they refuse.
            is_safe = deployment.api_key.to_bytes() not in answer.body
            raise error_of(answer.status, answer.headers, answer.body if is_safe else b"")
        return self._hand_out(parse_minted(answer.body), request, deployment, key)

    def _hand_out(
        self, minted: Minted, request: MintRequest, deployment: Deployment, key: VirtualKey
    ) -> Answer:
        now = self._now()
        try:
            claims = self._claims(minted, request, deployment, key, int(now))
            token = self._sealer.seal(claims.to_claims(), now)
        except (ValueError, TokenError) as error:
            # What is minted cannot be sealed, an ephemeral key of 4 kB for example.
            raise UpstreamFailedError from error
        labels = Labels(
            "minted",
            key_alias=key.alias,
            key_hash=key.hash,
            team=key.team,
            user=key.user,
            model=deployment.model_name,
            deployment=deployment.id,
            token_id=claims.jti,
        )
        return Answer(
            200,
            minted.downstream_body(token, claims.exp),
            labels,
            {"content-type": "application/json", "cache-control": "no-store"},
        )

    def _claims(
        self,
        minted: Minted,
        request: MintRequest,
        deployment: Deployment,
        key: VirtualKey,
        now: int,
    ) -> CallClaims:
        provider = provider_of(deployment)
        latest = now + self._settings.token.max_lifetime_s
        expires_at = min(minted.expires_at or latest, latest)
        if expires_at <= now:
            # It expired before it arrived: our clock or theirs is wrong.
            raise UpstreamFailedError
        return CallClaims(
            jti=secrets.token_urlsafe(12),
            iat=now,
            exp=expires_at,
            ek=minted.ephemeral_key,
            deployment=deployment.id,
            origin=str(provider.calls_origin(deployment)),
            calls_path=provider.calls_path(deployment),
            auth_scheme=provider.CALLS_AUTH_SCHEME,
            model=deployment.model_name,
            asked=None if request.model == deployment.model_name else request.model,
            key_hash=key.hash,
            key_alias=key.alias,
            team=key.team,
            user=key.user,
            session_type=request.session_type,
        )


def _identify(request: UpstreamRequest, safety_identifier: str) -> UpstreamRequest:
    if not _IDENTIFIER.fullmatch(safety_identifier):
        raise InvalidSafetyIdentifierError
    headers = {**request.headers, SAFETY_IDENTIFIER: Secret(safety_identifier)}
    return replace(request, headers=headers)
