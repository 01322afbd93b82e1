import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from callkeeper.model import Charge, Payer
from callkeeper.sinks.base import SinkRefusedError, SinkUnavailableError
from callkeeper.sinks.litellm import LiteLLMSink
from callkeeper.sinks.spool import DiskSpool, MemorySpool
from callkeeper.sinks.writer import State, Writer
from helpers.charges import assert_books_balance, connect, insert_payers, later, some_charges
from helpers.postgres import Database, PostgresServer

_MEGABYTE = 1024 * 1024
_CHARGES = some_charges([Payer("ab" * 32)], calls=40)


class _Switched:
    """A sink that can be switched off, and refuses what it is told to refuse."""

    name = "switched"

    def __init__(self) -> None:
        self.taken: list[Charge] = []
        self.is_up = True
        self.refused: set[str] = set()

    async def write(self, charges: Sequence[Charge]) -> None:
        await asyncio.sleep(0)
        if not self.is_up:
            raise SinkUnavailableError("off")
        if self.refused & {one.usage.id for one in charges}:
            raise SinkRefusedError("no")
        self.taken += charges

    async def close(self) -> None:
        pass


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the writer has nothing to wait for
            await asyncio.sleep(0.01)


async def test_charges_arrive_in_order_and_in_batches(tmp_path: Path) -> None:
    """What was put is written once, in its order; stopping drains."""
    sink = _Switched()
    writer = Writer(sink, DiskSpool(tmp_path, sink.name, _MEGABYTE), batch_count=16, batch_s=0.01)
    writer.start()
    assert all(writer.put(one) for one in _CHARGES)
    assert writer.lag_s > 0
    await writer.stop()
    assert sink.taken == _CHARGES
    assert (writer.state, writer.lag_s, writer.counts.written) == ("ok", 0, len(_CHARGES))
    assert (writer.spooled_bytes, writer.counts.lost) == (0, 0)


async def test_what_became_of_charges_is_told() -> None:
    """What was written, with the time at which the attempt began; what never will be, without."""
    sink, told = _Switched(), list[tuple[list[Charge], float | None]]()
    sink.refused = {_CHARGES[1].usage.id}
    writer = Writer(
        sink,
        MemorySpool(_MEGABYTE),
        batch_s=0,
        on_settled=lambda charges, at: told.append((list(charges), at)),
    )
    began = time.monotonic()
    writer.start()
    for one in _CHARGES[:3]:
        writer.put(one)
    await writer.stop()
    settled = {charges[0].usage.id: at for charges, at in told}
    assert settled.pop(_CHARGES[1].usage.id) is None
    assert sorted(settled) == sorted(one.usage.id for one in (_CHARGES[0], _CHARGES[2]))
    assert all(at is not None and began <= at <= time.monotonic() for at in settled.values())


async def test_what_a_sink_does_not_take_is_there_after_a_restart(tmp_path: Path) -> None:
    """Charges of a process that ended while the sink was down are written by the next one."""
    sink = _Switched()
    sink.is_up = False
    states: list[State] = []
    spool = DiskSpool(tmp_path, sink.name, _MEGABYTE)
    writer = Writer(sink, spool, batch_s=0, on_state=states.append)
    writer.start()
    for one in _CHARGES[:20]:
        writer.put(one)
    await _until(lambda: writer.state == "behind")
    begin = time.monotonic()
    await writer.stop()
    assert time.monotonic() - begin < 2
    assert states == ["behind"]
    sink.is_up = True
    writer = Writer(sink, DiskSpool(tmp_path, sink.name, _MEGABYTE), batch_s=0)
    writer.start()
    for one in _CHARGES[20:]:
        writer.put(one)
    await writer.stop()
    assert sink.taken == _CHARGES


async def test_what_waits_in_memory_is_counted_when_it_is_lost() -> None:
    """Without a disk, the end of the process loses what the sink did not take, and says so."""
    sink = _Switched()
    sink.is_up = False
    writer = Writer(sink, MemorySpool(_MEGABYTE), batch_count=4, batch_s=0)
    writer.start()
    for one in _CHARGES[:10]:
        writer.put(one)
    await _until(lambda: writer.state == "behind")
    await writer.stop()
    assert sink.taken == []
    assert writer.counts.lost == 10
    assert writer.counts.lost_microdollars == sum(one.cost_microdollars for one in _CHARGES[:10])


async def test_stopping_drains_what_a_sink_takes_again() -> None:
    """After an outage, too, all of it is written before the end."""
    sink = _Switched()
    sink.is_up = False
    writer = Writer(sink, MemorySpool(_MEGABYTE), batch_count=4, batch_s=0)
    writer.start()
    for one in _CHARGES:
        writer.put(one)
    await _until(lambda: writer.state == "behind")
    sink.is_up = True
    await _until(lambda: writer.state == "ok")
    await writer.stop()
    assert sink.taken == _CHARGES


async def test_full_spool_is_told_and_nothing_is_lost_that_fits(tmp_path: Path) -> None:
    """Full: the state says so, charges wait in memory, then they are counted as lost."""
    sink = _Switched()
    sink.is_up = False
    states: list[State] = []
    writer = Writer(
        sink,
        DiskSpool(tmp_path, sink.name, 4096),
        batch_count=2,
        batch_s=0,
        max_waiting=10,
        on_state=states.append,
    )
    writer.start()
    fitted = []
    for one in _CHARGES:
        if writer.put(one):
            fitted.append(one)
        await asyncio.sleep(0.005)
    await _until(lambda: writer.state == "full")
    lost = [one for one in _CHARGES if one not in fitted]
    assert len(fitted) > 10
    assert writer.counts.lost == len(lost) > 0
    assert writer.counts.lost_microdollars == sum(one.cost_microdollars for one in lost)
    sink.is_up = True
    await _until(lambda: writer.state == "ok" and len(sink.taken) == len(fitted))
    await writer.stop()
    assert sink.taken == fitted
    assert states[-1] == "ok"


async def test_refused_charge_does_not_keep_others_back() -> None:
    """Only the charge that the sink never takes is left out."""
    sink = _Switched()
    sink.refused = {_CHARGES[5].usage.id}
    writer = Writer(sink, MemorySpool(_MEGABYTE), batch_s=0)
    writer.start()
    for one in _CHARGES[:10]:
        writer.put(one)
    await writer.stop()
    assert sink.taken == [*_CHARGES[:5], *_CHARGES[6:10]]
    assert (writer.counts.refused, writer.state) == (1, "ok")


@pytest.mark.parametrize("observers", [1, 2])
async def test_postgres_dies_at_any_moment(
    tmp_path: Path, postgres: PostgresServer, database: Database, observers: int
) -> None:
    """Under load and killed again and again, LiteLLM's tables say exactly what was used."""
    payers = insert_payers(database)
    charges = some_charges((payers.member, payers.alone, payers.nobody), calls=200)
    writers = [
        Writer(
            LiteLLMSink(partial(connect, database)),
            DiskSpool(tmp_path, "litellm", 8 * _MEGABYTE),
            batch_count=20,
            batch_s=0.01,
        )
        for _ in range(observers)
    ]
    for writer in writers:
        writer.start()
    rolls = random.Random(observers)
    deaths = set(rolls.sample(range(50, len(charges) - 50), 3))
    for number, one in enumerate(charges):
        for seconds, writer in enumerate(writers):
            assert writer.put(later(one, seconds / 8))
        await asyncio.sleep(0.002)
        if number in deaths:
            # The process alone dies: what it had given to the kernel is there.
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(rolls.choice([0, 0.3]))
            await asyncio.to_thread(postgres.start)
    await _until(lambda: all(not writer.spooled_bytes for writer in writers))
    for writer in writers:
        await writer.stop()
    assert all(writer.counts.lost == writer.counts.refused == 0 for writer in writers)
    assert sum(writer.counts.failed for writer in writers) > 0
    assert_books_balance(database, charges)
