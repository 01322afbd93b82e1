"""Packages of npm, installed once into pytest's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

# Within the time that a test may take.
_INSTALL_TIMEOUT_S: Final = 100
_INSTALLED: Final = "installed"


def find_node(name: str = "node") -> str:
    """Return the path of ``node`` or ``npm``; without it the test is skipped, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        _give_up(f"needs Node.js 20 or newer: no {name} on PATH")
    assert found is not None
    return found


def install(folder: Path, cache: pytest.Cache) -> Path:
    """Return a copy of a folder with the packages that its lock file names.

    What cannot be installed skips the test, or fails it in CI.

    Args:
        folder: Has ``package.json``, ``package-lock.json`` and scripts.
        cache: Keeps the copy; another lock file gets another one.
    """
    npm = find_node("npm")
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()[:16]
    copy = cache.mkdir(f"npm-{digest}")
    with _alone(copy):
        # Scripts are found beside the packages, and may have changed.
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        if not (copy / _INSTALLED).exists():
            _install(npm, copy)
            (copy / _INSTALLED).touch()
    return copy


@contextmanager
def _alone(copy: Path) -> Iterator[None]:
    """Keep the other test processes of this run out."""
    with copy.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(npm: str, copy: Path) -> None:
    try:
        done = subprocess.run(
            [npm, "ci"],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        _give_up(f"npm ci took more than {_INSTALL_TIMEOUT_S} s")
    if done.returncode:
        _give_up(f"npm ci failed:\n{done.stderr[-2000:]}")


def _give_up(why: str) -> None:
    verdict = pytest.fail if os.environ.get("CI") else pytest.skip
    verdict(why)
