"""Asks again and again whether those who pay for open calls still may, and ends what may not."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from grpc import aio

from callkeeper import metrics, standing
from callkeeper.accounts import Accounts
from callkeeper.calls import Reason
from callkeeper.keeper import Keeper
from callkeeper.kept import Kept
from callkeeper.model import Charge, Payer
from callkeeper.standing import Budget, Standing, Standpoint, standpoint_of
from callkeeper.translate import read_standing, write_standpoint, write_token_call
from callsapi.v1.calls_pb2 import StandingRequest, StandingResponse
from callsapi.v1.calls_pb2_grpc import UpstreamsStub
from ringback.grpcpeers import Peers
from ringback.logs import describe, get_logger
from ringback.settings import SupervisionSettings

# extauthz may have to find out that its source of keys is down, which takes it 2 s.
_TIMEOUT_S: Final = 4.0
# Keys that are asked about at once, and calls whose tokens are.
_KEYS: Final = 200
_CALLS: Final = 1000

_T = TypeVar("_T")
# Calls that are looked at in a millisecond or two.
_TURN: Final = 200


class Examiner:
    """Knows how those stand who pay for open calls.

    Args:
        settings: How often it asks, and how long nobody may be able to tell.
        extauthz: Whom it asks; started and stopped by somebody else.
        is_written: Whether charges reach the database that budgets are read from.
    """

    def __init__(
        self, settings: SupervisionSettings, extauthz: Peers[UpstreamsStub], *, is_written: bool
    ) -> None:
        self._interval_s = settings.standing_interval_s
        self._timeout_s = settings.standing_timeout_s
        self._extauthz = extauthz
        self._accounts = Accounts(is_written=is_written)
        self._known: dict[Standpoint, Standing] = {}
        self._open: Mapping[Standpoint, Sequence[Kept]] = {}
        self._revoked: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_known = True
        self._log = get_logger()

    def charge(self, charge: Charge) -> None:
        """Take a charge; before any sink does."""
        self._accounts.charge(charge, time.monotonic())

    def settle(self, charges: Sequence[Charge], at: float | None) -> None:
        """Take what became of charges; see `Accounts.settle`."""
        self._accounts.settle(charges, at)

    def start(self, keeper: Keeper) -> None:
        """Begin to ask about the calls of a keeper, and to end those that may not go on."""
        self._task = asyncio.create_task(self._go_on(keeper))

    async def stop(self) -> None:
        """End asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def verdict(self, kept: Kept) -> Reason | None:
        """Return why a call has to end, by all that is known now; None if it may go on."""
        place = standpoint_of(kept.call)
        return self._judge(place, kept) or self._unknown(place, kept)

    def left(self, kept: Kept) -> int | None:
        """Return the microdollars that are left of a call's budgets; None if it has none so far."""
        place = standpoint_of(kept.call)
        if (known := self._known.get(place)) is None:
            return None
        unread = partial(self._unread, place, kept, known.read_at)
        return standing.least_left(known.budgets, unread)

    def _judge(self, place: Standpoint, kept: Kept) -> Reason | None:
        """Return why calls with a standpoint, of which this is one, have to end."""
        known = self._known.get(place)
        if known is None or known.reason is not None:
            return None if known is None else known.reason
        unread = partial(self._unread, place, kept, known.read_at)
        return standing.used_up(known.budgets, unread)

    def _unknown(self, place: Standpoint, kept: Kept) -> Reason | None:
        if not kept.state.limits.is_required:
            return None
        known, now = self._known.get(place), time.monotonic()
        # Who has taken a call over has not asked before.
        return standing.unknown(known, kept.since, now, self._timeout_s)

    def _unread(self, place: Standpoint, kept: Kept, read_at: float, budget: Budget) -> int:
        if budget.kind == "model":
            # LiteLLM keeps no spend of single models: open calls are all that is known.
            calls = self._open.get(place, (kept,))
            return sum(each.state.cost_microdollars for each in calls if each.state.is_open)
        return self._accounts.unread(kept.call.payer, budget, read_at)

    async def _go_on(self, keeper: Keeper) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._examine(keeper)
            except Exception as error:  # noqa: BLE001  whatever it is, calls must not be let go
                self._log.error("examination_broke", **describe(error))

    async def _examine(self, keeper: Keeper) -> None:
        found: dict[Standpoint, list[Kept]] = {}
        async for kept in _in_turns(keeper):
            if kept.state.is_open:
                found.setdefault(standpoint_of(kept.call), []).append(kept)
        self._open = found
        self._known = {place: self._known[place] for place in found if place in self._known}
        why = await self._ask(found)
        self._tell(why, len(found))
        for place, some in found.items():
            reason = self._judge(place, some[0])
            async for kept in _in_turns(some):
                is_revoked = kept.call.token_id in self._revoked
                own = Reason.REVOKED if is_revoked else self._unknown(place, kept)
                if (end_for := reason or own) is not None:
                    keeper.end(kept, end_for)
            if reason is not None:
                # The next call may come after that has changed.
                self._known.pop(place, None)
        self._accounts.sweep(time.monotonic())

    async def _ask(self, found: Mapping[Standpoint, Sequence[Kept]]) -> str | None:
        """Ask about all, and return why that told nothing, or not of all."""
        try:
            why = await self._ask_for_standings(found)
            await self._ask_for_tokens(found)
        except aio.AioRpcError as error:
            metrics.STANDING_FAILURES.labels("extauthz").inc()
            return error.code().name.lower()
        return why

    async def _ask_for_standings(self, found: Mapping[Standpoint, Sequence[Kept]]) -> str | None:
        why = None
        for batch in _batches(list(found), _KEYS):
            answer = await self._tell_me(StandingRequest(of=map(write_standpoint, batch)))
            if len(answer.standings) != len(batch):
                metrics.STANDING_FAILURES.labels("extauthz").inc()
                return "answer_unusable"
            now = time.monotonic()
            for place, message in zip(batch, answer.standings, strict=True):
                if message.is_unknown:
                    metrics.STANDING_FAILURES.labels("key_source").inc()
                    why = "key_source"
                    continue
                self._take(place, read_standing(message, now), found[place][0].call.payer)
        return why

    async def _ask_for_tokens(self, found: Mapping[Standpoint, Sequence[Kept]]) -> None:
        self._revoked.clear()
        calls = [each.call for some in found.values() for each in some if each.call.token_id]
        for batch in _batches(calls, _CALLS):
            answer = await self._tell_me(StandingRequest(calls=map(write_token_call, batch)))
            self._revoked.update(answer.revoked_token_ids)

    async def _tell_me(self, request: StandingRequest) -> StandingResponse:
        return await self._extauthz.ask(lambda stub: stub.Standing, request, _TIMEOUT_S)

    def _take(self, place: Standpoint, said: Standing, payer: Payer) -> None:
        self._known[place] = said
        for budget in said.budgets:
            self._accounts.note(payer, budget, said.read_at)

    def _tell(self, why: str | None, count: int) -> None:
        """Log when it begins that nobody can tell, and when it ends."""
        if (why is None) is self._is_known:
            return
        self._is_known = why is None
        if why is None:
            self._log.info("standing_known")
        else:
            self._log.error("standing_unknown", reason=why, payers=count)


async def _in_turns(calls: Iterable[Kept]) -> AsyncIterator[Kept]:
    """Give calls, and let everybody else have a turn in between: there may be thousands."""
    for number, kept in enumerate(calls, 1):
        if number % _TURN == 0:
            await asyncio.sleep(0)
        yield kept


def _batches(things: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (things[at : at + size] for at in range(0, len(things), size))
