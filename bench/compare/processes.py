"""Programs that are measured: started, watched and ended together with all of their children."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

_STOP_S: Final = 20.0
_POLL_S: Final = 0.01
_KINDS: Final = ("envoy", "extauthz", "sdpfilter", "postgres")
# Fields of /proc/PID/stat, counted from the one behind the name.
_PARENT: Final = 1
_CHILDRENS_TIME: Final = (13, 14)


class Program:
    """A process and everything that it starts.

    Args:
        command: Its words.
        log: Where its output goes.
        environ: All of its variables; ours when None.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.log: Final = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  what we want to measure
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environ,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the first process has ended."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The number of the first process."""
        return self._process.pid

    def stop(self) -> None:
        """End it and all that it started."""
        pids = tree(self.pid)
        if not self.has_ended:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in pids[1:]:
            _end(pid)

    def last_lines(self, count: int = 15) -> str:
        """Return the end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def tree(pid: int) -> list[int]:
    """Return the numbers of a process and of all that it has started."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        parent = int(fields.rpartition(")")[2].split()[_PARENT])
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_by_kind_s(roots: Iterable[int]) -> dict[str, float]:
    """Return the processor time so far in seconds, by kind of process.

    Args:
        roots: Processes that count with all that they have started, ended ones too: a server of
            Postgres starts a process for each connection.
    """
    used: dict[str, float] = {}
    for pid in chain.from_iterable(map(tree, roots)):
        kind = kind_of(pid)
        used[kind] = used.get(kind, 0.0) + process_cpu_s(pid) + _ended_children_s(pid)
    return used


def cpu_s(roots: Iterable[int]) -> float:
    """Return the processor time so far in seconds of all kinds together."""
    return sum(cpu_by_kind_s(roots).values())


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the memory of processes; what several share is split between them."""
    return sum(map(_pss_bytes, pids))


def process_cpu_s(pid: int) -> float:
    """Return the processor time of a process and its threads, ended ones too; 0 if it has ended."""
    try:
        # The clock of a process, as clock_getcpuclockid(3) makes its number.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def kind_of(pid: int) -> str:
    """Return ``envoy``, ``extauthz``, ``sdpfilter``, ``postgres``, or ``other``."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "other"
    # That of a fork is one word: its name, a colon, and the command with spaces in it.
    names = {Path(word.rstrip(":")).name for word in [*words[0].split(), *words[1:]][:5]}
    return next((kind for kind in _KINDS if kind in names), "other")


def _ended_children_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(int(fields[number]) for number in _CHILDRENS_TIME) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    (line,) = (line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def _end(pid: int) -> None:
    """Kill a child that its parent left behind, once it has had a moment."""
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(_POLL_S)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
