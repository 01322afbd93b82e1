"""Those who listen in on a call, and how its events reach them."""

import asyncio
from typing import Any

from emulator.faults import Faults

# Events for one who listens in, as JSON; None when the call has ended.
Inbox = asyncio.Queue[str | None]


class Observers:
    """Everyone who listens in on one call.

    Args:
        faults: Of the emulator; they may hold events back, or repeat them.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._inboxes: set[Inbox] = set()
        self._most = 0
        self._held_back: dict[asyncio.TimerHandle, str] = {}
        self._alone_since: float | None = None
        self._alone_s = 0.0
        self._has_ended = False

    def watch(self) -> None:
        """Note that the call is live: from now on somebody should listen."""
        self._alone_since = _now()

    def add(self) -> Inbox:
        """Return an inbox that gets a copy of every event from now on."""
        inbox: Inbox = asyncio.Queue()
        if self._has_ended:
            # It ended during the upgrade.
            inbox.put_nowait(None)
            return inbox
        self._alone_s, self._alone_since = self._longest_alone_s(), None
        self._inboxes.add(inbox)
        self._most = max(self._most, len(self._inboxes))
        return inbox

    def remove(self, inbox: Inbox) -> None:
        """Stop filling an inbox; the call goes on."""
        if inbox in self._inboxes:
            self._inboxes.remove(inbox)
            self._alone_since = None if self._inboxes else _now()

    def tell(self, kind: str, text: str) -> None:
        """Give an event of a type to everyone, as faults have it."""
        fault = self._faults.take_event(kind)
        if fault.late_s:
            self._hold_back(fault.late_s, text)
        else:
            self._hand_out(text)
        if fault.again_s is not None:
            self._hold_back(fault.late_s + fault.again_s, text)

    def end(self) -> None:
        """Give everyone what was held back, and then the end of the call."""
        self._has_ended = True
        held_back = dict(self._held_back)
        self._held_back.clear()
        for timer, text in held_back.items():
            timer.cancel()
            self._hand_out(text)
        self._alone_s, self._alone_since = self._longest_alone_s(), None
        for inbox in self._inboxes:
            inbox.put_nowait(None)
        self._inboxes.clear()

    def snapshot(self) -> dict[str, Any]:
        """Return how many listen, how many did at most, and for how many seconds none did."""
        return {
            "observers": len(self._inboxes),
            "observers_most": self._most,
            "unobserved_s": round(self._longest_alone_s(), 3),
        }

    def _hold_back(self, delay_s: float, text: str) -> None:
        def hand_out() -> None:
            del self._held_back[timer]
            self._hand_out(text)

        timer = asyncio.get_running_loop().call_later(delay_s, hand_out)
        self._held_back[timer] = text

    def _hand_out(self, text: str) -> None:
        for inbox in self._inboxes:
            inbox.put_nowait(text)

    def _longest_alone_s(self) -> float:
        alone_s = 0.0 if self._alone_since is None else _now() - self._alone_since
        return max(self._alone_s, alone_s)


def _now() -> float:
    return asyncio.get_running_loop().time()
