"""Between a call as it is kept and as it is shared."""

from collections.abc import Iterable
from dataclasses import replace

from callkeeper.calls import CallState, Phase, attached, lost
from callkeeper.kept import Kept
from callkeeper.meter import Meter
from callkeeper.shared.record import Facts, Progress


def is_kept(kept: Kept) -> bool:
    """Tell whether this replica decides about a call that has not ended."""
    return kept.is_owner and kept.state.phase is not Phase.ENDED


def facts_to_share(kept: Kept) -> Facts:
    """Return what never changes of a call."""
    return Facts(kept.call, kept.handle, kept.sealed_key)


def progress_of(kept: Kept, lost_at: float | None = None) -> Progress:
    """Return how far a call has come; with ``lost_at``, for who listens to it after that."""
    state = kept.state if lost_at is None else lost(kept.state, lost_at)
    return Progress(state, kept.was_attached, kept.meter.transcriber)


def kept_of(facts: Facts, progress: Progress, usage_ids: Iterable[str]) -> Kept:
    """Return a call of another replica as it is kept here.

    Args:
        facts: What it is.
        progress: How far it has come.
        usage_ids: What it has used that is counted already.
    """
    return Kept(
        facts.call,
        facts.handle,
        facts.sealed_key,
        progress.state,
        Meter(usage_ids, progress.transcriber),
        was_attached=progress.was_attached,
    )


def taken_over(state: CallState, own: CallState) -> CallState:
    """Return the state of a call that this replica takes over and may have listened to."""
    if own.phase is not Phase.ATTACHED:
        return state
    active_at = max(state.active_at, own.active_at)
    return attached(replace(state, active_at=active_at, speaking=own.speaking))
