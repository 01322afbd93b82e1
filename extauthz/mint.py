"""``client_secrets``: mints an ephemeral key upstream and hands out a sealed token instead."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from extauthz.decision import Answer, Labels
from extauthz.deployments import Deployment
from extauthz.egress import Egress
from extauthz.keys import VirtualKey
from extauthz.metrics import MINT_SECONDS
from extauthz.mintbody import Minted, MintRequest, parse_minted
from extauthz.providers import provider_of
from extauthz.providers.base import UpstreamRequest
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.tokens.claims import CallClaims
from ringback.tokens.jwe import Sealer
from ringback.upstream import UpstreamFailedError, error_of

SAFETY_IDENTIFIER: Final = "openai-safety-identifier"


class Minter:
    """Mints tokens.

    Args:
        egress: Sends requests upstream.
        sealer: From `ringback.tokens.token_sealer`.
        settings: Lifetimes and timeouts.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self, egress: Egress, sealer: Sealer, settings: Settings, now: Callable[[], float]
    ) -> None:
        self._egress = egress
        self._sealer = sealer
        self._settings = settings
        self._now = now

    async def mint(
        self,
        request: MintRequest,
        deployment: Deployment,
        key: VirtualKey,
        safety_identifier: str | None,
    ) -> Answer:
        """Return the answer to the downstream.

        Args:
            request: What the caller asks for.
            deployment: Who mints.
            key: Who asks; it may use the deployment's group.
            safety_identifier: The caller's ``OpenAI-Safety-Identifier``, passed on.

        Raises:
            ApiError: If the upstream refuses, fails or is too slow.
        """
        upstream = provider_of(deployment).mint_request(deployment)
        if safety_identifier:
            upstream = _with_header(upstream, SAFETY_IDENTIFIER, safety_identifier)
        timeout_s = min(
            deployment.timeout_s or self._settings.upstream.mint_timeout_s,
            self._settings.upstream.mint_timeout_s,
        )
        body = request.upstream_body(deployment.upstream_model)
        with MINT_SECONDS.labels(deployment.id).time():
            answer = await self._egress.post(upstream, body, timeout_s=timeout_s)
        if not 200 <= answer.status < 300:
            raise error_of(answer.status, answer.headers, answer.body)
        return self._hand_out(parse_minted(answer.body), request, deployment, key)

    def _hand_out(
        self, minted: Minted, request: MintRequest, deployment: Deployment, key: VirtualKey
    ) -> Answer:
        now = self._now()
        claims = self._claims(minted, request, deployment, key, int(now))
        token = self._sealer.seal(claims.to_claims(), now)
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
            origin=str(deployment.origin),
            calls_path=provider.calls_path(deployment),
            auth_scheme="bearer",
            model=deployment.model_name,
            key_hash=key.hash,
            key_alias=key.alias,
            team=key.team,
            user=key.user,
            session_type=request.session_type,
        )


def _with_header(request: UpstreamRequest, name: str, value: str) -> UpstreamRequest:
    return replace(request, headers={**request.headers, name: Secret(value)})
