"""Changes in LiteLLM's database, told over NOTIFY by the triggers of ``notify.sql``."""

import asyncio
import re
from typing import Final, Protocol

from ringback.logs import describe, get_logger
from ringback.postgresconnect import Connection, Database

CHANNEL: Final = "ringback_keys"
_HASH: Final = re.compile(r"[0-9a-f]{64}")
# A connection that is silently gone is noticed after this time.
_PING_S: Final = 10.0
_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 10.0
# Many rows may change at once; all is forgotten once for those that come within this time.
_SETTLE_S: Final = 0.2


class Forgetful(Protocol):
    """What remembers keys."""

    def forget(self, key_hash: str) -> None:
        """Ask again for this key."""
        ...

    def forget_all(self) -> None:
        """Ask again for every key."""
        ...


class ChangeListener:
    """Listens from `start` to `stop`; a lost connection is made again.

    A change of a key makes that key forgotten, a change of anything that many keys belong to makes
    all of them forgotten, and so does a new connection, since changes may have been missed.

    Args:
        database: Where to listen.
        memory: What forgets.
    """

    def __init__(self, database: Database, memory: Forgetful) -> None:
        self._database = database
        self._memory = memory
        self._tasks: list[asyncio.Task[None]] = []
        self._all_changed = asyncio.Event()
        self._log = get_logger()

    def start(self) -> None:
        """Begin to listen."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._forget_all()),
        ]

    async def stop(self) -> None:
        """End the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        retry_s = _RETRY_S
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # noqa: BLE001  whatever it is, try again
                self._log.warning("database_changes_lost", retry_s=retry_s, **describe(error))
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _MAX_RETRY_S)
            else:
                retry_s = _RETRY_S

    async def _listen_once(self) -> None:
        """Listen until the connection ends."""
        ended = asyncio.Event()
        connection = await self._database.connect()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._on_change)
            self._memory.forget_all()
            self._log.info("database_changes_followed")
            while not ended.is_set():
                try:
                    async with asyncio.timeout(_PING_S):
                        await ended.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
        finally:
            # In no orderly way: the other side may be silent.
            connection.terminate()

    def _on_change(
        self, _connection: Connection, _pid: int, _channel: str, payload: object
    ) -> None:
        if isinstance(payload, str) and _HASH.fullmatch(payload):
            self._memory.forget(payload)
        else:
            self._all_changed.set()

    async def _forget_all(self) -> None:
        while True:
            await self._all_changed.wait()
            self._all_changed.clear()
            self._memory.forget_all()
            await asyncio.sleep(_SETTLE_S)
