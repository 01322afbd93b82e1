"""Calls in Valkey: each operation is one step there. No rules."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeVar

from callkeeper.calls import CallState
from callkeeper.model import Call, Tokens
from callkeeper.shared import scripts
from callkeeper.shared.record import (
    BadRecordError,
    Facts,
    Progress,
    decode_counters,
    decode_facts,
    decode_progress,
    encode_counters,
    encode_facts,
    encode_progress,
)
from ringback.logs import get_logger
from ringback.valkey import Valkey

# A call and everything about it is forgotten after that: longer than any call lasts.
_STAYS_S: Final = 7200
# A script holds up everybody else of the server.
_AT_ONCE: Final = 100
_T = TypeVar("_T")

Standing = Literal["kept", "lost", "missing"]


@dataclass(frozen=True, slots=True)
class Shared:
    """A call as the store has it.

    Attributes:
        facts: What it is.
        progress: How far it has come.
        usage_ids: Of the usages that it contains.
        wanted: Why somebody wants it to end; empty if nobody does.
        ended_at: When it ended, in seconds since 1970; 0 before.
        is_own: Whether this replica keeps it.
    """

    facts: Facts
    progress: Progress
    usage_ids: frozenset[str]
    wanted: str
    ended_at: float
    is_own: bool

    @property
    def has_ended(self) -> bool:
        """Whether it is only remembered."""
        return self.ended_at > 0

    @property
    def handle(self) -> str:
        """What the caller knows it by."""
        return self.facts.handle

    @property
    def call(self) -> Call:
        """What callkeeper knows of it."""
        return self.facts.call

    @property
    def state(self) -> CallState:
        """How it is."""
        return self.progress.state


@dataclass(frozen=True, slots=True)
class Renewed:
    """What the store says of a lease.

    Attributes:
        standing: ``kept``; ``lost`` to another replica; ``missing`` if it knows no such call.
        wanted: As of `Shared`.
        cost_microdollars: What the call has cost.
    """

    standing: Standing
    wanted: str
    cost_microdollars: int


class CallStore:
    """Calls of all replicas, from the point of view of one.

    Every method raises `StoreUnavailableError` if the store cannot be asked; it may have done then
    what it was asked, which does no harm: all of it can be done again.

    Args:
        valkey: Where.
        replica: Id of this replica.
        lease_s: How long a call is kept by who took it.
        since_1970: Returns what is to be added to times of this process for seconds since 1970.
    """

    def __init__(
        self, valkey: Valkey, replica: str, lease_s: float, since_1970: Callable[[], float]
    ) -> None:
        self.valkey: Final = valkey
        self.channel: Final = valkey.name("kept")
        self._replica = replica
        self._lease_ms = round(lease_s * 1000)
        self._since_1970 = since_1970
        self._log = get_logger()

    async def open(
        self, facts: Facts, progress: Progress, usage_ids: Iterable[str] = (), *, observers: int
    ) -> tuple[str, bool]:
        """Keep a call from now on.

        Returns:
            The id that it has, and whether this replica keeps it: if it was opened before, the id
            is that of then, and another replica may keep it.
        """
        call, state = facts.call, progress.state
        name, owner = await self._run(
            scripts.OPEN,
            call.id,
            self._replica,
            self._lease_ms,
            _STAYS_S,
            _digest(f"{call.deployment} {call.upstream_call_id}"),
            _digest(facts.handle),
            f"key:{call.payer.key_hash}",
            f"token:{call.token_id}" if call.token_id else "",
            int(observers > 1),
            encode_facts(facts),
            encode_progress(progress, self._since_1970()),
            *encode_counters(state.used, state.cost_microdollars),
            *usage_ids,
        )
        return name.decode(), owner.decode() == self._replica

    async def renew(self, ids: Iterable[str]) -> dict[str, Renewed]:
        """Go on keeping calls, and return how they stand."""
        answers: dict[str, Renewed] = {}
        for some in _chunks(ids):
            found = await self._run(scripts.RENEW, self._replica, self._lease_ms, *some)
            for name, (standing, wanted, cost) in zip(some, found, strict=True):
                answers[name] = Renewed(standing.decode(), wanted.decode(), int(cost))
        return answers

    async def renew_second(self, ids: Iterable[str]) -> dict[str, Standing]:
        """Go on listening to calls of others, and return how they stand."""
        answers: dict[str, Standing] = {}
        for some in _chunks(ids):
            found = await self._run(scripts.RENEW_SECOND, self._replica, self._lease_ms, *some)
            answers |= {name: each.decode() for name, each in zip(some, found, strict=True)}
        return answers

    async def adopt(self, count: int) -> list[tuple[Shared, float]]:
        """Take calls whose keeper is gone, and return them.

        Returns:
            With each call for how many seconds its lease had been over.
        """
        found = await self._run(scripts.ADOPT, self._replica, self._lease_ms, count)
        pairs = ((self._read(dump), int(over_ms) / 1000) for dump, over_ms in found)
        return [(shared, over_s) for shared, over_s in pairs if shared is not None]

    async def join(self, count: int) -> list[Shared]:
        """Become the second observer of calls that lack one, and return them."""
        found = await self._run(scripts.JOIN, self._replica, self._lease_ms, count)
        return [shared for dump in found if (shared := self._read(dump)) is not None]

    async def add(
        self, usages: Sequence[tuple[str, str, Tokens, int]]
    ) -> list[tuple[Tokens, int] | None]:
        """Add usages that the store does not know yet; return what their calls have used.

        Args:
            usages: The call, the id of the usage, what was used, and what that costs.

        Returns:
            For each of them; None if the store does not know the call.
        """
        answers: list[tuple[Tokens, int] | None] = []
        for some in _chunks(usages):
            values = [
                value
                for call, usage, tokens, cost in some
                for value in (call, usage, *encode_counters(tokens, cost))
            ]
            found = await self._run(scripts.ADD, self._replica, _STAYS_S, *values)
            answers += [decode_counters(each) if each else None for each in found]
        return answers

    async def save(self, calls: Mapping[str, Progress]) -> None:
        """Write down how far calls have come that this replica keeps."""
        for some in _chunks(calls.items()):
            await self._run(scripts.SAVE, self._replica, *self._pairs(some))

    async def end(self, calls: Mapping[str, Progress], stays_s: int) -> None:
        """Write down that calls have ended that this replica keeps; they stay for a time."""
        for some in _chunks(calls.items()):
            await self._run(scripts.END, self._replica, stays_s, *self._pairs(some))

    async def release(self, calls: Mapping[str, Progress]) -> None:
        """Give calls to whoever takes them."""
        for some in _chunks(calls.items()):
            await self._run(scripts.RELEASE, self._replica, *self._pairs(some))

    async def count_others(self) -> int:
        """Return how many replicas hear of calls that need somebody; who leaves hears no more."""
        async with self.valkey.guarded():
            ((_, count),) = await self.valkey.client.pubsub_numsub(self.channel)
        return int(count)

    async def read(self, ids: Iterable[str]) -> dict[str, Shared]:
        """Return calls by their ids, those that there are."""
        found: dict[str, Shared] = {}
        for some in _chunks(ids):
            for dump in await self._run(scripts.READ, *some):
                if (shared := self._read(dump)) is not None:
                    found[shared.facts.call.id] = shared
        return found

    async def find(self, name: str) -> Shared | None:
        """Return a call by its id or its handle."""
        return self._read(await self._run(scripts.FIND, name, _digest(name)))

    async def list_of(self, *, key_hash: str = "", token_id: str = "") -> dict[str, Shared]:
        """Return the calls of a token, or else of a key; also those that have just ended."""
        whose = f"token:{token_id}" if token_id else f"key:{key_hash}"
        async with self.valkey.guarded():
            name = self.valkey.name("kept", "of", whose)
            ids: Any = await self.valkey.client.zrange(name, 0, -1)
        return await self.read(each.decode() for each in ids)

    async def list_open(self) -> dict[str, Shared]:
        """Return all calls that have not ended."""
        async with self.valkey.guarded():
            ids: Any = await self.valkey.client.zrange(self.valkey.name("kept", "leases"), 0, -1)
        return await self.read(each.decode() for each in ids)

    async def want(self, reason: str, ids: Iterable[str]) -> set[str]:
        """Want calls to end; their keepers learn it at once. Returns those not wanted before."""
        wanted: set[str] = set()
        for some in _chunks(ids):
            wanted |= {each.decode() for each in await self._run(scripts.WANT, reason, *some)}
        return wanted

    async def _run(self, script: str, *values: Any) -> Any:
        return await self.valkey.run_script(script, [self.channel], values)

    def _pairs(self, calls: Iterable[tuple[str, Progress]]) -> Iterator[str]:
        since_1970 = self._since_1970()
        for name, progress in calls:
            yield from (name, encode_progress(progress, since_1970))

    def _read(self, dump: Any) -> Shared | None:
        if not dump:
            return None
        name, (facts, progress, owner, wanted, ended), counters, usage_ids = dump
        try:
            used, cost = decode_counters(counters)
            return Shared(
                decode_facts(facts),
                decode_progress(progress, used, cost, self._since_1970()),
                frozenset(each.decode() for each in usage_ids),
                (wanted or b"").decode(),
                int(ended or 0) / 1000,
                owner.decode() == self._replica,
            )
        except BadRecordError:
            self._log.error("call_record_unusable", call=name.decode(errors="replace"))
            return None


def _chunks(values: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _digest(text: str) -> str:
    # Handles are long, and whoever reads names of keys need not see them.
    return hashlib.sha256(text.encode()).hexdigest()
