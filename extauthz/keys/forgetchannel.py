"""Keys that are forgotten at once because somebody says so on a channel of Valkey."""

import asyncio
import re
from typing import Any, Final

from extauthz.keys.postgreschanges import Forgetful
from ringback.logs import describe, get_logger
from ringback.valkey import Valkey, end

_HASH: Final = re.compile(rb"[0-9a-f]{64}")
# A connection that is silently gone is noticed after twice this time.
_READ_S: Final = 5.0
_RETRY_S: Final = 0.2
_MAX_RETRY_S: Final = 10.0


class ForgetChannel:
    """Listens from `start` to `stop` on the channel ``PREFIX:keys:forget``.

    A message is the sha256 of a key in hex; any other one, ``*`` for example, means every key, and
    so does a new connection, since messages may have been missed.

    Args:
        valkey: Where to listen; takes one of its connections, and is closed at the end.
        memory: What forgets.
        read_s: A server that says nothing for so long is asked whether it is there.
    """

    def __init__(self, valkey: Valkey, memory: Forgetful, *, read_s: float = _READ_S) -> None:
        self._valkey = valkey
        self._memory = memory
        self._read_s = read_s
        self._retry_s = _RETRY_S
        self._task: asyncio.Task[None] | None = None
        self._log = get_logger()

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.create_task(self._listen())

    async def stop(self) -> None:
        """End the connection."""
        if self._task is not None:
            await end(self._task)
        await self._valkey.close()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # noqa: BLE001  whatever it is, try again
                self._log.warning("key_changes_lost", retry_s=self._retry_s, **describe(error))
                await asyncio.sleep(self._retry_s)
                self._retry_s = min(self._retry_s * 2, _MAX_RETRY_S)

    async def _listen_once(self) -> None:
        """Listen until the connection ends, which is an error."""
        async with self._valkey.client.pubsub() as channel:
            await channel.subscribe(self._valkey.name("keys", "forget"))
            is_asked = False
            while True:
                message = await channel.get_message(timeout=self._read_s)
                if message is not None:
                    self._take(message)
                    is_asked, self._retry_s = False, _RETRY_S
                elif is_asked:
                    raise TimeoutError
                else:
                    await channel.ping()
                    is_asked = True

    def _take(self, message: dict[str, Any]) -> None:
        data = message["data"]
        # The client subscribes again by itself after a connection is lost, and that shows here.
        if message["type"] == "message" and _HASH.fullmatch(data):
            self._memory.forget(data.decode())
        elif message["type"] in {"message", "subscribe"}:
            self._memory.forget_all()
