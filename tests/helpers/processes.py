"""What everybody on the machine can see of a process."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_LISTENS: Final = "0A"


def with_children(pids: Iterable[int]) -> set[int]:
    """Return processes and whatever they have started."""
    found = set(pids)
    parents = dict(_parents())
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def command_line(pid: int) -> str:
    """Return the arguments of a process, the program first, with spaces between them."""
    return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def ports_of(pid: int) -> list[int]:
    """Return the TCP ports on which a process listens."""
    sockets = set()
    for link in (_PROC / str(pid) / "fd").iterdir():
        if found := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())):
            sockets.add(found[1])
    rows = [line.split() for line in (_PROC / str(pid) / "net/tcp").read_text().splitlines()[1:]]
    return sorted(
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == _LISTENS and row[9] in sockets
    )


def _parents() -> Iterator[tuple[int, int]]:
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "status").read_text()
            except OSError:
                continue  # it has just ended
            yield int(folder.name), int(status.partition("\nPPid:\t")[2].split("\n")[0])
