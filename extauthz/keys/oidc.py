"""Callers whose key is a JWT of an OpenID provider."""

import time
from collections.abc import Callable
from dataclasses import replace

from extauthz.keys.jwkscache import JwksCache
from extauthz.keys.model import KeyQuery, VirtualKey
from extauthz.keys.oidcclaims import HASH_PREFIX, JwtRefusedError, is_jwt, read_jwt, verify_jwt
from extauthz.keys.sources import KeySource
from extauthz.metrics import JWTS_REFUSED
from ringback.logs import get_logger
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings


class OidcSource:
    """Knows every JWT that the provider signed for us.

    A call's token lives no longer than the JWT that minted it, and names its model; so at calls
    only what the team and the user may do is asked again.

    Args:
        settings: What is accepted.
        keys: The provider's.
        scopes: Knows teams and users by the ids in a query: blocked ones, models, budgets and
            limits. None if nobody does.
        now: The time in seconds since the epoch.
    """

    def __init__(
        self,
        settings: OidcSettings,
        keys: JwksCache,
        scopes: KeySource | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._scopes = scopes
        self._now = now
        self._log = get_logger()

    async def start(self) -> None:
        """Begin; keys are fetched when the first JWT comes."""

    async def stop(self) -> None:
        """End a request for keys."""
        await self._keys.stop()

    async def find(self, query: KeyQuery) -> VirtualKey | None:
        """Return the key that a JWT amounts to, or None if it is no JWT or not accepted.

        Raises:
            KeySourceUnavailableError: If the provider's keys, or teams and users, cannot be had.
        """
        if query.secret is None:
            if not query.hash.startswith(HASH_PREFIX):
                return None
            key = VirtualKey(query.hash, team=query.team, user=query.user)
        elif is_jwt(query.secret):
            try:
                key = await self.verify(query.secret)
            except JwtRefusedError as error:
                JWTS_REFUSED.labels(error.reason).inc()
                self._log.debug("jwt_refused", reason=error.reason)
                return None
        else:
            return None
        return await self._with_scopes(key, query)

    async def verify(self, credential: Secret) -> VirtualKey:
        """Return the key that a JWT amounts to, without teams and users.

        Raises:
            JwtRefusedError: If it is not accepted, and why.
            KeySourceUnavailableError: If the provider's keys cannot be had.
        """
        token = read_jwt(credential, self._settings)
        signer = await self._keys.find(token.algorithm, token.kid)
        if signer is None:
            raise JwtRefusedError("signer")
        return verify_jwt(token, signer, self._settings, self._now())

    async def _with_scopes(self, key: VirtualKey, query: KeyQuery) -> VirtualKey:
        if self._scopes is None:
            return key
        about = KeyQuery(key.hash, team=key.team, user=key.user, max_age_s=query.max_age_s)
        known = await self._scopes.find(about)
        if known is None:
            return key
        return replace(
            known,
            hash=key.hash,
            models=key.models,
            expires=key.expires,
            team=key.team,
            user=key.user,
        )
