"""Whether those who pay for calls under way may go on, and which budgets hold for them.

What a token's key is asked at ``calls``, asked again while the call lasts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from extauthz.access import HeldBudget, are_free
from extauthz.access.errors import (
    KeyBlockedError,
    KeyExpiredError,
    ProjectBlockedError,
    Spender,
    TeamBlockedError,
    TeamUnknownError,
    UnknownKeyError,
    UserInactiveError,
)
from extauthz.admission import Admission, Readmitted, Standpoint
from extauthz.configuration import Knowing
from extauthz.deployments import Deployment
from extauthz.errors import AuthError, KeySourceUnavailableError, TokenUncheckedError
from extauthz.keys import VirtualKey
from extauthz.keys.cache import KeyNotAskableError
from extauthz.limits.rules import parallel_counters
from extauthz.revocations import TokenCall
from ringback.calllimits import NO_LIMITS
from ringback.tokens.claims import CallClaims

# Words of `callkeeper.calls.Reason`.
_REASONS: Final[dict[type[AuthError], str]] = {
    UnknownKeyError: "key_deleted",
    KeyBlockedError: "key_blocked",
    KeyExpiredError: "key_expired",
    TeamBlockedError: "team_blocked",
    TeamUnknownError: "team_deleted",
    ProjectBlockedError: "project_blocked",
    UserInactiveError: "user_inactive",
}
_NOT_ALLOWED: Final = "not_allowed"


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be said of a call.

    Attributes:
        reason: Why it has to end, as callkeeper calls it; None if it need not.
        age_s: How old that is: what has changed since is not in it.
        budgets: Those with a limit that is not reached.
    """

    reason: str | None = None
    age_s: float = 0.0
    budgets: tuple[HeldBudget, ...] = ()


class Standings:
    """Says how those stand who pay for calls.

    Args:
        admission: Looks at keys.
        knowing: Returns the configuration that knows a deployment.
        now: The time in seconds since the epoch.
        max_age_s: How old what is known of a key may be while its source can be asked.
        is_revoked: Tells whether the token of a call is revoked; may raise `TokenUncheckedError`.
    """

    def __init__(
        self,
        admission: Admission,
        knowing: Knowing,
        now: Callable[[], float],
        max_age_s: float,
        is_revoked: Callable[[TokenCall], bool] = lambda _: False,
    ) -> None:
        self._is_revoked = is_revoked
        self._admission = admission
        self._knowing = knowing
        self._now = now
        self._max_age_s = max_age_s

    async def of(self, call: Standpoint) -> Standing | None:
        """Return how who pays for a call stands; None if nobody can tell now."""
        # The key may be for a model that is new.
        self._knowing(lambda known: known.catalogue.by_id(call.deployment) is not None)
        try:
            found = await self._admission.find_again(call, self._max_age_s)
        except KeyNotAskableError:
            # The source answers the caller alone, who is not here.
            return Standing()
        except KeySourceUnavailableError:
            return None
        except AuthError as error:
            return Standing(_REASONS.get(type(error), _NOT_ALLOWED))
        return self._with_budgets(found)

    def revoked(self, calls: Iterable[TokenCall]) -> list[str]:
        """Return the ids of those tokens of calls that are revoked; none if nobody can tell yet."""
        try:
            return [call.jti for call in calls if self._is_revoked(call)]
        except TokenUncheckedError:
            return []

    def is_limited(self, claims: CallClaims, key: VirtualKey, deployment: Deployment) -> bool:
        """Tell whether a call that begins has limits of its key's own, or is under a budget."""
        has_calls = key.max_open_calls is not None or bool(parallel_counters(key))
        if key.call_limits != NO_LIMITS or has_calls:
            return True
        if deployment.is_free:
            return False
        budgets = self._admission.budgets_of(key, self._admission.wanted_by(key, claims))
        return any(True for _ in budgets)

    def _with_budgets(self, found: Readmitted) -> Standing:
        now, key = self._now(), found.key
        age_s = 0.0 if key.read_at is None else max(0.0, now - key.read_at)
        used = found.deployments if found.pinned is None else (found.pinned,)
        if are_free(used):
            return Standing(age_s=age_s)
        budgets = tuple(self._admission.budgets_of(key, found.wanted))
        for held in budgets:
            if held.is_used_up:
                return Standing(_reason(held.spender), age_s)
        return Standing(age_s=age_s, budgets=budgets)


def _reason(spender: Spender) -> str:
    return "window_budget" if spender == "team_window" else f"{spender}_budget"
