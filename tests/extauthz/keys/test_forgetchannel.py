import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from extauthz.keys.forgetchannel import ForgetChannel
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.valkey import Valkey

HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
ALL = "all"
READ_S = 0.2


class Memory:
    """Notes what is to be forgotten.

    Attributes:
        forgotten: Hashes, and `ALL`.
        error: Raised once, after the note.
    """

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.error: Exception | None = None

    def forget(self, key_hash: str) -> None:
        """Note one key."""
        self.forgotten.append(key_hash)
        error, self.error = self.error, None
        if error is not None:
            raise error

    def forget_all(self) -> None:
        """Note all of them."""
        self.forgotten.append(ALL)


@pytest.fixture
def server() -> Iterator[ValkeyProcess]:
    """A server of the test's own, to be paused."""
    with ValkeyProcess() as server:
        yield server


@asynccontextmanager
async def listening(server: ValkeyProcess, memory: Memory) -> AsyncIterator[None]:
    """Listen for the time of a block, from the moment on at which messages arrive."""
    valkey = Valkey(server.settings(connections=1, timeout_s=0.5))
    channel = ForgetChannel(valkey, memory, read_s=READ_S)
    channel.start()
    try:
        await until(lambda: memory.forgotten == [ALL])
        yield
    finally:
        await channel.stop()


async def test_a_silent_server_is_noticed(server: ValkeyProcess) -> None:
    """A connection that nothing comes over is made again, and then all keys are forgotten."""
    memory = Memory()
    with capture_logs() as logs:
        async with listening(server, memory):
            # A quiet server is no silent one.
            await asyncio.sleep(6 * READ_S)
            assert logs == []
            with server.paused():
                await until(lambda: logs)
            await until(lambda: memory.forgotten == [ALL, ALL])
    assert {entry["event"] for entry in logs} == {"key_changes_lost"}


async def test_no_error_ends_the_listening(server: ValkeyProcess) -> None:
    """Whatever goes wrong with one message, the next one is heard."""
    memory = Memory()
    client = server.client()
    async with listening(server, memory):
        memory.error = KeyError("unplanned")
        client.publish("ringback:keys:forget", HASH)
        await until(lambda: memory.forgotten == [ALL, HASH, ALL])
        client.publish("ringback:keys:forget", HASH)
        await until(lambda: memory.forgotten == [ALL, HASH, ALL, HASH])
    client.close()


async def test_stop_at_any_moment(server: ValkeyProcess) -> None:
    """It stops within a moment, however far the first connection has come."""
    for steps in range(12):
        channel = ForgetChannel(Valkey(server.settings(connections=1)), Memory())
        channel.start()
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await channel.stop()
