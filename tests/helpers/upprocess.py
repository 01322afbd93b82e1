"""``ringback up`` as people start it: a process of its own, read line by line."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

RINGBACK: Final = str(Path(sys.executable).with_name("ringback"))
FREE_PORTS: Final = ("--port", "0", "--egress-port", "0", "--admin-port", "0")
_TIMEOUT_S: Final = 60.0


class UpProcess:
    """Runs between the ends of a ``with`` block, and is killed if it does not end there.

    Args:
        arguments: Options of the command.
        cwd: Where it runs.
        env: Variables on top of ours.
    """

    def __init__(self, *arguments: str | Path, cwd: Path, env: Mapping[str, str] = {}) -> None:
        self.process = subprocess.Popen(
            [RINGBACK, "up", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        """What it has said so far."""
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._pids: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()

    def wait_for(self, pattern: str, timeout_s: float = _TIMEOUT_S) -> re.Match[str]:
        """Return the first match among the lines that come from now on."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._queue.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                line = None
            assert line is not None, f"no line matches {pattern}:\n" + "\n".join(self.lines)
            if match := re.search(pattern, line):
                return match

    def wait_until_ready(self) -> str:
        """Return the URL."""
        return self.wait_for(r"^ready (http://\S+)$")[1]

    def said(self, label: str) -> str:
        """Return what was said behind a label."""
        (value,) = [line[len(label) :] for line in self.lines if line.startswith(f"{label} ")]
        return value.strip()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, timeout_s: float = _TIMEOUT_S) -> int:
        """Return the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join()
        return code

    def children(self) -> dict[int, list[str]]:
        """Return the commands of its children, by process id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                # That of a fork is one word, with spaces in it.
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().split()
            except OSError:
                continue
            if parent == self.process.pid:
                found[int(folder.name)] = command
        return found

    def child(self, word: str) -> int:
        """Return the process id of the one child whose command ends a word so."""
        (pid,) = self.pids(word)
        return pid

    def pids(self, word: str) -> list[int]:
        """Return the process ids of the children whose commands end a word so."""
        return [
            pid
            for pid, command in self.children().items()
            if any(w.endswith(word) for w in command)
        ]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)


def are_gone(pids: Collection[int], timeout_s: float = 15) -> bool:
    """Tell whether processes have ended, or end in time."""
    deadline = time.monotonic() + timeout_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
