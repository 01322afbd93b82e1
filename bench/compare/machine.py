"""What machine this is, and how much of it others used while something was measured."""

import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

from ringback.paths import ENVOY_VERSION

# Other programs' share of all processor time above which a run says nothing.
MAX_OTHERS: Final = 0.08

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def describe(litellm: Path) -> dict[str, str]:
    """Return the machine and the versions that were measured, by what they are called.

    Args:
        litellm: LiteLLM's program, in its virtual environment.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "Envoy": ENVOY_VERSION,
        "grpcio": version("grpcio"),
        "Ringback": commit(),
        "LiteLLM": _litellm_version(litellm),
    }


def commit() -> str:
    """Return what is checked out, marked where files have been changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return version("ringback")
    return answer.stdout.strip()


class Others:
    """Measures the share of all processor time that went to programs which are not measured.

    Stolen time counts: it is what the hypervisor gave to others. That of interrupts does not,
    because it cannot be told whose they are.

    Args:
        ours_s: Tells the processor time of what is measured, in seconds.
    """

    def __init__(self, ours_s: Callable[[], float]) -> None:
        self._ours_s = ours_s
        self.share = 0.0
        """From 0 to 1, once the ``with`` block has ended."""

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, ours = (
            after - before for before, after in zip(self._before, self._now(), strict=True)
        )
        self.share = max(0.0, (busy - ours) / (wall * (os.cpu_count() or 1)))

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), _busy_s(), self._ours_s() + _own_s()


def _busy_s() -> float:
    """Return how long all processors together have been busy."""
    fields = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:]
    user, nice, system, steal = (int(fields[column]) for column in (0, 1, 2, 7))
    return (user + nice + system + steal) / _TICKS_PER_S


def _own_s() -> float:
    """Return the processor time of this process and of children that have ended: wrk's."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _litellm_version(program: Path) -> str:
    """Return what is installed there."""
    found = program.parents[1].glob("lib/python*/site-packages/litellm-*.dist-info")
    names = [folder.name.removesuffix(".dist-info").partition("-")[2] for folder in found]
    return names[0] if names else "not installed"


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
