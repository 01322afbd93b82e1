"""What LiteLLM's tables say when callkeepers and Postgres are killed under their calls."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest
from grpc import aio

from callkeeper.model import Charge, Payer, Tokens
from callsapi.v1.calls_pb2 import HangUpRequest
from helpers.callkeepers import Keepers, ProvidedCall, keepers
from helpers.charges import Payers, assert_books_balance, charge, insert_payers, owed, spent
from helpers.postgres import Database, PostgresServer
from helpers.valkey import ValkeyProcess
from helpers.waiting import until

WAVES: Final = 3
CALLS: Final = 70
NAMES: Final = ("one", "other")


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A Postgres to be killed."""
    with PostgresServer() as server:
        yield server


@asynccontextmanager
async def charged(folder: Path, database: Database, observers: int) -> AsyncIterator[Keepers]:
    """Give two keepers that write what their calls use into LiteLLM's tables."""
    with ValkeyProcess() as valkey:
        async with keepers(
            folder,
            valkey,
            observers=observers,
            sinks=["litellm"],
            database_url=database.url,
            spool_folder=str(folder / "spool"),
        ) as group:
            await group.start(*NAMES)
            yield group


class Talk:
    """Calls that are opened, say something, and end, while their keepers die.

    Args:
        group: The keepers.
        payers: Who pays for the calls, in turn.
        observers: How many listen to each before it says something.
        number: The signal that ends keepers.
    """

    def __init__(
        self,
        group: Keepers,
        payers: Payers,
        observers: int,
        number: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._group, self._observers, self._number = group, observers, number
        self._payers = (payers.member, payers.alone, payers.nobody)
        self._rolls = random.Random(9)
        self.said: list[Charge] = []

    async def wave(self, number: int) -> None:
        """Let many calls talk while a keeper is killed, twice."""
        payers = [self._payers[at % 3] for at in range(CALLS)]
        calls = await asyncio.gather(*map(self._open, payers))
        for kill in range(2):
            await until(lambda: all(len(call.sockets) == self._observers for _, call in calls))
            victim = NAMES[(number + kill) % 2]
            await asyncio.gather(self._kill(victim), *(self._speak(call) for _, call in calls))
            await self._group.until_ready(victim, times=number + 2)
        for (_, call), payer in zip(calls, payers, strict=True):
            self.said += [
                charge(
                    payer,
                    name,
                    Tokens(text_in=usage["input_tokens"], text_out=usage["output_tokens"]),
                )
                for name, usage in call.said.items()
            ]
        await asyncio.gather(*(self._end(known, call) for known, call in calls))

    async def _open(self, payer: Payer) -> tuple[str, ProvidedCall]:
        name = self._rolls.choice(NAMES)
        return await self._group.register(name, **asdict(payer))

    async def _kill(self, name: str) -> None:
        await asyncio.sleep(self._rolls.uniform(0.05, 0.35))
        self._group.kill(name, self._number)

    async def _speak(self, call: ProvidedCall) -> None:
        for _ in range(self._rolls.randint(1, 3)):
            await asyncio.sleep(self._rolls.uniform(0, 0.2))
            await call.say(
                text_in=self._rolls.randrange(3000), text_out=self._rolls.randrange(1, 3000)
            )

    async def _end(self, known: str, call: ProvidedCall) -> None:
        # As every client does: the other one is asked if one is down.
        for name in NAMES:
            try:
                await self._group.stub(name).HangUp(HangUpRequest(call=known), wait_for_ready=True)
            except aio.AioRpcError:
                continue
            break
        await until(lambda: call.has_ended)


async def test_with_two_observers_the_books_balance_whoever_is_killed(
    tmp_path: Path, own_postgres: PostgresServer
) -> None:
    """After 200 calls, with Postgres killed, too, all tables are right to the microdollar."""
    database = own_postgres.create_database()
    payers = insert_payers(database)
    async with charged(tmp_path, database, 2) as group:
        talk = Talk(group, payers, 2)
        for number in range(WAVES):
            if number == WAVES // 2:
                await asyncio.to_thread(own_postgres.kill)
            await talk.wave(number)
            if number == WAVES // 2:
                await asyncio.to_thread(own_postgres.start)
        assert len(talk.said) > WAVES * CALLS
        await until_written(database, len(talk.said))
    assert_books_balance(database, talk.said)


async def test_with_one_observer_nothing_is_lost_where_keepers_leave(
    tmp_path: Path, database: Database
) -> None:
    """Both are told to end, one after the other, while all calls talk: the tables are right."""
    payers = insert_payers(database)
    async with charged(tmp_path, database, 1) as group:
        talk = Talk(group, payers, 1, signal.SIGTERM)
        await talk.wave(0)
        await until_written(database, len(talk.said))
    assert_books_balance(database, talk.said)


async def test_with_one_observer_nothing_is_charged_twice(
    tmp_path: Path, database: Database
) -> None:
    """What is said while nobody listens is missing; what is there is right, and no excess."""
    payers = insert_payers(database)
    async with charged(tmp_path, database, 1) as group:
        talk = Talk(group, payers, 1)
        await talk.wave(0)
        await asyncio.sleep(2)
    logged = {name for (name,) in database.execute('SELECT request_id FROM "LiteLLM_SpendLogs"')}
    written = [one for one in talk.said if one.usage.id in logged]
    lost = len(talk.said) - len(written)
    # Whatever was said while nobody was there, and what was not written down yet: not all of it.
    assert 0 < lost < len(talk.said)
    assert_books_balance(database, written)
    assert spent(database, "LiteLLM_VerificationToken", "token") == owed(written, "key_hash")


async def until_written(database: Database, count: int) -> None:
    """Return once so many usages are in the log."""
    async with asyncio.timeout(20):
        while True:
            ((found,),) = database.execute('SELECT count(*) FROM "LiteLLM_SpendLogs"')
            if found >= count:
                return
            await asyncio.sleep(0.2)
