"""What is told of calls outside of callkeeper: to webhooks and collectors. Pure."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from callkeeper.calls import CallState
from callkeeper.model import Call, Charge, Tokens

TOLD: Final = frozenset({"call.started", "call.warning", "call.ended"})
"""Names of what happens to calls that is told; what they use is ``call.usage``."""

_USAGE: Final = "call.usage"


@dataclass(frozen=True, slots=True)
class CallEvent:
    """Something that happened to a call.

    Attributes:
        id: The same for the same event, whoever tells it: by that it is known again.
        name: ``call.started``, ``call.usage``, ``call.warning``, ``call.ended``.
        at: When, in seconds since 1970.
        call: Whose.
        reason: Why it ends or has ended.
        tokens: Of ``call.usage``, what was used now; of the others, what the call has used so far.
        cost_microdollars: What that costs.
        usage_id: Of ``call.usage``: the provider's id of the response or the item.
        usage_model: Of ``call.usage``: the model that is billed, if the provider said it.
    """

    id: str
    name: str
    at: float
    call: Call
    reason: str | None
    tokens: Tokens
    cost_microdollars: int
    usage_id: str | None = None
    usage_model: str | None = None

    @property
    def kind(self) -> str:
        """What logs call it."""
        return "event"

    @property
    def facts(self) -> dict[str, object]:
        """What the log says of one that is lost."""
        return {"id": self.id, "name": self.name, "call": self.call.id}


Tell = Callable[[CallEvent], object]


def event_of_state(name: str, call: Call, state: CallState, at: float) -> CallEvent:
    """Return what happened to a call; the state is the one after it."""
    return CallEvent(
        _id(call, name), name, at, call, state.reason, state.used, state.cost_microdollars
    )


def event_of_charge(charge: Charge) -> CallEvent:
    """Return what a call has used."""
    call, usage = charge.call, charge.usage
    return CallEvent(
        _id(call, _USAGE, usage.id),
        _USAGE,
        usage.at,
        call,
        None,
        usage.tokens,
        charge.cost_microdollars,
        usage.id,
        usage.model or None,
    )


def to_data(event: CallEvent) -> dict[str, Any]:
    """Return what is told of an event, as JSON has it; what is not known is left out."""
    call, payer = event.call, event.call.payer
    data: dict[str, Any] = {
        "call": call.id,
        "model": call.model,
        "deployment": call.deployment,
        "request_id": call.request_id,
        "opened_at": to_time(call.opened_at),
        "duration_s": round(max(0.0, event.at - call.opened_at), 3),
        **asdict(payer),
        "reason": event.reason,
        "usage_id": event.usage_id,
        "usage_model": event.usage_model,
        **{kind: number for kind, number in asdict(event.tokens).items() if number},
        "cost_microdollars": event.cost_microdollars,
    }
    return {name: value for name, value in data.items() if value is not None}


def to_time(at: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 has it, in UTC."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _id(call: Call, *words: str) -> str:
    digest = hashlib.sha256("\0".join((call.id, *words)).encode())
    return f"evt_{digest.hexdigest()[:32]}"
