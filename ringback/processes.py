"""A child process: how it is started, by fork or anew, and how it is ended."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from ringback.forks import can_fork, fork
from ringback.leash import become

_LEASH: Final = Path(__file__).with_name("leash.py")
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run.

    Attributes:
        name: What log lines call it.
        command: Program and arguments. Anybody on the machine can read them: no secrets.
        env: Its whole environment; ours when None.
        log: File that its output is appended to; when None it goes to ours.
        program: What the command does, for a fork of this process.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = field(default=None, repr=False)
    log: Path | None = None
    program: Callable[[], None] | None = None


class Process(Protocol):
    """One life of a child."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, the number of a signal negated, or None while it runs."""

    async def wait(self) -> int:
        """Wait for its end, and return the exit code."""

    def terminate(self) -> None:
        """Send SIGTERM."""


async def spawn(child: Child, *, forks: bool) -> Process:
    """Start a child, in a session of its own. On Linux it does not outlive us.

    Args:
        child: What to start.
        forks: Fork it if that can be done, so that it shares what this process has imported.

    Raises:
        OSError: If no process can be made.
    """
    output = None if child.log is None else os.open(child.log, _APPEND, 0o600)
    try:
        if forks and can_fork():
            return _fork(child, output)
        return await _execute(child, output)
    finally:
        if output is not None:
            os.close(output)


def terminate(process: Process) -> None:
    """Send SIGTERM to a process, if it runs."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()


def kill(process: Process) -> None:
    """Send SIGKILL to a process and whatever it has started, if it runs."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _fork(child: Child, output: int | None) -> Process:
    return fork(
        child.program or partial(become, list(child.command)),
        title=f"{child.name}: {' '.join(child.command)}",
        env=os.environ if child.env is None else child.env,
        output=output,
    )


async def _execute(child: Child, output: int | None) -> Process:
    command = list(child.command)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command]
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=child.env,
        # A Ctrl-C in the terminal is ours to pass on.
        start_new_session=True,
    )
