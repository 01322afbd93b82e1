"""Between the messages of callsapi and what callkeeper knows; knows no rules."""

import re
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from callkeeper.calls import CallState, Phase, idle_ends_at
from callkeeper.model import Call, Payer, Tokens
from callkeeper.slots import Scope
from callkeeper.standing import Budget, Standing, Standpoint, reason_of
from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import RegisterRequest, TakeRequest
from ringback.calllimits import CallLimits
from ringback.sessionlock import parse_lock_text

_PHASES: Final = {
    Phase.OPENED: calls_pb2.PHASE_OPENED,
    Phase.ATTACHED: calls_pb2.PHASE_ATTACHED,
    Phase.LOST: calls_pb2.PHASE_LOST,
    Phase.ENDING: calls_pb2.PHASE_ENDING,
    Phase.ENDED: calls_pb2.PHASE_ENDED,
}
# Of all models and keys.
_LOCKS: Final = 128
_ID: Final = re.compile(r"[0-9a-f]{32}")
_PAYER: Final = tuple(field.name for field in fields(Payer))
_TOKENS: Final = tuple(field.name for field in fields(Tokens))


def read_call(request: RegisterRequest, call_id: str, now: float) -> Call:
    """Return the call that is registered.

    Args:
        request: As it came.
        call_id: Our id of it, if the request has none.
        now: In seconds since 1970.

    Raises:
        ValueError: If something is missing or wrong without which no call can be kept.
    """
    for name in ("handle", "deployment", "upstream_call_id"):
        if not getattr(request, name):
            raise ValueError(f"{name} is missing")
    if not request.payer.key_hash:
        raise ValueError("payer.key_hash is missing")
    if request.id:
        call_id = read_id(request.id)
    payer: dict[str, Any] = {name: getattr(request.payer, name) or None for name in _PAYER}
    return Call(
        id=call_id,
        deployment=request.deployment,
        origin=request.origin,
        upstream_call_id=request.upstream_call_id,
        model=request.model,
        payer=Payer(**payer),
        token_id=request.token_id,
        request_id=request.request_id,
        opened_at=now,
        asked=request.asked,
        session_lock=_read_lock(request.session_lock),
    )


def read_limits(message: calls_pb2.Limits) -> CallLimits:
    """Return what one call is held to beside the settings."""
    return CallLimits(
        message.is_required if message.HasField("is_required") else None,
        message.max_duration_s or None,
        message.idle_s or None,
        message.max_cost_microdollars or None,
    )


def write_standpoint(place: Standpoint) -> calls_pb2.Standpoint:
    """Return the message that asks extauthz about those who pay."""
    return calls_pb2.Standpoint(
        key_hash=place.key_hash,
        team_id=place.team_id or "",
        user_id=place.user_id or "",
        model=place.model,
        asked=place.asked,
        deployment=place.deployment,
    )


def write_token_call(call: Call) -> calls_pb2.TokenCall:
    """Return the message that asks extauthz whether the token of a call is revoked."""
    return calls_pb2.TokenCall(
        token_id=call.token_id,
        key_hash=call.payer.key_hash,
        key_alias=call.payer.key_alias or "",
        opened_at=call.opened_at,
    )


def read_standing(message: calls_pb2.Standing, now: float) -> Standing:
    """Return what extauthz says of them.

    Args:
        message: Which knows something.
        now: When it came.
    """
    budgets = tuple(
        Budget(each.kind, each.name, each.spend, each.limit, each.is_inclusive, each.begin)
        for each in message.budgets
    )
    return Standing(now, now - message.age_s, reason_of(message.reason), budgets)


@lru_cache(_LOCKS)
def _read_lock(text: str) -> str:
    """Return the text of a lock that makes sense: the same one, since it may be long."""
    parse_lock_text(text)
    return text


def read_id(call_id: str) -> str:
    """Return our id of a call.

    Raises:
        ValueError: If it is none.
    """
    if not _ID.fullmatch(call_id):
        raise ValueError("the id of the call is not 32 hexadecimal digits")
    return call_id


def read_scopes(request: TakeRequest) -> list[Scope]:
    """Return the scopes that a slot is taken of."""
    return [Scope(scope.name, scope.limit) for scope in request.scopes]


def write_state(
    call: Call,
    state: CallState,
    *,
    handle: str = "",
    ended_at: float = 0.0,
    budget_left: int | None = None,
) -> calls_pb2.CallState:
    """Return the message that says how a call is.

    Args:
        call: The call.
        state: How it is.
        handle: What the caller knows it by, if whoever is told may know.
        ended_at: If it has ended, when, in seconds since 1970.
        budget_left: In microdollars, if a budget holds.
    """
    limits = state.limits
    idle_at = idle_ends_at(state)
    return calls_pb2.CallState(
        id=call.id,
        deployment=call.deployment,
        model=call.model,
        payer=calls_pb2.Payer(
            **{name: getattr(call.payer, name) or "" for name in _PAYER},
        ),
        token_id=call.token_id,
        request_id=call.request_id,
        opened_at=call.opened_at,
        phase=_PHASES[state.phase],
        reason=state.reason or "",
        usage=calls_pb2.Usage(**{name: getattr(state.used, name) for name in _TOKENS}),
        cost_microdollars=state.cost_microdollars,
        ends_at=call.opened_at + limits.max_duration_s,
        max_cost_microdollars=limits.max_cost_microdollars or 0,
        handle=handle,
        # The times of a state are of another clock.
        idle_ends_at=0 if idle_at is None else call.opened_at + (idle_at - state.opened_at),
        ended_at=ended_at,
        budget_left_microdollars=budget_left,
    )
