"""The state of one call, and what is to be done about it at a moment. Pure.

opened --> attached <--> lost        the sideband comes and goes
   any of these --> ending --> ended  a limit is reached or somebody asks; the provider confirms
   any of these --> ended             the provider has ended it
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Final

from callkeeper.meter import SPEECH
from callkeeper.model import Tokens
from ringback.calllimits import CallLimits, lowest

_NOTHING: Final = Tokens()


class Phase(Enum):
    """How far a call has come."""

    OPENED = auto()
    """Answered, and the sideband is not attached yet."""

    ATTACHED = auto()
    LOST = auto()
    """The sideband was attached and is not any more."""

    ENDING = auto()
    """It is to be hung up; the provider has not confirmed it."""

    ENDED = auto()


class Reason(StrEnum):
    """Why a call ends: a stable word for logs, metrics and events."""

    ENDED_ELSEWHERE = "ended_elsewhere"
    """By the caller or the provider: the call is gone."""

    WITHHELD = "withheld"
    """The caller was not given the answer: it was refused, or the caller had left."""

    NOT_ATTACHED = "not_attached"
    UNATTACHED = "unattached"
    MAX_DURATION = "max_duration"
    IDLE = "idle"
    MAX_COST = "max_cost"
    ADMIN = "admin"
    REVOKED = "revoked"
    POLICY_VIOLATION = "policy_violation"
    """The caller has changed what its session lock does not allow, again and again."""

    SESSION_NOT_LOCKED = "session_not_locked"
    """The provider does not do what the session lock wants."""

    UNCONTROLLABLE = "uncontrollable"
    """The provider's API has no way back into the call, and supervision is required."""

    # What extauthz says of who pays.
    KEY_BLOCKED = "key_blocked"
    KEY_DELETED = "key_deleted"
    KEY_EXPIRED = "key_expired"
    TEAM_BLOCKED = "team_blocked"
    TEAM_DELETED = "team_deleted"
    PROJECT_BLOCKED = "project_blocked"
    USER_INACTIVE = "user_inactive"
    NOT_ALLOWED = "not_allowed"
    """The key may not use the model any more, or not call."""

    UNKNOWN_STANDING = "unknown_standing"
    """Nobody could tell for too long, and supervision is required."""

    KEY_BUDGET = "key_budget"
    WINDOW_BUDGET = "window_budget"
    MODEL_BUDGET = "model_budget"
    MEMBER_BUDGET = "member_budget"
    TEAM_BUDGET = "team_budget"
    USER_BUDGET = "user_budget"
    ORGANIZATION_BUDGET = "organization_budget"
    PROJECT_BUDGET = "project_budget"
    PROXY_BUDGET = "proxy_budget"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call is held to. Durations in seconds; None is no limit.

    Attributes:
        is_required: Whether a call without a sideband has to end.
        attach_s: If so, how long after its answer.
        unattached_s: If so, how long after the sideband was lost.
        max_duration_s: How long it may last.
        idle_s: How long nobody may speak.
        max_cost_microdollars: What it may cost.
    """

    is_required: bool
    attach_s: float
    unattached_s: float
    max_duration_s: float
    idle_s: float | None = None
    max_cost_microdollars: int | None = None


def tightened(limits: Limits, own: CallLimits) -> Limits:
    """Return what a call is held to that has limits of its own."""
    cost = lowest(limits.max_cost_microdollars, own.max_cost_microdollars)
    return replace(
        limits,
        is_required=limits.is_required if own.is_required is None else own.is_required,
        max_duration_s=min(limits.max_duration_s, own.max_duration_s or limits.max_duration_s),
        idle_s=lowest(limits.idle_s, own.idle_s),
        max_cost_microdollars=None if cost is None else int(cost),
    )


@dataclass(frozen=True, slots=True)
class CallState:
    """One call at a moment. Times are of one clock, in seconds.

    Attributes:
        limits: What it is held to.
        opened_at: When the provider answered.
        active_at: When somebody spoke last; when it was opened before that.
        phase: How far it has come.
        lost_at: When the sideband was lost, if it is.
        reason: Why it ends or has ended.
        used: What it has used.
        cost_microdollars: What that costs.
        was_warned: Whether its end was announced.
        speaking: Who is speaking.
    """

    limits: Limits
    opened_at: float
    active_at: float
    phase: Phase = Phase.OPENED
    lost_at: float | None = None
    reason: Reason | None = None
    used: Tokens = _NOTHING
    cost_microdollars: int = 0
    was_warned: bool = False
    speaking: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether nothing has been done about its end."""
        return self.phase not in (Phase.ENDING, Phase.ENDED)


def opened(limits: Limits, now: float) -> CallState:
    """Return the state of a call that has just been answered."""
    return CallState(limits, opened_at=now, active_at=now)


def attached(state: CallState) -> CallState:
    """Return the state once the sideband is attached."""
    return replace(state, phase=Phase.ATTACHED, lost_at=None) if state.is_open else state


def lost(state: CallState, now: float) -> CallState:
    """Return the state once the sideband is lost."""
    if state.phase is not Phase.ATTACHED:
        return state
    # Nobody would hear when they cease to.
    return replace(state, phase=Phase.LOST, lost_at=now, speaking=frozenset())


def active(state: CallState, now: float) -> CallState:
    """Return the state after somebody spoke."""
    return replace(state, active_at=max(now, state.active_at))


def heard(state: CallState, event: str, now: float) -> CallState:
    """Return the state after an event that shows that somebody is there.

    Args:
        state: Before it.
        event: Its type, one of `callkeeper.meter.ACTIVITY`.
        now: When it came.
    """
    state = active(state, now)
    if event not in SPEECH:
        return state
    who, begins = SPEECH[event]
    return replace(state, speaking=state.speaking | {who} if begins else state.speaking - {who})


def charged(state: CallState, tokens: Tokens, cost_microdollars: int) -> CallState:
    """Return the state after something was used; that may also come when the call is ending."""
    return replace(
        state,
        used=state.used + tokens,
        cost_microdollars=state.cost_microdollars + cost_microdollars,
    )


def warned(state: CallState) -> CallState:
    """Return the state after its end was announced."""
    return replace(state, was_warned=True)


def ending(state: CallState, reason: Reason) -> CallState:
    """Return the state once it is decided that the call ends; the first reason stays."""
    return replace(state, phase=Phase.ENDING, reason=reason) if state.is_open else state


def ended(state: CallState, reason: Reason = Reason.ENDED_ELSEWHERE) -> CallState:
    """Return the state after the end; a reason that was there before stays."""
    return replace(state, phase=Phase.ENDED, reason=state.reason or reason)


@dataclass(frozen=True, slots=True)
class End:
    """Hang up now."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before this time, unless the state changes; None: ever."""

    until: float | None


def earliest(*waits: Wait) -> float | None:
    """Return when the first of some waits is over; None if none ever is."""
    return min((wait.until for wait in waits if wait.until is not None), default=None)


def next_step(state: CallState, now: float) -> End | Wait:
    """Return what is to be done about a call at a moment.

    Of several limits that are reached the one counts that was reached first.
    """
    if not state.is_open:
        return Wait(None)
    limit = state.limits.max_cost_microdollars
    if limit is not None and state.cost_microdollars >= limit:
        return End(Reason.MAX_COST)
    time, reason = min(_deadlines(state))
    return End(reason) if time <= now else Wait(time)


def idle_ends_at(state: CallState) -> float | None:
    """Return when a call ends unless somebody speaks; None if somebody does, or it never will.

    Without the sideband nobody can tell whether somebody speaks.
    """
    idle_s = state.limits.idle_s
    if idle_s is None or state.speaking or state.phase is not Phase.ATTACHED:
        return None
    return state.active_at + idle_s


def _deadlines(state: CallState) -> Iterator[tuple[float, Reason]]:
    limits = state.limits
    yield state.opened_at + limits.max_duration_s, Reason.MAX_DURATION
    if (idle_at := idle_ends_at(state)) is not None:
        yield idle_at, Reason.IDLE
    if limits.is_required and state.phase is Phase.OPENED:
        yield state.opened_at + limits.attach_s, Reason.NOT_ATTACHED
    if limits.is_required and state.lost_at is not None:
        yield state.lost_at + limits.unattached_s, Reason.UNATTACHED
