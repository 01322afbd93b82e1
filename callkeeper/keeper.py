"""Keeps calls: one task listens to each, and one ends it. What is to be done, `calls` decides."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from callkeeper import calls, metrics
from callkeeper.calls import CallState, End, Limits, Phase, Reason, earliest, next_step
from callkeeper.egress import Egress
from callkeeper.errors import NoRoomError
from callkeeper.hangup import hang_up
from callkeeper.kept import Charge, Kept, Verdict, Witness, facts_of
from callkeeper.listening import Listener
from callkeeper.model import Call, Tokens
from callkeeper.news import News
from callkeeper.reach import Reaches
from callkeeper.recent import Ended, RecentCalls
from callkeeper.slots import Slots
from callkeeper.steward import Steward
from ringback.calllimits import NO_LIMITS, CallLimits
from ringback.logs import get_logger

# After a hangup the last events are on their way: the usage of what was being said, above all.
_LAST_EVENTS_S: Final = 2.0


class Keeper:
    """Keeps the calls of one worker; `recent` are those that have ended.

    Args:
        limits: What every call is held to.
        reaches: Tells how providers are reached.
        egress: Reaches them.
        news: Is told what happens.
        charge: Books what was used.
        slots: Counts open calls.
        verdict: Tells why a call has to end for reasons outside of it, if it has to.
        steward: Speaks in calls.
        is_full: Tells whether there is no room for what calls will cost.
    """

    def __init__(
        self,
        limits: Limits,
        reaches: Reaches,
        egress: Egress,
        news: News,
        charge: Charge,
        *,
        slots: Slots,
        verdict: Verdict = lambda _: None,
        steward: Steward | None = None,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limits = limits
        self._reaches = reaches
        self._egress = egress
        self._listener = Listener(self, egress, reaches, charge)
        self._news = news
        self._slots = slots
        self.recent: Final = RecentCalls()
        self._verdict = verdict
        self.steward = steward or Steward()
        self.steward.change, self.steward.tell = self.change, self.tell
        self._is_full = is_full
        self._kept: dict[str, Kept] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._handles: dict[str, str] = {}
        self.witness: Witness | None = None
        """Is told what happens, so that other replicas know it."""
        self._log = get_logger()

    def prepare(
        self, call: Call, handle: str, sealed_key: str, limits: CallLimits = NO_LIMITS
    ) -> Kept:
        """Return a call as it is kept; the one that is kept already if it was registered before.

        Args:
            call: The call.
            handle: What the caller knows it by.
            sealed_key: Its ephemeral key, for extauthz.
            limits: What it is held to beside the settings.

        Raises:
            NoRoomError: If nobody could tell later what it has cost, and somebody must.
        """
        known = self._ids.get((call.deployment, call.upstream_call_id))
        if known is not None:
            return self._kept[known]
        held_to = calls.tightened(self._limits, limits)
        if held_to.is_required and self._is_full():
            raise NoRoomError
        return Kept(call, handle, sealed_key, calls.opened(held_to, time.monotonic()))

    def keep(self, kept: Kept, event: str = "call.started") -> None:
        """Keep a call from now on, and begin with it in a moment; nothing happens if it is kept.

        Args:
            kept: From `prepare`, or of another replica.
            event: How that is called.

        Raises:
            ValueError: If another call has its id.
        """
        call = kept.call
        if self._kept.get(call.id) is kept:
            return
        if call.id in self._kept:
            raise ValueError("another call has this id")
        kept.guard = self.steward.guard_of(call)
        self._kept[call.id] = kept
        self._ids[call.deployment, call.upstream_call_id] = self._handles[kept.handle] = call.id
        self._count(kept, 1)
        # An answer waits for the call to be kept, and for nothing else.
        asyncio.get_running_loop().call_soon(self._begin, kept, event)

    def _begin(self, kept: Kept, event: str) -> None:
        if self._kept.get(kept.call.id) is not kept:
            return
        self.tell(event, kept)
        kept.listener = asyncio.create_task(self._listener.listen(kept))
        if kept.ender is None:
            self._decide(kept)

    def take_over(self, kept: Kept, state: CallState) -> None:
        """Decide from now on about a call that was only listened to."""
        if not kept.is_owner:
            kept.is_owner, kept.since = True, time.monotonic()
            kept.state = state
            self._count(kept, 1)
            self.tell("call.adopted", kept)
            self.steward.begin(kept, time.monotonic())
            self._decide(kept)

    def hand_over(self, kept: Kept) -> None:
        """Only listen to a call from now on: another replica decides."""
        if kept.is_owner:
            self._count(kept, -1)
            kept.is_owner = False
            for waiting in (kept.timer, kept.ender):
                if waiting is not None:
                    waiting.cancel()
            kept.timer = kept.ender = None

    def let_go(self, kept: Kept) -> None:
        """Neither decide about a call nor listen to it any more; it goes on."""
        if self._kept.get(kept.call.id) is kept:
            self.hand_over(kept)
            kept.stop()
            self._forget(kept)

    def correct(self, kept: Kept, used: Tokens, cost_microdollars: int) -> None:
        """Take what a call has used for all observers together."""
        state = kept.state
        if (used, cost_microdollars) != (state.used, state.cost_microdollars):
            kept.state = replace(state, used=used, cost_microdollars=cost_microdollars)
            self.tell("call.usage", kept)
            self.look_at(kept)

    def find(self, name: str) -> Kept | None:
        """Return a call that this replica decides about, by its id or its handle."""
        kept = self._kept.get(self._handles.get(name, name))
        return kept if kept is not None and kept.is_owner else None

    def __iter__(self) -> Iterator[Kept]:
        """Give the calls that this replica decides about."""
        return iter([kept for kept in self._kept.values() if kept.is_owner])

    def end(self, kept: Kept, reason: Reason) -> None:
        """Begin to end a call; nothing happens if that has begun."""
        if not kept.state.is_open or not kept.is_owner:
            return
        self.change(kept, calls.ending(kept.state, reason))
        self._decide(kept)

    async def stop(self) -> None:
        """Let go of all calls. They go on at the provider."""
        tasks = [task for kept in self._kept.values() for task in kept.stop()]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _decide(self, kept: Kept) -> None:
        """Go on with a call where it is."""
        if kept.is_owner and kept.state.phase is Phase.ENDING:
            kept.ender = asyncio.create_task(self._hang_up(kept))
        else:
            self.look_at(kept)

    def _count(self, kept: Kept, sign: int) -> None:
        if kept.is_owner:
            (self._slots.keep if sign > 0 else self._slots.hand_over)(kept.call.id)
            metrics.OPEN_CALLS.inc(sign)
            metrics.ATTACHED_CALLS.inc(sign * (kept.state.phase is Phase.ATTACHED))

    def change(self, kept: Kept, state: CallState) -> None:
        """Have a call in another state, and count it there."""
        before, kept.state = kept.state, state
        if kept.is_owner:
            was, now = before.phase is Phase.ATTACHED, state.phase is Phase.ATTACHED
            metrics.ATTACHED_CALLS.inc(int(now) - int(was))
        # What costs and who speaks comes too often; replicas share it in another way.
        is_news = before.phase is not state.phase or before.was_warned is not state.was_warned
        if self.witness is not None and is_news:
            self.witness.changed(kept)

    def look_at(self, kept: Kept) -> None:
        """Do what is to be done now, and look again when that changes."""
        if not kept.is_owner:
            return
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        if (reason := self._verdict(kept)) is not None:
            self.end(kept, reason)
            return
        step = next_step(kept.state, now := time.monotonic())
        if isinstance(step, End):
            self.end(kept, step.reason)
            return
        speech = self.steward.look(kept, now)
        if isinstance(speech, End):
            self.end(kept, speech.reason)
        elif (until := earliest(step, speech)) is not None:
            loop = asyncio.get_running_loop()
            kept.timer = loop.call_later(until - now, self.look_at, kept)

    async def _hang_up(self, kept: Kept) -> None:
        slots, call = self._slots, kept.call.id
        await hang_up(kept, self._egress, self._reaches, lambda: slots.release(call))
        await self._finish(kept)

    async def _finish(self, kept: Kept) -> None:
        self._slots.release(kept.call.id)
        if kept.listener is not None:
            await asyncio.wait([kept.listener], timeout=_LAST_EVENTS_S if kept.was_attached else 0)
            kept.listener.cancel()
        if kept.timer is not None:
            kept.timer.cancel()
        self.change(kept, calls.ended(kept.state))
        self.recent.add(Ended(kept.call, kept.handle, kept.state, time.time()))
        self._forget(kept)
        metrics.OPEN_CALLS.dec()
        metrics.ENDED.labels(str(kept.state.reason)).inc()
        self.tell("call.ended", kept)

    def _forget(self, kept: Kept) -> None:
        del self._kept[kept.call.id]
        del self._ids[kept.call.deployment, kept.call.upstream_call_id]
        del self._handles[kept.handle]

    def tell(self, name: str, kept: Kept) -> None:
        """Tell what has happened to a call that this replica decides about."""
        if not kept.is_owner:
            return
        if self.witness is not None:
            self.witness.changed(kept)
        self._news.tell(name, kept.call, kept.state)
        # A line for each response would be too many, unless somebody looks for something.
        log = self._log.debug if name == "call.usage" else self._log.info
        cost, reason = kept.state.cost_microdollars, kept.state.reason
        log(name.replace(".", "_"), reason=reason, cost_microdollars=cost, **facts_of(kept))
