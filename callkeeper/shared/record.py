"""A call as replicas share it. Pure; times of a `CallState` are of a clock that no other has.

They are stored as seconds since 1970, so the clocks of replicas must agree to a second or so.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from callkeeper.calls import CallState, Limits, Phase, Reason
from callkeeper.model import Call, Payer, Tokens

TOKENS: Final = tuple(field.name for field in fields(Tokens))
# The one of `Tokens` that is no integer.
_SECONDS: Final = "seconds"
# What is counted apart, and what only who listens knows.
_LEFT_OUT: Final = frozenset({"used", "cost_microdollars", "speaking"})
_TIME: Final = "_at"


class BadRecordError(Exception):
    """A record that cannot be read: of another version, or not ours."""

    def __str__(self) -> str:
        return "not a call of this version"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a call is and what never changes of it; nothing in it is readable that opens anything.

    Attributes:
        call: What callkeeper knows of it.
        handle: What the caller knows it by.
        sealed_key: Its ephemeral key, sealed for extauthz.
    """

    call: Call
    handle: str
    sealed_key: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come.

    Attributes:
        state: Its limits, phase and what it has used.
        was_attached: Whether anybody has ever listened to it.
        transcriber: Name of the model that transcribes in it; empty if nobody said.
    """

    state: CallState
    was_attached: bool = False
    transcriber: str = ""


def encode_facts(facts: Facts) -> str:
    """Return facts as JSON."""
    return _dump(asdict(facts))


def decode_facts(text: str | bytes) -> Facts:
    """Return the facts that JSON has.

    Raises:
        BadRecordError: If it has none.
    """
    try:
        found = json.loads(text)
        call = found["call"]
        payer = _known(Payer, call["payer"])
        return Facts(
            Call(**{**_known(Call, call), "payer": Payer(**payer)}),
            found["handle"],
            found["sealed_key"],
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError from error


def encode_progress(progress: Progress, since_1970: float) -> str:
    """Return how far a call has come as JSON, but for what it has used and who is speaking.

    Args:
        progress: Of the call.
        since_1970: What is to be added to its times for seconds since 1970.
    """
    state = progress.state
    found = {
        name: _shift(name, value, since_1970)
        for name, value in _fields(state).items()
        if name not in _LEFT_OUT
    }
    found |= {
        "limits": asdict(state.limits),
        "phase": state.phase.name,
        "was_attached": progress.was_attached,
        "transcriber": progress.transcriber,
    }
    return _dump(found)


def decode_progress(
    text: str | bytes, used: Tokens, cost_microdollars: int, since_1970: float
) -> Progress:
    """Return how far a call has come.

    Args:
        text: What `encode_progress` made.
        used: What it has used.
        cost_microdollars: What that costs.
        since_1970: As of `encode_progress`, of the clock of who reads it.

    Raises:
        BadRecordError: If it says nothing of the kind.
    """
    try:
        found = json.loads(text)
        was_attached, transcriber = bool(found["was_attached"]), str(found["transcriber"])
        state = {
            name: _shift(name, value, -since_1970)
            for name, value in _known(CallState, found).items()
        }
        state |= {
            "limits": Limits(**_known(Limits, found["limits"])),
            "phase": Phase[found["phase"]],
            "reason": _reason(found["reason"]),
            "used": used,
            "cost_microdollars": cost_microdollars,
        }
        return Progress(CallState(**state), was_attached, transcriber)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError from error


def encode_counters(used: Tokens, cost_microdollars: int) -> list[int | float]:
    """Return amounts in the order of the counters of a record: the cost first, then tokens."""
    return [cost_microdollars, *(getattr(used, name) for name in TOKENS)]


def decode_counters(values: list[bytes | None]) -> tuple[Tokens, int]:
    """Return what a call has used, and what that costs, of its counters.

    Raises:
        BadRecordError: If these are no numbers.
    """
    try:
        cost, *counts = [float(value or 0) for value in values]
        tokens = dict(zip(TOKENS, counts, strict=True))
    except ValueError as error:
        raise BadRecordError from error
    whole = {name: int(count) for name, count in tokens.items() if name != _SECONDS}
    return Tokens(**whole, seconds=tokens[_SECONDS]), int(cost)


def orphaned(progress: Progress, since: float) -> Progress:
    """Return how far a call has come whose keeper is gone: nobody listens to it since then."""
    state = progress.state
    if state.phase is not Phase.ATTACHED:
        return progress
    return replace(progress, state=replace(state, phase=Phase.LOST, lost_at=since))


def _fields(value: CallState) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _known(kind: type, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version of ours may have added leaves of an object."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def _shift(name: str, value: Any, by: float) -> Any:
    return value + by if name.endswith(_TIME) and value is not None else value


def _reason(value: str | None) -> Reason | None:
    if value is None or value in set(Reason):
        return None if value is None else Reason(value)
    # A newer version ends calls for more reasons; that it ends is what counts.
    return Reason.ENDED_ELSEWHERE


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
