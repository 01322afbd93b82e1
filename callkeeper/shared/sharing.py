"""Shares the calls of a keeper with other replicas: tells them of its own, takes over theirs."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from callkeeper import metrics
from callkeeper.calls import CallState, Phase, Reason
from callkeeper.keeper import Keeper
from callkeeper.kept import Kept, facts_of
from callkeeper.model import Usage
from callkeeper.shared.conversion import (
    facts_to_share,
    is_kept,
    kept_of,
    progress_of,
    taken_over,
)
from callkeeper.shared.record import orphaned
from callkeeper.shared.store import CallStore, Renewed, Shared
from callkeeper.shared.tallies import Tallies
from callkeeper.shared.tally import Tally
from ringback.logs import get_logger
from ringback.valkey import StoreUnavailableError

# So many calls of others are taken at once: other replicas shall have some, too. When the next ones
# are taken so many may be without a sideband: nobody shall have more than it can attach to.
_SHARE: Final = 50
_UNHEARD_AT_ONCE: Final = 200
_HEARD_S: Final = 0.25
_POLL_S: Final = 0.01
# A second observer keeps a call that the store has forgotten when its keeper has not told the
# store of it again by then: so many renewals of its lease.
_PATIENCE: Final = 3
# How long a call that has ended is remembered.
_REMEMBERED_S: Final = 300
# Whoever leaves sets the end of its leases to 1970.
_RELEASED_S: Final = 1e9
_UNHEARD: Final = (Phase.OPENED, Phase.LOST)


class Sharing:
    """What one replica has of the calls that all share.

    All methods that wait raise `StoreUnavailableError` while the store is away; calls that are kept
    are kept on then.

    Args:
        store: Where calls are shared.
        keeper: Keeps the calls of this replica.
        lease_s: How old a sign of life of a call's keeper may be.
        observers: How many replicas listen to a call: 1 or 2.
    """

    def __init__(self, store: CallStore, keeper: Keeper, lease_s: float, observers: int) -> None:
        self._store, self._keeper = store, keeper
        self._lease_s, self._observers = lease_s, observers
        self._calls: dict[str, Kept] = {}
        self._tallies = Tallies(store)
        self._changed: dict[str, Kept] = {}
        self._missing: dict[str, int] = {}
        self._turn = asyncio.Lock()
        self._log = get_logger()
        self.wake: Final = asyncio.Event()
        """Set when there is something to `tell`."""
        self.hurry: Final = asyncio.Event()
        """Set when that cannot wait: whoever sees a call end asks why."""
        keeper.witness = self

    def changed(self, kept: Kept) -> None:
        """See `Witness`."""
        if kept.is_owner and kept.call.id in self._calls:
            self._changed[kept.call.id] = kept
            self.wake.set()
            if not kept.state.is_open:
                self.hurry.set()

    def used(self, kept: Kept, usage: Usage, cost_microdollars: int) -> None:
        """See `Witness`."""
        self._tallies.add(kept.call.id, usage.id, usage.tokens, cost_microdollars)
        self.changed(kept)
        self.wake.set()

    async def open(self, kept: Kept) -> tuple[str, bool]:
        """Share a call that is about to be kept.

        A call that may go on unsupervised is kept without the store, too, which is told later.

        Returns:
            The id of the call, and whether this replica is to keep it.
        """
        call = kept.call.id
        try:
            known, is_own = await self._open(kept, Tally())
        except StoreUnavailableError:
            if kept.state.limits.is_required:
                raise
            known, is_own = call, True
        # A registration that came twice at once is one.
        if known == call and is_own and known not in self._calls:
            self._take(kept)
            return call, True
        return known, False

    async def tell(self) -> None:
        """Tell the store what has changed."""
        async with self._turn:
            for name in await self._tallies.tell():
                self._correct(name)
            changed, self._changed = self._changed, {}
            progress = {name: progress_of(kept) for name, kept in changed.items() if kept.is_owner}
            over = {name for name, kept in changed.items() if kept.state.phase is Phase.ENDED}
            try:
                await self._store.save({name: progress[name] for name in progress.keys() - over})
                await self._store.end(
                    {name: progress[name] for name in progress.keys() & over}, _REMEMBERED_S
                )
            except StoreUnavailableError:
                self._changed = changed | self._changed
                raise
            for name in over:
                self._forget(name)

    async def renew(self) -> None:
        """Renew the leases of this replica, and take up what others have done to its calls."""
        own = [name for name, kept in self._calls.items() if is_kept(kept)]
        seconds = [name for name, kept in self._calls.items() if not kept.is_owner]
        for name, renewed in (await self._store.renew(own)).items():
            await self._take_up(name, renewed)
        for name, standing in (await self._store.renew_second(seconds)).items():
            kept = self._calls.get(name)
            if kept is None or kept.is_owner:
                continue
            if standing == "lost":
                self._let_go(kept)
            elif standing == "kept":
                self._missing.pop(name, None)
            else:
                await self._miss(kept)
        self._show()

    async def look_at(self, ids: Iterable[str]) -> None:
        """Look at calls of this replica that others have changed."""
        ours = [name for name in ids if name in self._calls]
        own = [name for name in ours if is_kept(self._calls[name])]
        for name, shared in (await self._store.read(ours)).items():
            kept = self._calls.get(name)
            if kept is None:
                continue
            if shared.has_ended and not kept.is_owner:
                self._let_go(kept)
                continue
            state = shared.state
            self._tallies[name].confirm((), state.used, state.cost_microdollars)
            self._correct(name)
            if name in own and shared.wanted:
                self._keeper.end(kept, Reason(shared.wanted))

    async def adopt(self) -> None:
        """Take over calls whose keepers are gone."""
        unheard: list[Kept] = []
        while taken := await self._store.adopt(_SHARE):
            unheard += [self._adopt(shared, over_s) for shared, over_s in taken]
            unheard = await _until_heard(unheard)
        self._show()

    async def join(self) -> None:
        """Listen to calls of others that need a second observer."""
        if self._observers < 2:
            return
        unheard: list[Kept] = []
        while joined := await self._store.join(_SHARE):
            unheard += [self._join(shared) for shared in joined]
            unheard = await _until_heard(unheard)
        self._show()

    async def release(self) -> None:
        """Hand all calls over, and only listen from now on."""
        now = time.monotonic()
        progress = {name: progress_of(kept, now) for name, kept in self._calls.items()}
        await self._store.release(progress)
        for kept in self._calls.values():
            self._keeper.hand_over(kept)

    async def may_be_taken(self) -> bool:
        """Tell whether nobody else listens yet to some call that was handed over, but may soon."""
        for name, shared in (await self._store.read(list(self._calls))).items():
            is_taken = not shared.is_own and shared.state.phase not in _UNHEARD
            if is_taken or shared.has_ended:
                self._let_go(self._calls[name])
        return bool(self._calls) and await self._store.count_others() > 0

    async def _open(self, kept: Kept, tally: Tally) -> tuple[str, bool]:
        progress = progress_of(kept)
        state = replace(progress.state, used=tally.used, cost_microdollars=tally.cost_microdollars)
        known = kept.meter.seen - tally.waiting.keys()
        return await self._store.open(
            facts_to_share(kept), replace(progress, state=state), known, observers=self._observers
        )

    async def _take_up(self, name: str, renewed: Renewed) -> None:
        kept = self._calls.get(name)
        if kept is None or not is_kept(kept):
            return
        tally = self._tallies[name]
        if renewed.standing == "missing":
            await self._open(kept, tally)
            self._tallies.tell_again(name)
            self._changed[name] = kept
            self.wake.set()
        elif renewed.standing == "lost":
            self._log.warning("call_lost_to_another", **facts_of(kept))
            self._let_go(kept)
        elif renewed.wanted or renewed.cost_microdollars > tally.cost_microdollars:
            await self.look_at([name])

    async def _miss(self, kept: Kept) -> None:
        """Keep a call that only this replica remembers."""
        name = kept.call.id
        self._missing[name] = self._missing.get(name, 0) + 1
        if self._missing[name] < _PATIENCE:
            return
        del self._missing[name]
        if (await self._open(kept, self._tallies[name]))[1]:
            self._tallies.tell_again(name)
            self.wake.set()
            self._take_over(kept, kept.state, "forgotten")

    def _adopt(self, shared: Shared, over_s: float) -> Kept:
        name = shared.call.id
        alive_at = time.monotonic() - over_s - self._lease_s
        progress = orphaned(shared.progress, max(alive_at, shared.state.opened_at))
        why = "handed_over" if over_s > _RELEASED_S else "lease_over"
        if (kept := self._calls.get(name)) is not None and kept.is_owner:
            # Only its lease was over.
            return kept
        if kept is not None:
            kept.was_attached |= progress.was_attached
            self._take_over(kept, taken_over(progress.state, kept.state), why)
        else:
            self._take(kept := kept_of(shared.facts, progress, shared.usage_ids))
            metrics.ADOPTED.labels(why).inc()
            self._keeper.keep(kept, "call.adopted")
        if shared.wanted:
            self._keeper.end(kept, Reason(shared.wanted))
        return kept

    def _take_over(self, kept: Kept, state: CallState, why: str) -> None:
        used, cost = self._tallies[kept.call.id].total()
        metrics.ADOPTED.labels(why).inc()
        self._keeper.take_over(kept, replace(state, used=used, cost_microdollars=cost))

    def _join(self, shared: Shared) -> Kept:
        name, state = shared.call.id, shared.state
        if name in self._calls:
            return self._calls[name]
        # Whatever its owner does with it, it is there to listen to.
        state = replace(state, phase=Phase.OPENED, lost_at=None, reason=None)
        progress = replace(shared.progress, state=state, was_attached=False)
        kept = kept_of(shared.facts, progress, shared.usage_ids)
        kept.is_owner = False
        self._take(kept)
        self._keeper.keep(kept)
        return kept

    def _take(self, kept: Kept) -> None:
        """Have a call, and add what this replica may have heard of it before."""
        name = kept.call.id
        self._calls[name] = kept
        tally = self._tallies.open(name, kept.state.used, kept.state.cost_microdollars)
        used, cost = tally.total()
        kept.state = replace(kept.state, used=used, cost_microdollars=cost)

    def _correct(self, name: str) -> None:
        if (kept := self._calls.get(name)) is not None:
            self._keeper.correct(kept, *self._tallies[name].total())

    def _let_go(self, kept: Kept) -> None:
        self._keeper.let_go(kept)
        self._forget(kept.call.id)

    def _forget(self, name: str) -> None:
        self._calls.pop(name, None)
        self._missing.pop(name, None)
        self._tallies.close(name)

    def _show(self) -> None:
        metrics.OBSERVED_CALLS.set(sum(not kept.is_owner for kept in self._calls.values()))


async def _until_heard(calls: Sequence[Kept]) -> list[Kept]:
    """Wait until most calls are listened to, or a moment; return those that are not."""
    deadline = time.monotonic() + _HEARD_S
    while True:
        left = [kept for kept in calls if kept.state.phase in _UNHEARD]
        if len(left) <= _UNHEARD_AT_ONCE or time.monotonic() > deadline:
            return left
        await asyncio.sleep(_POLL_S)
