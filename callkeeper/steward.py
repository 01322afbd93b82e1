"""Says on sidebands what has to be said: locked sessions are put back, and ends are announced.

What and when, `sessionguard` and `warning` decide.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from callkeeper import calls, metrics
from callkeeper.calls import CallState, End, Wait, earliest
from callkeeper.kept import Kept, facts_of
from callkeeper.model import Call
from callkeeper.sessionguard import BEGUN, DONE, SessionGuard
from callkeeper.warning import DueWarning, Warnings, event_of, next_warning, words_of
from ringback.logs import get_logger
from ringback.sessionlock import SessionLock, parse_lock_text

_WARNED: Final = "call.warning"
# Locks at a time, of all models and keys.
_LOCKS: Final = 128


class Steward:
    """Speaks in the calls that this replica decides about.

    Args:
        warnings: When calls are warned.
        max_violations: With so many a call with a session lock ends.
    """

    def __init__(self, warnings: Warnings | None = None, max_violations: int = 5) -> None:
        self.change: Callable[[Kept, CallState], None] = lambda *_: None
        self.tell: Callable[[str, Kept], None] = lambda *_: None
        """Both are the keeper's."""
        self._warnings = warnings or Warnings()
        self._max_violations = max_violations
        self._log = get_logger()

    def guard_of(self, call: Call) -> SessionGuard | None:
        """Return what sees to the session of a call; None if it is not locked."""
        if not call.session_lock:
            return None
        return SessionGuard(_parse_lock(call.session_lock), self._max_violations)

    def begin(self, kept: Kept, now: float) -> None:
        """Begin to speak in a call, if it has a sideband."""
        kept.is_answering = False
        if kept.guard is not None and kept.is_owner and kept.sender is not None:
            self._say(kept, kept.guard.attached(now))

    def take(self, kept: Kept, event: Mapping[str, Any], now: float) -> bool:
        """Take an event of a sideband; tell whether that makes it worth to `look`."""
        kind = event.get("type")
        if kind in {BEGUN, DONE}:
            kept.is_answering = kind == BEGUN
        if kept.guard is None or not kept.is_owner or not kept.state.is_open:
            return kind == DONE and self._waits_for_silence
        before = kept.guard.due_at
        self._see_to(kept, kept.guard, lambda guard: guard.read(event, now))
        return (
            (kind == DONE and self._waits_for_silence)
            or kept.guard.due_at != before
            or kept.guard.reason is not None
        )

    def look(self, kept: Kept, now: float) -> End | Wait:
        """Say what is due; return what is to be done after that."""
        times = [Wait(None)]
        if not kept.state.is_open:
            return times[0]
        if kept.guard is not None:
            self._see_to(kept, kept.guard, lambda guard: guard.due(now))
            if kept.guard.reason is not None:
                return End(kept.guard.reason)
            times.append(Wait(kept.guard.due_at))
        warning = next_warning(kept.state, self._warnings)
        if warning is not None and warning.at > now:
            times.append(Wait(warning.at))
        elif warning is not None and not (kept.is_answering and self._waits_for_silence):
            self._warn(kept, warning, now)
        return Wait(earliest(*times))

    @property
    def _waits_for_silence(self) -> bool:
        # A conversation has one response at a time.
        return self._warnings.told_as == "response"

    def _see_to(
        self,
        kept: Kept,
        guard: SessionGuard,
        see: Callable[[SessionGuard], Iterable[Mapping[str, Any]]],
    ) -> None:
        before = guard.violations
        events = see(guard)
        if guard.violations != before:
            metrics.VIOLATIONS.labels(kept.call.deployment).inc(guard.violations - before)
            self._log.warning("session_violated", count=guard.violations, **facts_of(kept))
        self._say(kept, events)

    def _warn(self, kept: Kept, warning: DueWarning, now: float) -> None:
        self.change(kept, calls.warned(kept.state))
        left_s = kept.state.opened_at + kept.state.limits.max_duration_s - now
        event = event_of(words_of(warning.why, left_s), self._warnings.told_as)
        if event is not None:
            self._say(kept, [event])
        metrics.WARNINGS.labels(warning.why).inc()
        self.tell(_WARNED, kept)

    def _say(self, kept: Kept, events: Iterable[Mapping[str, Any]]) -> None:
        if kept.sender is not None:
            for event in events:
                kept.sender.send(event)


@lru_cache(_LOCKS)
def _parse_lock(text: str) -> SessionLock:
    return parse_lock_text(text)
