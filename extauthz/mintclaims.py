"""What a token says about the ephemeral key in it."""

import secrets

from extauthz.access.errors import KeyExpiredError
from extauthz.admission import Admitted
from extauthz.deployments import Deployment
from extauthz.keys import VirtualKey
from extauthz.mintbody import MIN_EXPIRES_S, Minted, MintRequest
from extauthz.providers import provider_of
from ringback.tokens.claims import CallClaims
from ringback.upstream import UpstreamFailedError


def longest_life_s(key: VirtualKey, request: MintRequest, max_lifetime_s: int) -> int:
    """Return how long a token may live: what is shortest of settings, key and caller's wish.

    Args:
        key: The caller's.
        request: What it asks for.
        max_lifetime_s: That of the settings.
    """
    wish = None if request.expires_after is None else request.expires_after.get("seconds")
    limits = (max_lifetime_s, key.token_lifetime_s, wish)
    return max(MIN_EXPIRES_S, min(limit for limit in limits if limit is not None))


def check_alive(minted: Minted, now: int) -> None:
    """Check that an ephemeral key has not expired before it arrived.

    Raises:
        UpstreamFailedError: If it has, so that our clock or the provider's is wrong: 502.
    """
    if minted.expires_at is not None and minted.expires_at <= now:
        raise UpstreamFailedError


def claims_of(
    minted: Minted,
    request: MintRequest,
    deployment: Deployment,
    admitted: Admitted,
    *,
    now: int,
    max_lifetime_s: int,
) -> CallClaims:
    """Return the claims of a token for what a deployment has minted.

    The model is the group that the caller asked for, also where a fallback's deployment minted:
    by it the key is looked at again, and SDP policies, limits and logs go by it.

    Args:
        minted: What the provider answered, which `check_alive` has seen.
        request: What the caller asked for.
        deployment: Which minted.
        admitted: Who asked.
        now: In seconds since the epoch.
        max_lifetime_s: The longest life of a token by the settings.

    Raises:
        KeyExpiredError: If the caller's key has expired meanwhile: 401.
        UpstreamFailedError: If no token could hold what it would have to say: 502.
    """
    key, provider = admitted.key, provider_of(deployment)
    latest = now + longest_life_s(key, request, max_lifetime_s)
    if key.expires is not None:
        # A JWT is not seen again at calls.
        latest = min(latest, int(key.expires.timestamp()))
        if latest <= now:
            raise KeyExpiredError(key.expires)
    expires_at = min(minted.expires_at or latest, latest)
    try:
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
            bound_origin=request.page_origin,
        )
    except ValueError as error:
        raise UpstreamFailedError from error
