"""The one place that opens callers' tokens, and says whether they still count."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from secrets import token_urlsafe

from extauthz.calls import TokenRefusedError
from extauthz.decision import RequestFacts
from extauthz.metrics import TOKENS_OPENED, TOKENS_REFUSED
from extauthz.tokenuses import Uses, UsesUnavailableError
from ringback.errors import ApiError
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.jwe import Sealer
from ringback.valkey import StoreUnavailableError


class TokenGuard:
    """Opens tokens; whatever is wrong with one, the answer is the same.

    Args:
        sealer: From `ringback.tokens.token_sealer`.
        now: The time in seconds since the epoch.
        uses: Knows which tokens are spent; None if they may be used until they expire.
        is_revoked: Tells which tokens are refused before their time; it may raise `ApiError`.
    """

    def __init__(
        self,
        sealer: Sealer,
        now: Callable[[], float],
        *,
        uses: Uses | None = None,
        is_revoked: Callable[[CallClaims], bool] = lambda _: False,
    ) -> None:
        self._sealer = sealer
        self._now = now
        self._uses = uses
        self._is_revoked = is_revoked

    def open(self, token: str, request: RequestFacts, *, grace_s: int = 0) -> CallClaims:
        """Return what a token says. Whether its key is still good is for others to ask.

        Args:
            token: What the caller shows.
            request: With it; its ``Origin`` has to be the one that the token is bound to, if any.
            grace_s: For how many seconds after its expiry a token opens all the same.

        Raises:
            TokenRefusedError: If it does not count: 401.
            RevocationsUnavailableError: If nobody can tell whether it is revoked: 503.
        """
        try:
            claims = CallClaims.from_claims(self._sealer.open(token, self._now(), grace_s=grace_s))
        except TokenError as error:
            raise refused(error.reason) from None
        TOKENS_OPENED.inc()
        if claims.bound_origin not in {None, request.headers.get("origin")}:
            raise refused("origin")
        if self._is_revoked(claims):
            raise refused("revoked")
        return claims

    @asynccontextmanager
    async def spend(self, claims: CallClaims, request: RequestFacts) -> AsyncIterator[None]:
        """Spend a token on what the block lets through, where tokens have a single use.

        If the block refuses, the token is as good as before. What happens to the request behind
        extauthz does not matter: the token stays spent.

        Args:
            claims: Of the token.
            request: That it comes with.

        Raises:
            TokenRefusedError: If it is spent already: 401.
            UsesUnavailableError: If nobody can tell: 503.
        """
        if self._uses is None:
            yield
            return
        # Envoy's own id; without one there is no second attempt that could be told from others.
        request_id = request.headers.get("x-request-id") or token_urlsafe()
        try:
            is_mine = await self._uses.take(claims, request_id)
        except StoreUnavailableError:
            raise UsesUnavailableError from None
        if not is_mine:
            raise refused("spent")
        try:
            yield
        except ApiError:
            with suppress(StoreUnavailableError):
                await self._uses.give_back(claims)
            raise


def refused(reason: str) -> TokenRefusedError:
    """Return the one answer, after counting why; the reason is for operators only."""
    TOKENS_REFUSED.labels(reason).inc()
    return TokenRefusedError()
