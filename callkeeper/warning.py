"""When a call is warned of its end, and in which words. Pure."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from callkeeper.calls import CallState, Phase, Reason

WarnAs = Literal["event", "item", "response"]

_SAYS: Final = {
    Reason.MAX_DURATION: "This call is going to be ended in about {seconds:.0f} seconds.",
    Reason.MAX_COST: "This call has nearly cost what it may, and is going to be ended soon.",
}
_TELL: Final = "Tell the user in one short sentence, in the language of the conversation: "


@dataclass(frozen=True, slots=True)
class Warnings:
    """When calls are warned; None is never.

    Attributes:
        before_s: How long before the longest duration, in seconds.
        cost_share: From which part of the highest cost on.
        told_as: How the call is told.
    """

    before_s: float | None = None
    cost_share: float | None = None
    told_as: WarnAs = "item"


@dataclass(frozen=True, slots=True)
class DueWarning:
    """A warning that is due.

    Attributes:
        at: When, in seconds of the clock of the call's state; may be over.
        why: What is going to end the call.
    """

    at: float
    why: Reason


def next_warning(state: CallState, warnings: Warnings) -> DueWarning | None:
    """Return the warning that a call gets; None if it gets none, or had it.

    Whom nobody listens to cannot be warned: that comes when the sideband is there again.
    """
    if state.was_warned or state.phase is not Phase.ATTACHED:
        return None
    limit, share = state.limits.max_cost_microdollars, warnings.cost_share
    if limit is not None and share is not None and state.cost_microdollars >= share * limit:
        return DueWarning(state.opened_at, Reason.MAX_COST)
    if warnings.before_s is None:
        return None
    end = state.opened_at + state.limits.max_duration_s
    return DueWarning(end - warnings.before_s, Reason.MAX_DURATION)


def words_of(why: Reason, left_s: float) -> str:
    """Return what the call is told."""
    return _SAYS[why].format(seconds=max(left_s, 0.0))


def event_of(words: str, told_as: WarnAs) -> dict[str, Any] | None:
    """Return the event for the sideband; None if there is none.

    https://platform.openai.com/docs/api-reference/realtime-client-events
    """
    match told_as:
        case "item":
            content = [{"type": "input_text", "text": words}]
            item = {"type": "message", "role": "system", "content": content}
            return {"type": "conversation.item.create", "item": item}
        case "response":
            return {"type": "response.create", "response": {"instructions": _TELL + words}}
        case "event":
            return None
