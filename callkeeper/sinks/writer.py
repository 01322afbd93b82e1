"""Between the keeper of calls and one sink: nothing here waits for a database."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Literal, TypeVar

from callkeeper.sinks.base import Sink, SinkRefusedError, SinkUnavailableError
from callkeeper.sinks.counters import SINK_CHARGES, SINK_FAILURES, SINK_LAG, SPOOL_BYTES
from callkeeper.sinks.records import R
from callkeeper.sinks.spool import Spool
from ringback.logs import describe, get_logger

_MIN_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 10.0
# How long `stop` goes on writing what is left; the spool keeps the rest.
_DRAIN_S: Final = 5.0
# The same trouble is told again after this time.
_REPEAT_S: Final = 10.0

State = Literal["ok", "behind", "full"]
Settled = Callable[[Sequence[R], float | None], object]
_T = TypeVar("_T")


@dataclass(slots=True)
class Counts:
    """What a writer has done since it started.

    Attributes:
        written: Records that the sink has taken, again or not.
        failed: Batches that it could not take; they were tried again.
        refused: Records that it will never take. They are in the log.
        lost: Records for which there was no room. They are in the log.
        lost_microdollars: What refused and lost ones add up to.
        write_s: How long the last batch took.
    """

    written: int = 0
    failed: int = 0
    refused: int = 0
    lost: int = 0
    lost_microdollars: int = 0
    write_s: float = 0.0


class Writer(Generic[R]):
    """Takes charges or events, keeps them on disk, and brings them to a sink in batches, in order.

    `put` never waits. A record is safe, even from the end of the process, once a batch is on disk:
    after ``batch_s`` at most. While the sink is down the spool fills; when that is full, `state`
    says ``full``, and the records wait in memory until there is no room there either.

    Args:
        sink: Where records go.
        spool: Where they are until then.
        batch_count: Records in a batch, at most.
        batch_s: How long a batch is collected.
        max_waiting: Records in memory, at most.
        on_state: Told of each change of `state`.
        on_settled: Told of records that the sink has taken, and when the attempt began, on the
            monotonic clock; with None of those that it never will.
    """

    def __init__(
        self,
        sink: Sink[R],
        spool: Spool[R],
        *,
        batch_count: int = 200,
        batch_s: float = 0.2,
        max_waiting: int = 10_000,
        on_state: Callable[[State], None] = lambda _: None,
        on_settled: Settled[R] = lambda _records, _at: None,
    ) -> None:
        self.counts = Counts()
        self.state: State = "ok"
        """``behind``: the sink cannot take records, and they are kept. ``full``: nor can the spool:
        calls that must be metered should end, and none begin."""
        self._sink, self._spool = sink, spool
        self._batch_count, self._batch_s, self._max_waiting = batch_count, batch_s, max_waiting
        self._on_state, self._on_settled = on_state, on_settled
        self._waiting: deque[R] = deque()
        self._came, self._kept, self._settled = (asyncio.Event() for _ in range(3))
        self._tasks: list[asyncio.Task[None]] = []
        # Appending and reading a spool take turns.
        self._turn = asyncio.Lock()
        self._is_full = self._is_down = self._is_stopping = False
        self._oldest_at: float | None = None
        self._told_at: dict[str, float] = {}
        self._log = get_logger()

    @property
    def lag_s(self) -> float:
        """Age of the oldest record that the sink has not taken; 0 if there is none."""
        waiting = self._waiting[0].at if self._waiting else None
        oldest = self._oldest_at if self._oldest_at is not None else waiting
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)

    @property
    def spooled_bytes(self) -> int:
        """What the spool holds."""
        return self._spool.size_bytes

    def start(self) -> None:
        """Begin, with what an earlier process has left."""
        self._kept.set()
        SINK_LAG.labels(self._sink.name).set_function(lambda: self.lag_s)
        SPOOL_BYTES.labels(self._sink.name).set_function(lambda: float(self.spooled_bytes))
        for result in ("written", "refused", "lost"):
            # So that the first one shows as an increase.
            SINK_CHARGES.labels(self._sink.name, result)
        self._tasks = [asyncio.create_task(self._keep()), asyncio.create_task(self._deliver())]

    def put(self, record: R) -> bool:
        """Take a record; False if there is no room, and it is lost to this sink."""
        if len(self._waiting) >= self._max_waiting:
            self._count_lost(record, "lost")
            return False
        self._waiting.append(record)
        self._came.set()
        return True

    async def stop(self) -> None:
        """Write what is left, as far as the sink takes it soon; the rest stays on disk."""
        if not self._tasks:
            return
        keeper, deliverer = self._tasks
        self._tasks = []
        self._is_stopping = True
        self._came.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await keeper
                if not self._is_down:
                    await self._settled.wait()
        for task in (keeper, deliverer):
            task.cancel()
        await asyncio.gather(keeper, deliverer, return_exceptions=True)
        for record in (*self._spool.close(), *self._waiting):
            self._count_lost(record, "lost")
        self._waiting.clear()
        await self._sink.close()

    async def _keep(self) -> None:
        """Bring records from memory to the spool, batch by batch."""
        while not self._is_stopping:
            await self._came.wait()
            if len(self._waiting) < self._batch_count and not self._is_stopping:
                await asyncio.sleep(self._batch_s)
            if not await self._keep_batch():
                await asyncio.sleep(_MIN_RETRY_S)
            if not self._waiting and not self._is_stopping:
                self._came.clear()
        while self._waiting and await self._keep_batch():
            pass

    async def _keep_batch(self) -> bool:
        """Bring one batch to the spool; False if that is full."""
        batch = [self._waiting[at] for at in range(min(self._batch_count, len(self._waiting)))]
        if not batch:
            return True
        try:
            await self._with_spool(partial(self._spool.append, batch))
        except Exception as error:  # noqa: BLE001  whatever it is, they stay in memory
            self._set(is_full=True)
            if self._is_news("full"):
                self._log.error(
                    "spool_full",
                    sink=self._sink.name,
                    bytes=self._spool.size_bytes,
                    waiting=len(self._waiting),
                    **describe(error.__cause__ or error),
                )
            return False
        self._settled.clear()
        # Nobody else takes from the left.
        for _ in batch:
            self._waiting.popleft()
        self._set(is_full=False)
        self._kept.set()
        return True

    async def _deliver(self) -> None:
        """Bring records from the spool to the sink, the oldest first."""
        retry_s = _MIN_RETRY_S
        while True:
            await self._kept.wait()
            self._kept.clear()
            while True:
                try:
                    if not await self._deliver_batch():
                        break
                except Exception as error:  # noqa: BLE001  whatever it is, nothing is given up
                    self._tell_down(error)
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, _MAX_RETRY_S)
                else:
                    retry_s = _MIN_RETRY_S
            self._oldest_at = None
            self._settled.set()

    async def _deliver_batch(self) -> bool:
        """Bring the oldest batch to the sink; False if there is none."""
        batch = await self._with_spool(partial(self._spool.peek, self._batch_count))
        if not batch:
            return False
        self._oldest_at = batch[0].at
        await self._write(batch)
        await self._with_spool(partial(self._spool.drop, len(batch)))
        if self._is_down:
            self._log.info("sink_available", sink=self._sink.name)
        self._set(is_down=False)
        self._settled.clear()
        return True

    async def _write(self, batch: Sequence[R]) -> None:
        begin, began_at = time.perf_counter(), time.monotonic()
        try:
            await self._sink.write(batch)
            self._on_settled(batch, began_at)
            self.counts.written += len(batch)
            SINK_CHARGES.labels(self._sink.name, "written").inc(len(batch))
        except SinkRefusedError:
            if len(batch) == 1:
                self._count_lost(batch[0], "refused")
                return
            # One of them is to blame; what is tried again after a failure is counted once anyway.
            for record in batch:
                await self._write([record])
        finally:
            self.counts.write_s = time.perf_counter() - begin

    async def _with_spool(self, work: Callable[[], _T]) -> _T:
        """Do what blocks in a thread, one after another."""
        async with self._turn:
            done = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(done)
            except asyncio.CancelledError:
                # A thread cannot be cancelled, and nobody else may come in between.
                await asyncio.wait({done})
                raise

    def _tell_down(self, error: Exception) -> None:
        self.counts.failed += 1
        SINK_FAILURES.labels(self._sink.name).inc()
        self._set(is_down=True)
        self._settled.set()
        reason = error.reason if isinstance(error, SinkUnavailableError) else type(error).__name__
        if self._is_news(reason):
            self._log.error(
                "sink_unavailable",
                sink=self._sink.name,
                reason=reason,
                spooled_bytes=self._spool.size_bytes,
            )

    def _set(self, *, is_full: bool | None = None, is_down: bool | None = None) -> None:
        self._is_full = self._is_full if is_full is None else is_full
        self._is_down = self._is_down if is_down is None else is_down
        state: State = "full" if self._is_full else "behind" if self._is_down else "ok"
        if state != self.state:
            self.state = state
            self._on_state(state)

    def _count_lost(self, record: R, how: Literal["lost", "refused"]) -> None:
        setattr(self.counts, how, getattr(self.counts, how) + 1)
        self.counts.lost_microdollars += record.cost_microdollars
        SINK_CHARGES.labels(self._sink.name, how).inc()
        self._on_settled([record], None)
        self._log.error(f"{record.kind}_{how}", sink=self._sink.name, **record.facts)

    def _is_news(self, trouble: str) -> bool:
        now = time.monotonic()
        if now - self._told_at.get(trouble, -_REPEAT_S) < _REPEAT_S:
            return False
        self._told_at[trouble] = now
        return True
