"""Whether a call may go on, by what extauthz says of who pays for it. Pure."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from callkeeper.calls import Reason
from callkeeper.model import Call

_MICRO: Final = 1_000_000
# A billion dollars: a limit that is none.
_MOST: Final = 10**15
_REASONS: Final = {
    "key": Reason.KEY_BUDGET,
    "window": Reason.WINDOW_BUDGET,
    "team_window": Reason.WINDOW_BUDGET,
    "model": Reason.MODEL_BUDGET,
    "member": Reason.MEMBER_BUDGET,
    "project": Reason.PROJECT_BUDGET,
    "team": Reason.TEAM_BUDGET,
    "organization": Reason.ORGANIZATION_BUDGET,
    "user": Reason.USER_BUDGET,
    "proxy": Reason.PROXY_BUDGET,
}


@dataclass(frozen=True, slots=True)
class Standpoint:
    """By which calls are open: those with the same one stand the same.

    Attributes:
        key_hash: As of `callkeeper.model.Payer`.
        team_id: Likewise.
        user_id: Likewise.
        model: Name of the model group.
        asked: What the caller asked for, if that is another name.
        deployment: Id of the deployment.
    """

    key_hash: str
    team_id: str | None
    user_id: str | None
    model: str
    asked: str
    deployment: str


def standpoint_of(call: Call) -> Standpoint:
    """Return by what a call is open."""
    payer = call.payer
    return Standpoint(
        payer.key_hash, payer.team_id, payer.user_id, call.model, call.asked, call.deployment
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget that holds for a call. Amounts in US dollars.

    Attributes:
        kind: Whose it is: one of those in `callsapi`.
        name: Tells several of a kind apart.
        spend: What was spent when it was read.
        limit: What may be.
        is_inclusive: Whether the limit itself may still be spent.
        begin: When the current window has begun, in seconds since 1970; 0 for what is no window.
    """

    kind: str
    name: str
    spend: float
    limit: float
    is_inclusive: bool = False
    begin: float = 0.0

    def is_used_up(self, unread_microdollars: int) -> bool:
        """Tell whether nothing is left, with what the spend does not show."""
        left = self.left(unread_microdollars)
        return left < 0 if self.is_inclusive else left <= 0

    def left(self, unread_microdollars: int) -> int:
        """Return the microdollars that may still be spent, with what the spend does not show."""
        left = (self.limit - self.spend) * _MICRO
        if not math.isfinite(left):
            # What is no number is in no budget.
            return _MOST if left > 0 else -1
        # Doubles of dollars add up to a little more or less.
        return round(left) - unread_microdollars


@dataclass(frozen=True, slots=True)
class Standing:
    """What extauthz said of a standpoint. Times are of one clock, in seconds.

    Attributes:
        answered_at: When it said so.
        read_at: When that was read: what has changed since is not in it.
        reason: Why calls have to end; None if they may go on.
        budgets: Those with a limit.
    """

    answered_at: float
    read_at: float
    reason: Reason | None = None
    budgets: tuple[Budget, ...] = ()


def reason_of(word: str) -> Reason | None:
    """Return the reason that extauthz names; one that is not known here is still one to end."""
    if not word:
        return None
    return Reason(word) if word in set(Reason) else Reason.NOT_ALLOWED


def used_up(budgets: Iterable[Budget], unread: Callable[[Budget], int]) -> Reason | None:
    """Return why calls have to end whose budgets these are; None if they may go on.

    Args:
        budgets: All that hold.
        unread: Returns the microdollars that the spend of one does not show.
    """
    for budget in budgets:
        if budget.is_used_up(unread(budget)):
            return _REASONS.get(budget.kind, Reason.NOT_ALLOWED)
    return None


def least_left(budgets: Iterable[Budget], unread: Callable[[Budget], int]) -> int | None:
    """Return the microdollars that are left of the budget with the least; None if there is none.

    Args:
        budgets: As of `used_up`.
        unread: Likewise.
    """
    least = min((budget.left(unread(budget)) for budget in budgets), default=None)
    return None if least is None else max(0, least)


def unknown(standing: Standing | None, since: float, now: float, timeout_s: float) -> Reason | None:
    """Return why a call has to end that must not go on unsupervised; None if it may go on.

    Args:
        standing: What was said last.
        since: From when on somebody asks for the call.
        now: The time.
        timeout_s: How long nobody may be able to tell.
    """
    known_at = since if standing is None else max(since, standing.answered_at)
    return Reason.UNKNOWN_STANDING if now - known_at >= timeout_s else None
