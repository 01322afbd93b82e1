"""The emulator as one object: listening from ``async with`` on, gone without a trace after it."""

import asyncio
import signal
import socket
import sys
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from emulator.app import make_app
from emulator.call import Call
from emulator.options import Options
from emulator.sessions import Calls

# How long requests under way may take when the emulator stops.
_SHUTDOWN_TIMEOUT_S: Final = 1.0


class Emulator:
    """An OpenAI and Azure Realtime API with real WebRTC peers.

    ``async with Emulator(Options(greet=False)) as emulator: ... emulator.url ...``
    """

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._calls: Calls[Call] = Calls()
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, without a slash at the end."""
        host = self._options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """What OpenAI's SDK takes as its ``base_url``."""
        return f"{self.url}/v1"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the address can't be bound.
        """
        family = socket.AF_INET6 if ":" in self._options.host else socket.AF_INET
        listener = socket.create_server((self._options.host, self._options.port), family=family)
        self._port = listener.getsockname()[1]
        self._runner = web.AppRunner(
            make_app(self._options, self._calls),
            access_log=None,
            shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """End every call and stop listening."""
        await asyncio.gather(*(call.end("shutdown") for call in self._calls.running()))
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


def run(options: Options) -> None:
    """Serve until SIGINT or SIGTERM; prints ``listening http://HOST:PORT`` when it does."""
    asyncio.run(_serve(options))


async def _serve(options: Options) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with Emulator(options) as emulator:
        sys.stdout.write(f"listening {emulator.url}\n")
        sys.stdout.flush()
        await stopped.wait()
