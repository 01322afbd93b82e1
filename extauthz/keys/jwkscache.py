"""An OpenID provider's keys, fetched when they are needed and remembered."""

import asyncio
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from jwt import PyJWK

from extauthz.apibase import parse_base_url
from extauthz.egress import Egress
from extauthz.errors import KeySourceUnavailableError
from extauthz.keys.jwks import JwkSet, JwkSetError, parse_jwk_set
from ringback.errors import ApiError
from ringback.logs import describe, get_logger
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings

_HEADERS: Final = MappingProxyType({"accept": Secret("application/jwk-set+json, application/json")})
# Between two requests while there is no set at all.
_PROBE_S: Final = 1.0


class JwksCache:
    """Finds the key that a token was signed with.

    The set is fetched at the first token, when it is old, and when a token names a key that is not
    in it; never twice at once, and never more often than the settings allow. An old set stays in
    use while a new one is fetched, unless nobody has asked for twice its time; and, for a bounded
    time, while none can be had.

    Args:
        settings: Whose ``jwks_url`` is set.
        egress: Sends the requests.
        now: A monotonic time in seconds.

    Raises:
        ValueError: If the URL cannot be used; the text says what to do and quotes nothing.
    """

    def __init__(
        self,
        settings: OidcSettings,
        egress: Egress,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._egress = egress
        self._now = now
        self._origin, self._path = parse_base_url(settings.jwks_url or "")
        self._keys: JwkSet | None = None
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        self._is_down = False
        self._fetching: asyncio.Task[None] | None = None
        self._log = get_logger()

    async def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        """Return a key, or None if the provider does not have it.

        Raises:
            KeySourceUnavailableError: If nobody can tell: 503.
        """
        now = self._now()
        if self._keys is None or now - self._fetched_at > self._settings.stale_s:
            self._keys = None
            await self._refresh(now)
        elif self._is_overdue(now):
            await self._refresh(now)
        elif now - self._fetched_at > self._settings.refresh_s:
            # Nobody waits for it.
            self._start(now)
        key = self._find(algorithm, kid)
        if key is None and self._keys is not None:
            await self._refresh(now)
            key = self._find(algorithm, kid)
        if key is None and (self._is_down or self._keys is None):
            raise KeySourceUnavailableError
        return key

    async def stop(self) -> None:
        """End a request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _is_overdue(self, now: float) -> bool:
        """Tell whether nobody has asked for so long that a key may have been taken back."""
        long_s = 2 * self._settings.refresh_s
        if self._asked_at is None or now - self._fetched_at <= long_s:
            return False
        is_first_answer = self._fetching is not None and not self._is_down
        return is_first_answer or now - self._asked_at > long_s

    def _find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        return None if self._keys is None else self._keys.find(algorithm, kid)

    async def _refresh(self, now: float) -> None:
        """Fetch the set, or wait for it if that is under way, unless it is too soon."""
        self._start(now)
        if self._fetching is not None:
            # One waiter that goes away takes nothing from the others.
            await asyncio.shield(self._fetching)

    def _start(self, now: float) -> None:
        pause_s = self._settings.min_refresh_s
        if self._keys is None:
            pause_s = min(pause_s, _PROBE_S)
        is_soon = self._asked_at is not None and now - self._asked_at < pause_s
        if self._fetching is None and not is_soon:
            self._asked_at = now
            self._fetching = asyncio.create_task(self._fetch(now))
            self._fetching.add_done_callback(self._end)

    def _end(self, _task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self, now: float) -> None:
        try:
            answer = await self._egress.send(
                "GET", self._origin, self._path, _HEADERS, timeout_s=self._settings.timeout_s
            )
            if answer.status != 200:
                raise JwkSetError  # noqa: TRY301  as good as no set
            keys = parse_jwk_set(answer.body)
        except (ApiError, JwkSetError) as error:
            if not self._is_down:
                self._log.error("jwks_not_fetched", **describe(error))
            self._is_down = True
            return
        if self._is_down:
            self._log.info("jwks_fetched_again")
        self._keys, self._fetched_at, self._is_down = keys, now, False
