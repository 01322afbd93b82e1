"""Processes that begin where this one stands: whatever it has imported, they need not.

Two workers of each service that import everything by themselves take four times the memory and
four times the processor time of the imports. A fork shares both with its parent.

Only a process with a single thread may be forked: the locks of other threads would stay locked for
ever. Linux only.
"""

import asyncio
import gc
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

from setproctitle import setproctitle

from ringback import leash

_TASKS: Final = Path("/proc/self/task")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def can_fork() -> bool:
    """Tell whether this process may be forked: it is on Linux and has one thread."""
    return sys.platform == "linux" and _has_pidfds() and len(list(_TASKS.iterdir())) == 1


@cache
def _has_pidfds() -> bool:
    """Tell whether the kernel, and whoever filters its system calls, lets a child be watched."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def keep_shared() -> None:
    """Leave what there is by now alone for ever, so that forks go on sharing it.

    The collector of garbage would write to every object, and with that copy its page.
    """
    gc.collect()
    gc.freeze()


def run_module(module: str, arguments: Sequence[str]) -> None:
    """Do what ``python -m MODULE ARGUMENTS`` does."""
    sys.argv = [module, *arguments]
    # Else runpy warns of a module that is there already.
    sys.modules.pop(f"{module}.__main__", None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Fork:
    """A forked child, with the part of `asyncio.subprocess.Process` that its watcher needs.

    Args:
        pid: Of the child. The running event loop watches it.
    """

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None
        """The exit code; the number of a signal, negated; None while it runs."""
        self._ended = asyncio.Event()
        watched = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(watched, self._reap, watched)

    async def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        await self._ended.wait()
        assert self.returncode is not None  # noqa: S101  set before the event
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    def _reap(self, watched: int) -> None:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


def fork(
    program: Callable[[], None], *, title: str, env: Mapping[str, str], output: int | None
) -> Fork:
    """Start a child that runs a program and ends with this process.

    It has a session of its own, no signal handlers, no input and no files of ours.

    Args:
        program: What to run. Its exit code is 0, that of `SystemExit`, or 1 after any other error.
        title: What `ps` calls it.
        env: Its whole environment.
        output: Where its output goes, a file descriptor; to ours when None.

    Raises:
        OSError: If no process can be made.
    """
    parent = os.getpid()
    # A signal must find either our handlers or its default, never our handlers in the child.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run(program, parent, title, env, output)
        return Fork(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _run(
    program: Callable[[], None],
    parent: int,
    title: str,
    env: Mapping[str, str],
    output: int | None,
) -> NoReturn:
    """Run in the child; never return into what the parent was doing."""
    code = 1
    try:
        _come_of_age(parent, title, env, output)
        code = _exit_code(program)
    except BaseException:  # noqa: BLE001  as the interpreter does at its end
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _come_of_age(parent: int, title: str, env: Mapping[str, str], output: int | None) -> None:
    os.setsid()
    leash.tie(parent)
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if output is not None:
        os.dup2(output, 1)
        os.dup2(output, 2)
    # Sockets and locks are closed when the parent closes them, and not when we do.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    variables = dict(env)
    # It writes over the arguments and variables that the parent was started with, where they are
    # found as long as no variable has been changed.
    setproctitle(title)
    os.environ.clear()
    os.environ.update(variables)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _exit_code(program: Callable[[], None]) -> int:
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201  as the interpreter does
        return 1
    return 0
