"""``client_secrets``: mints an ephemeral key upstream and hands out a sealed token instead."""

import random
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from extauthz.admission import Admitted
from extauthz.decision import Answer, Labels
from extauthz.deployments import Deployment
from extauthz.egress import Egress
from extauthz.metrics import MINT_SECONDS
from extauthz.mintbody import Minted, MintRequest, parse_minted
from extauthz.providers import provider_of
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


class MintFailedError(ApiError):
    """No deployment minted: the most useful of the reasons, in whose words the caller is answered.

    Args:
        error: The reason.
        deployment: The id of the last one that was asked, None if none was.
    """

    def __init__(self, error: ApiError, deployment: str | None) -> None:
        self.error = error
        self.deployment = deployment
        self.http_status = error.http_status
        self.type = error.type
        self.code = error.code
        self.param = error.param
        self.headers = error.headers

    def to_object(self) -> dict[str, str | None]:
        """Return the error object of the reason."""
        return self.error.to_object()

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True, slots=True)
class MintedAt:
    """An ephemeral key, and the one deployment that takes it.

    Attributes:
        deployment: Which minted.
        minted: What its provider answered, the ephemeral key in it.
        claims: What a token for it says; `extauthz.calls.allow_call` takes them without one, too.
    """

    deployment: Deployment
    minted: Minted
    claims: CallClaims


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
        """Return the answer to the downstream: the provider's, with a sealed token in it.

        Args:
            request: What the caller asks for.
            admitted: Who asks, and who may mint.
            safety_identifier: The caller's ``OpenAI-Safety-Identifier``, passed on.

        Raises:
            MintFailedError: If no deployment mints.
            InvalidSafetyIdentifierError: If it cannot be passed on: 400.
        """
        made = await self.obtain(request, admitted, safety_identifier)
        claims = made.claims
        try:
            token = self._sealer.seal(claims.to_claims(), claims.iat)
            body = made.minted.downstream_body(token, claims.exp)
        except (ValueError, TokenError) as error:
            # What is minted cannot be sealed, an ephemeral key of 4 kB for example.
            raise MintFailedError(UpstreamFailedError(), made.deployment.id) from error
        except UpstreamFailedError as error:
            raise MintFailedError(error, made.deployment.id) from error
        labels = Labels(
            "minted",
            key_alias=claims.key_alias,
            key_hash=claims.key_hash,
            team=claims.team,
            user=claims.user,
            model=claims.model,
            deployment=claims.deployment,
            token_id=claims.jti,
        )
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        return Answer(200, body, labels, headers)

    async def obtain(
        self, request: MintRequest, admitted: Admitted, safety_identifier: str | None
    ) -> MintedAt:
        """Return an ephemeral key that never leaves the gateway but for where it was minted.

        Args:
            request: As in `mint`.
            admitted: As in `mint`.
            safety_identifier: As in `mint`.

        Raises:
            MintFailedError: If no deployment mints.
            InvalidSafetyIdentifierError: If it cannot be passed on: 400.
        """
        if safety_identifier and not _IDENTIFIER.fullmatch(safety_identifier):
            raise InvalidSafetyIdentifierError
        deployment = self._choose(admitted.deployments)
        timeout_s = min(
            deployment.timeout_s or self._settings.upstream.mint_timeout_s,
            self._settings.upstream.mint_timeout_s,
        )
        try:
            minted = await self._ask(deployment, request, safety_identifier, timeout_s)
            return MintedAt(deployment, minted, self._claims(minted, request, deployment, admitted))
        except ApiError as error:
            raise MintFailedError(error, deployment.id) from error
        except ValueError as error:
            # What a claim cannot hold.
            raise MintFailedError(UpstreamFailedError(), deployment.id) from error

    async def _ask(
        self,
        deployment: Deployment,
        request: MintRequest,
        safety_identifier: str | None,
        timeout_s: float,
    ) -> Minted:
        """Ask one deployment, once."""
        upstream = provider_of(deployment).mint_request(deployment)
        if safety_identifier:
            headers = {**upstream.headers, SAFETY_IDENTIFIER: Secret(safety_identifier)}
            upstream = replace(upstream, headers=headers)
        body = request.upstream_body(deployment.upstream_model)
        with MINT_SECONDS.labels(deployment.id).time():
            answer = await self._egress.post(upstream, body, timeout_s=timeout_s)
        if not 200 <= answer.status < 300:
            # A provider's words may reach the caller, unless they quote the key that they refuse.
            is_safe = deployment.api_key.to_bytes() not in answer.body
            raise error_of(answer.status, answer.headers, answer.body if is_safe else b"")
        return parse_minted(answer.body)

    def _claims(
        self,
        minted: Minted,
        request: MintRequest,
        deployment: Deployment,
        admitted: Admitted,
    ) -> CallClaims:
        now = int(self._now())
        key, provider = admitted.key, provider_of(deployment)
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
            model=admitted.group,
            asked=None if request.model == admitted.group else request.model,
            key_hash=key.hash,
            key_alias=key.alias,
            team=key.team,
            user=key.user,
            session_type=request.session_type,
        )
