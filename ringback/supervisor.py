"""Child processes that are watched: restarted when they die, ended in order, none outlives us."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Final

from ringback.processes import Child, Process, kill, spawn, terminate

# The exit code of a program whose settings cannot be used (StartError): another start is no help.
START_ERROR_CODE: Final = 2
# Waits before a restart: none the first time, then longer, the last one over and over.
RESTART_DELAYS_S: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
# A child that lived this long counts as well again: its next restart is immediate.
STABLE_S: Final = 30.0
# What a child may take to end after SIGTERM, a little more than the grace of our gRPC servers.
STOP_GRACE_S: Final = 20.0


@dataclass(slots=True)
class _Running:
    child: Child
    process: Process
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Starts children, restarts those that die and stops them in order.

    A child whose first life ends with exit code 2 stays down: its settings are wrong.

    Args:
        report: Gets one line for each child that ended by itself.
        restart_delays_s: Waits before the first restart, the second one and so on.
        stable_s: After so many seconds of life the waits begin anew.
        forks: Fork children rather than start them anew, as long as this process has one thread:
            they share what it has imported, and need not import it themselves.
    """

    def __init__(
        self,
        report: Callable[[str], None],
        *,
        restart_delays_s: Sequence[float] = RESTART_DELAYS_S,
        stable_s: float = STABLE_S,
        forks: bool = False,
    ) -> None:
        self.restarts = True
        """Set to False while starting: whatever ends stays down, without a line."""
        self.lost: dict[str, int] = {}
        """Exit codes, by name, of the children that ended and stay down."""
        self.loss = asyncio.Event()
        """Set when the first of them did."""
        self._report = report
        self._restart_delays_s = restart_delays_s
        self._stable_s = stable_s
        self._forks = forks
        self._running: dict[str, _Running] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def start(self, child: Child) -> None:
        """Start a child, and watch it from now on.

        Raises:
            OSError: If no process can be made.
        """
        running = _Running(child, await spawn(child, forks=self._forks))
        self._running[child.name] = running
        self._watches[child.name] = asyncio.create_task(self._watch(running))

    def pid_of(self, name: str) -> int:
        """Return the process id of a child's present life, or of its last one."""
        return self._running[name].process.pid

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the children in the order of their start."""
        return tuple(self._running)

    async def stop(self, names: Iterable[str], *, grace_s: float = STOP_GRACE_S) -> None:
        """Send SIGTERM to children at once, and SIGKILL to those that outlast the grace.

        Names of children that were never started are passed over.
        """
        started = [name for name in names if name in self._watches]
        await asyncio.gather(*(self._stop(name, grace_s) for name in started))

    def kill(self) -> None:
        """Send SIGKILL to every child and whatever it has started; `stop` still has to follow."""
        for running in self._running.values():
            running.stopping.set()
            kill(running.process)

    async def _stop(self, name: str, grace_s: float) -> None:
        running, watch = self._running[name], self._watches[name]
        running.stopping.set()
        terminate(running.process)
        try:
            await asyncio.wait_for(asyncio.shield(watch), grace_s)
        except TimeoutError:
            kill(running.process)
            await watch

    async def _watch(self, running: _Running) -> None:
        name, clock = running.child.name, asyncio.get_running_loop().time
        delays = self._delays()
        born, is_first_life = clock(), True
        while True:
            code = await running.process.wait()
            if running.stopping.is_set():
                return
            is_hopeless = is_first_life and code == START_ERROR_CODE
            if is_hopeless or not self.restarts:
                if self.restarts:
                    self._tell(f"{name} ended with code {code}")
                self.lost[name] = code
                self.loss.set()
                return
            if clock() - born >= self._stable_s:
                delays = self._delays()
            delay_s = next(delays)
            restarted = f"restarts in {delay_s:g} s" if delay_s else "restarted"
            self._tell(f"{name} ended with code {code}; {restarted}")
            if await _wait(running.stopping, delay_s):
                return
            await self._respawn(running, delays)
            born, is_first_life = clock(), False

    def _tell(self, line: str) -> None:
        # Whoever cannot be told any more, on a full disk for example, still has a supervisor.
        with suppress(OSError):
            self._report(line)

    def _delays(self) -> Iterator[float]:
        return chain(self._restart_delays_s, repeat(self._restart_delays_s[-1]))

    async def _respawn(self, running: _Running, delays: Iterator[float]) -> None:
        while not running.stopping.is_set():
            try:
                running.process = await spawn(running.child, forks=self._forks)
            except OSError as error:
                self._tell(f"{running.child.name} cannot be started: {error.strerror}")
                await _wait(running.stopping, next(delays))
            else:
                break
        if running.stopping.is_set():
            # The order to stop came while there was no process to tell.
            terminate(running.process)


@dataclass(frozen=True, slots=True)
class StopSignals:
    """Whether SIGINT or SIGTERM came: ``first`` asks to stop, ``second`` to stop at once."""

    first: asyncio.Event = field(default_factory=asyncio.Event)
    second: asyncio.Event = field(default_factory=asyncio.Event)

    def receive(self) -> None:
        """Count one signal."""
        (self.second if self.first.is_set() else self.first).set()


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Turn SIGINT and SIGTERM into events of the running loop."""
    signals, loop = StopSignals(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, signals.receive)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def supervise(
    children: Sequence[Child],
    report: Callable[[str], None],
    *,
    grace_s: float = STOP_GRACE_S,
) -> int:
    """Run children until SIGINT or SIGTERM, restarting those that die.

    Returns:
        The exit code: 0 after a signal, 130 after a second one, and the child's own if one cannot
        start for its settings; then the others are stopped too.
    """
    return asyncio.run(_supervise(children, report, grace_s))


async def _supervise(
    children: Sequence[Child], report: Callable[[str], None], grace_s: float
) -> int:
    supervisor = Supervisor(report, forks=True)
    with stop_signals() as signals:
        try:
            for child in children:
                await supervisor.start(child)
            await wait_for_any(signals.first, supervisor.loss)
        finally:
            stop = asyncio.create_task(supervisor.stop(supervisor.names, grace_s=grace_s))
            await kill_on_second(signals, supervisor, stop)
    if signals.second.is_set():
        return 128 + signal.SIGINT
    return next(iter(supervisor.lost.values()), 0)


async def wait_for_any(*events: asyncio.Event) -> None:
    """Wait until one of several events is set."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def kill_on_second(
    signals: StopSignals, supervisor: Supervisor, stop: asyncio.Task[None]
) -> None:
    """Wait for an orderly stop; a second signal kills what is left."""
    second = asyncio.create_task(signals.second.wait())
    await asyncio.wait({stop, second}, return_when=asyncio.FIRST_COMPLETED)
    if second.done():
        supervisor.kill()
    second.cancel()
    await stop


async def _wait(event: asyncio.Event, timeout_s: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), timeout_s)
    return event.is_set()
