"""``python -I -S leash.py PARENT_PID COMMAND...``: become COMMAND, and end with the parent.

The kernel kills the process when the thread that started it ends, however that happens
(PR_SET_PDEATHSIG, prctl(2)); the wish survives exec. A program of its own, because code between
fork and exec (``preexec_fn``) is not safe where gRPC has threads. Linux only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process with the command.

    Exits with 127 if the command cannot be run, as shells do.
    """
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(f"{command[0]}: the parent has ended already")
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell wanted
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(127)


if __name__ == "__main__":
    main()
