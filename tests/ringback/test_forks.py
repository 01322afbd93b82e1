import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringback.forks import can_fork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux only")

# A parent that forks one child in a running event loop, as a supervisor does. It has a secret in
# its environment and holds a file open; it prints the child's exit code.
PARENT = """
import asyncio, os, signal, sys, time
from pathlib import Path
from ringback.forks import can_fork, fork

def child():
    {child}

async def heard(word):
    while word not in Path(sys.argv[1], "log").read_text():
        await asyncio.sleep(0.01)

async def main():
    assert can_fork()
    held = os.open(sys.argv[1], os.O_RDONLY)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os.write(1, b"mine\\n"))
    output = os.open(sys.argv[1] + "/log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    process = fork(child, title="a forked child", env={{"GIVEN": "1"}}, output=output)
    {parent}
    print("code", await process.wait(), flush=True)

asyncio.run(main())
"""


class Parent:
    """Runs a parent whose child does something, to its end."""

    def __init__(self, folder: Path, child: str, parent: str = "pass") -> None:
        self.log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", PARENT.format(child=child, parent=parent), str(folder)],
            env={**os.environ, "PARENTS_SECRET": "made-up-secret"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> str:
        """Return what it prints."""
        said, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, said
        return said

    def wait_for(self, word: str) -> str:
        """Wait until the child has said something that begins so, and return the rest."""
        deadline = time.monotonic() + 20
        while True:
            for line in self.log.read_text().splitlines() if self.log.exists() else ():
                if line.startswith(word):
                    return line.removeprefix(word).strip()
            assert time.monotonic() < deadline, "the child said nothing"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as nobody can handle."""
        self._process.kill()
        self._process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("child", "code", "text"),
    [
        # Realistic
        pytest.param("pass", 0, "", id="returns"),
        pytest.param("sys.exit(2)", 2, "", id="exits"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", -9, "", id="is-killed"),
        # Synthetic
        pytest.param("sys.exit()", 0, "", id="exits-without-a-code"),
        pytest.param("sys.exit('what to mend')", 1, "what to mend\n", id="exits-with-a-text"),
        pytest.param("print('half a line', end='')", 0, "half a line", id="output-is-flushed"),
        # Pathological
        pytest.param("raise KeyboardInterrupt", 1, "KeyboardInterrupt\n", id="raises"),
        pytest.param("1 / 0", 1, "ZeroDivisionError: division by zero\n", id="fails"),
    ],
)
def test_it_ends_as_a_program_does(tmp_path: Path, child: str, code: int, text: str) -> None:
    """The exit code is that of the program, what it says is in the log, and the parent goes on."""
    parent = Parent(tmp_path, child)

    assert parent.end() == f"code {code}\n"

    assert parent.log.read_text().endswith(text)


def test_it_has_its_own_environment_and_name(tmp_path: Path) -> None:
    """What the parent's environment holds is not there, not even for who reads ``/proc``."""
    child = (
        "print(sorted(os.environ), Path('/proc/self/cmdline').read_bytes().strip(b'\\0').decode(), "
        "b'made-up-secret' in Path('/proc/self/environ').read_bytes())"
    )
    parent = Parent(tmp_path, child)
    parent.end()

    assert parent.log.read_text() == "['GIVEN'] a forked child False\n"


def test_it_holds_no_file_of_the_parents(tmp_path: Path) -> None:
    """It has the three that every program has; of them it reads nothing."""
    child = "print(len(os.listdir('/proc/self/fd')) - 1, repr(sys.stdin.read()))"
    parent = Parent(tmp_path, child)
    parent.end()

    assert parent.log.read_text() == "3 ''\n"


def test_an_event_loop_runs_in_it(tmp_path: Path) -> None:
    """The parent's loop, in the middle of which it began, is not its own."""
    child = "asyncio.run(asyncio.sleep(0.01)); print('ran')"
    parent = Parent(tmp_path, child)
    parent.end()

    assert parent.log.read_text() == "ran\n"


def test_sigterm_ends_it_and_not_the_parent(tmp_path: Path) -> None:
    """The parent's handler is the parent's: it is not called, whoever gets the signal."""
    child = "print('waiting', flush=True); time.sleep(30)"
    parent = Parent(tmp_path, child, "await heard('waiting'); process.terminate()")

    assert parent.end() == "code -15\n"


def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """The kernel kills it, whatever the parent had no time for."""
    parent = Parent(tmp_path, "print('pid', os.getpid(), flush=True); time.sleep(30)")
    pid = int(parent.wait_for("pid"))

    parent.kill()

    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)


@pytest.fixture
async def thread() -> AsyncIterator[None]:
    """A second thread."""
    done = threading.Event()
    waiting = asyncio.create_task(asyncio.to_thread(done.wait))
    await asyncio.sleep(0.01)
    yield
    done.set()
    await waiting


@pytest.mark.usefixtures("thread")
async def test_threads_forbid_it() -> None:
    """Whatever lock another thread holds would be held for ever."""
    assert not can_fork()
