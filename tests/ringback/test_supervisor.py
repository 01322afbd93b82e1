import asyncio
import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ringback.processes import Child
from ringback.supervisor import Supervisor

# Says its process id in one write, then does what the test needs.
HEAD = "import os, signal, sys, time; os.write(1, b'%d\\n' % os.getpid()); "
SLEEP = HEAD + "time.sleep(60)"
# Says that it was asked to end, and does not.
DEAF = HEAD + (
    "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'asked\\n')); "
    "os.write(1, b'deaf\\n'); time.sleep(60)"
)

GROUP = """
import sys
from ringback.processes import Child
from ringback.supervisor import supervise

python = [sys.executable, "-c"]
children = [Child(f"child-{n}", [*python, code]) for n, code in enumerate(sys.argv[1:])]
sys.exit(supervise(children, lambda line: print(line, flush=True), grace_s=5))
"""


@pytest.fixture
def lines() -> list[str]:
    """What the supervisor reported."""
    return []


@pytest.fixture
async def supervisor(lines: list[str]) -> AsyncIterator[Supervisor]:
    """A supervisor that restarts quickly and whose children end with the test."""
    supervisor = Supervisor(lines.append, restart_delays_s=(0.0, 0.2, 0.4))
    yield supervisor
    supervisor.kill()
    await supervisor.stop(supervisor.names)


def child(tmp_path: Path, code: str, name: str = "tiny") -> Child:
    """Return a Python child that logs to ``tmp_path/NAME.log``."""
    return Child(name, [sys.executable, "-c", code], log=tmp_path / f"{name}.log")


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.01)


def output(tmp_path: Path, name: str = "tiny") -> list[str]:
    """Return the words that a child has printed."""
    log = tmp_path / f"{name}.log"
    return log.read_text().split() if log.exists() else []


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_a_child_that_dies_is_restarted_at_once(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """The first death of a child costs no wait, gives one line, and a new process."""
    await supervisor.start(child(tmp_path, SLEEP))
    first = supervisor.pid_of("tiny")

    os.kill(first, signal.SIGKILL)
    await until(lambda: supervisor.pid_of("tiny") != first)

    assert lines == ["tiny ended with code -9; restarted"]
    assert is_alive(supervisor.pid_of("tiny"))
    assert not supervisor.loss.is_set()


async def test_who_cannot_be_told_has_a_supervisor_all_the_same(tmp_path: Path) -> None:
    """A child is restarted also when the line about it cannot be written: the disk is full."""

    def report(_line: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    supervisor = Supervisor(report)
    await supervisor.start(child(tmp_path, SLEEP))
    first = supervisor.pid_of("tiny")
    try:
        os.kill(first, signal.SIGKILL)
        await until(lambda: supervisor.pid_of("tiny") != first)
    finally:
        supervisor.kill()
        await supervisor.stop(supervisor.names)


async def test_restarts_wait_longer_each_time_up_to_a_bound(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """A child that dies over and over is restarted after growing waits, the last one repeated."""
    await supervisor.start(child(tmp_path, HEAD + "sys.exit(7)"))

    await until(lambda: len(lines) >= 5)

    assert lines[:5] == [
        "tiny ended with code 7; restarted",
        "tiny ended with code 7; restarts in 0.2 s",
        "tiny ended with code 7; restarts in 0.4 s",
        "tiny ended with code 7; restarts in 0.4 s",
        "tiny ended with code 7; restarts in 0.4 s",
    ]


async def test_a_long_life_makes_the_next_restart_immediate(
    lines: list[str], tmp_path: Path
) -> None:
    """Waits begin anew for a child that lived for ``stable_s``."""
    supervisor = Supervisor(lines.append, restart_delays_s=(0.0, 60.0), stable_s=0.0)
    await supervisor.start(child(tmp_path, HEAD + "sys.exit(1)"))

    await until(lambda: len(lines) >= 3)
    await supervisor.stop(["tiny"])

    assert set(lines) == {"tiny ended with code 1; restarted"}


async def test_wrong_settings_are_not_tried_again(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """A child whose first life ends with code 2 stays down, and the loss is announced."""
    await supervisor.start(child(tmp_path, HEAD + "sys.exit(2)"))

    await asyncio.wait_for(supervisor.loss.wait(), 10)

    assert supervisor.lost == {"tiny": 2}
    assert lines == ["tiny ended with code 2"]


async def test_code_2_in_a_later_life_is_tried_again(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """A file that went bad while we run may be mended, so a restarted child is not given up."""
    flag = tmp_path / "flag"
    flags = f"flag = {str(flag)!r}; old = os.path.exists(flag); open(flag, 'w').close(); "
    await supervisor.start(child(tmp_path, HEAD + flags + "sys.exit(2 if old else 1)"))

    await until(lambda: len(lines) >= 3)

    assert lines[1] == "tiny ended with code 2; restarts in 0.2 s"
    assert not supervisor.loss.is_set()


async def test_nothing_is_restarted_while_starting(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """With ``restarts`` off, whatever ends stays down, also with code 0; the caller tells."""
    supervisor.restarts = False
    await supervisor.start(child(tmp_path, HEAD))

    await asyncio.wait_for(supervisor.loss.wait(), 10)

    assert supervisor.lost == {"tiny": 0}
    assert lines == []


async def test_stop_is_silent_and_final(
    supervisor: Supervisor, lines: list[str], tmp_path: Path
) -> None:
    """A child that was told to stop ends, is not restarted, and gives no line."""
    await supervisor.start(child(tmp_path, SLEEP))
    pid = supervisor.pid_of("tiny")

    await supervisor.stop(["tiny"])

    assert not is_alive(pid)
    assert lines == []


async def test_a_child_that_ignores_sigterm_is_killed(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """After the grace SIGKILL follows, and `stop` returns only when the process is gone."""
    await supervisor.start(child(tmp_path, DEAF))
    await until(lambda: "deaf" in output(tmp_path))
    pid = supervisor.pid_of("tiny")

    await supervisor.stop(["tiny"], grace_s=0.2)

    assert not is_alive(pid)


async def test_stop_ends_the_wait_for_a_restart(lines: list[str], tmp_path: Path) -> None:
    """A child that waits to be restarted is stopped without waiting."""
    supervisor = Supervisor(lines.append, restart_delays_s=(60.0,))
    await supervisor.start(child(tmp_path, HEAD + "sys.exit(1)"))
    await until(lambda: lines == ["tiny ended with code 1; restarts in 60 s"])

    await asyncio.wait_for(supervisor.stop(["tiny"]), 5)


async def test_children_stop_in_the_order_given(supervisor: Supervisor, tmp_path: Path) -> None:
    """`stop` returns when its children have ended, so one call after the other is an order."""
    await supervisor.start(child(tmp_path, SLEEP, "first"))
    await supervisor.start(child(tmp_path, SLEEP, "second"))

    await supervisor.stop(["second"])

    assert not is_alive(supervisor.pid_of("second"))
    assert is_alive(supervisor.pid_of("first"))


async def test_output_goes_to_the_log_file(supervisor: Supervisor, tmp_path: Path) -> None:
    """Both streams of all lives of a child are appended to one private file."""
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    await supervisor.start(child(tmp_path, code))

    await until(lambda: len(output(tmp_path)) >= 4)

    assert set(output(tmp_path)) == {"out", "err"}
    assert (tmp_path / "tiny.log").stat().st_mode & 0o077 == 0


async def test_the_environment_is_the_one_given(supervisor: Supervisor, tmp_path: Path) -> None:
    """A child sees its own environment and nothing of ours; secrets travel there."""
    code = "import os; print(*sorted(set(os.environ) - {'LC_CTYPE'}), flush=True)"
    env = {"TINY_SECRET": "made up"}
    log = tmp_path / "tiny.log"
    supervisor.restarts = False
    await supervisor.start(Child("tiny", [sys.executable, "-c", code], env=env, log=log))

    await asyncio.wait_for(supervisor.loss.wait(), 10)

    assert output(tmp_path) == ["TINY_SECRET"]


async def test_a_program_that_does_not_exist_ends_with_127(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A missing program is a loss like any other, and its log says what is missing."""
    supervisor.restarts = False
    await supervisor.start(Child("tiny", ["no-such-program"], log=tmp_path / "tiny.log"))

    await asyncio.wait_for(supervisor.loss.wait(), 10)

    assert supervisor.lost == {"tiny": 127}
    assert "no-such-program cannot be run" in (tmp_path / "tiny.log").read_text()


def start_group(*codes: str) -> subprocess.Popen[str]:
    """Run `supervise` in a process of its own with one Python child for each code."""
    return subprocess.Popen(
        [sys.executable, "-c", GROUP, *codes],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_pids(process: subprocess.Popen[str], count: int) -> list[int]:
    """Read the process ids that the children print."""
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(count)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_group(number: signal.Signals) -> None:
    """`supervise` passes a signal on to every child, waits, and exits with 0."""
    with start_group(SLEEP, SLEEP) as process:
        pids = read_pids(process, 2)
        process.send_signal(number)
        assert process.wait(10) == 0
        assert not any(is_alive(pid) for pid in pids)


def test_a_second_signal_kills_the_group() -> None:
    """Whoever presses Ctrl-C again does not wait for children that will not end."""
    with start_group(DEAF) as process:
        (pid,) = read_pids(process, 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        # Without the second signal the child is killed as well, and the code is 0.
        assert process.wait(10) == 130
        assert not is_alive(pid)


def test_a_group_with_wrong_settings_ends_with_the_code() -> None:
    """If one child cannot start for its settings, all end and the code is passed on."""
    with start_group(SLEEP, HEAD + "time.sleep(0.5); sys.exit(2)") as process:
        pids = read_pids(process, 2)
        assert process.wait(10) == 2
        assert not any(is_alive(pid) for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is announced on Linux only")
def test_children_do_not_outlive_a_killed_supervisor() -> None:
    """Even SIGKILL of the supervisor leaves no child behind, not even one that ignores SIGTERM."""
    with start_group(DEAF, SLEEP) as process:
        assert process.stdout is not None
        words = [process.stdout.readline().strip() for _ in range(3)]
        pids = [int(word) for word in words if re.fullmatch(r"\d+", word)]
        process.kill()
        process.wait(5)
        deadline = time.monotonic() + 5
        while any(is_alive(pid) for pid in pids):
            assert time.monotonic() < deadline, "a child outlived the supervisor"
            time.sleep(0.02)
        assert len(pids) == 2
