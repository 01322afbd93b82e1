"""``python -I -S leash.py PARENT_PID COMMAND...``: become COMMAND, and end with the parent.

The kernel kills the process when the thread that started it ends, however that happens
(PR_SET_PDEATHSIG, prctl(2)); the wish survives exec. A program of its own, because code between
fork and exec (``preexec_fn``) is not safe where gRPC has threads. Linux only.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Let this process end with its parent.

    Args:
        parent: Its process id.

    Raises:
        SystemExit: If it has ended already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(f"{sys.argv[0]}: the parent has ended already")


def become(command: list[str]) -> NoReturn:
    """Replace this process with a command.

    Exits with 127 if the command cannot be run, as shells do.
    """
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell wanted
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(127)


if __name__ == "__main__":
    parent, *command = sys.argv[1:]
    tie(int(parent))
    become(command)
