"""A network namespace and processes in it that are confined as containers are, without an engine.

A container has the files of this machine, read-only, and its volumes; it has the user, the
capabilities and the environment that its manifest names.
"""

import ctypes
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import pytest

ROOT: Final = Path(__file__).parents[2]
POD_ADDRESS: Final = "10.77.0.2"
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET of setns(2)
_OVERLAY: Final = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"
_TOOLS: Final = ("ip", "nsenter", "setpriv", "unshare")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of this machine at a place in a container."""

    source: Path
    path: str
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Confined:
    """One container.

    Attributes:
        command: The program and its arguments.
        environ: Its environment, beside PATH.
        mounts: Its volumes.
        user: Numbers of its user and group.
        log: What it writes.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    mounts: Sequence[Mount]
    user: int
    log: Path


@dataclass(slots=True)
class PodHost:
    """A network namespace of its own, between the ends of a ``with`` block.

    Whoever cannot make one skips the test; in CI it fails.
    """

    _holder: subprocess.Popen[bytes] | None = None
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not all(map(shutil.which, _TOOLS)):
            verdict = pytest.fail if os.environ.get("CI") else pytest.skip
            verdict(f"needs root and {', '.join(_TOOLS)}")
        setup = f"ip link set lo up && ip address add {POD_ADDRESS}/32 dev lo && echo up"
        self._holder = subprocess.Popen(
            ["/usr/bin/env", "unshare", "--net", "sh", "-c", f"{setup} && exec sleep infinity"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        return self

    def __exit__(self, *_error: object) -> None:
        holder = self._holder
        assert holder is not None
        for child in (*self._children, holder):
            # With whatever a script of its has started.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert holder.stdout is not None
        holder.stdout.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread make its sockets in the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as home, self._network().open() as network:
            _enter(libc, network.fileno())
            try:
                yield
            finally:
                _enter(libc, home.fileno())

    def start(self, container: Confined) -> subprocess.Popen[bytes]:
        """Start a container; it is killed at the end of the block."""
        with container.log.open("ab") as log:
            child = subprocess.Popen(
                [*self._nsenter(), "unshare", "--mount", "sh", "-euc", _script(container)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        self._children.append(child)
        return child

    def run(self, container: Confined, timeout_s: float) -> int:
        """Run a container to its end and return its exit code."""
        return self.start(container).wait(timeout_s)

    def execute(self, pid: int, container: Confined, timeout_s: float) -> int:
        """Run a command in a container, as ``kubectl exec`` does, and return its exit code."""
        words = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", *self._nsenter()[1:]]
        done = subprocess.run(
            [*words, "sh", "-euc", f"cd / && {_become(container)}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode

    def _network(self) -> Path:
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/ns/net")

    def _nsenter(self) -> list[str]:
        return ["nsenter", f"--net={self._network()}"]


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _script(container: Confined) -> str:
    """Return what makes the files of a container in a mount namespace, and becomes it."""
    lines = [
        "mount -t tmpfs -o mode=755 tmpfs /run",
        # A place for mount points, on top of what is there.
        "mkdir -p /run/etc/upper /run/etc/work",
        f"mount -t overlay -o {_OVERLAY} overlay /etc",
        *_open_up(),
    ]
    for mount in container.mounts:
        path, source = shlex.quote(mount.path), shlex.quote(str(mount.source))
        lines += [f"mkdir -p {path}", f"mount --bind {source} {path}"]
        if mount.is_read_only:
            lines.append(f"mount -o remount,bind,ro {path}")
    lines += [f"mount -o remount,bind,ro {path}" for path in ("/", "/etc", "/run")]
    lines += ["cd /", f"exec {_become(container)}"]
    return "\n".join(lines)


def _open_up() -> Iterator[str]:
    """Give commands after which everybody may get at Python, its packages and the checkout."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    hidden = {path: closed for path in needed if (closed := _closed_ancestor(path))}
    for number, path in enumerate(sorted(hidden)):
        yield f"mkdir -p /run/open/{number}"
        yield f"mount --bind {shlex.quote(str(path))} /run/open/{number}"
    for closed in sorted(set(hidden.values())):
        yield f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}"
    for number, path in enumerate(sorted(hidden)):
        place = shlex.quote(str(path))
        yield f"mkdir -p {place}"
        yield f"mount --bind /run/open/{number} {place}"


def _closed_ancestor(path: Path) -> Path | None:
    """Return the first folder on the way to a path that not everybody may pass."""
    for folder in reversed(path.resolve().parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _become(container: Confined) -> str:
    """Return the command that drops every right and runs the container's."""
    packages = Path(sys.prefix, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    # The real Envoy, as in its image, and not the wheel's script.
    envoy = packages / "site-packages" / "envoy" / "_bin"
    environ = {
        "PATH": f"{envoy}:{Path(sys.prefix, 'bin')}:/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        **container.environ,
    }
    return shlex.join(
        [
            "setpriv",
            f"--reuid={container.user}",
            f"--regid={container.user}",
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--no-new-privs",
            "env",
            "-i",
            *(f"{name}={value}" for name, value in environ.items()),
            *container.command,
        ]
    )
