"""Waiting for children to become ready, and telling why one did not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ringback.cli import probe
from ringback.cli.ports import LaunchError
from ringback.render.bootstrap import Address

IsReady = Callable[[], Awaitable[bool]]

_POLL_S: Final = 0.02
_HEALTH_TIMEOUT_S: Final = 1.0


class NotReadyError(LaunchError):
    """Something did not become ready.

    Args:
        why: One line.
        logs: Folder of all logs.
        ends: By name of a child that is not ready, the last lines of its log.
    """

    def __init__(self, why: str, logs: Path, ends: Mapping[str, Sequence[str]]) -> None:
        self.why, self.logs, self.ends = why, logs, ends

    def __str__(self) -> str:
        lines = [self.why]
        for name, end in self.ends.items():
            lines += [f"The end of {self.logs / name}.log:", *(f"  {line}" for line in end)]
        return "\n".join(lines)


async def wait_until_ready(waiting: dict[str, IsReady], lost: Mapping[str, int]) -> None:
    """Wait until all are ready, or one is lost.

    Args:
        waiting: Conditions by name; those that have become true are removed.
        lost: Whatever ended and stays down.
    """
    while not lost:
        answers = await asyncio.gather(*(is_ready() for is_ready in waiting.values()))
        for name, answer in zip(tuple(waiting), answers, strict=True):
            if answer:
                del waiting[name]
        if not waiting:
            return
        await asyncio.sleep(_POLL_S)


def worker_is_ready(address: str) -> IsReady:
    """Return the condition that a service answers SERVING at ``unix:/path``."""
    path = Path(address.removeprefix("unix:"))

    async def is_ready() -> bool:
        # Much cheaper than to ask in vain, and starting is a busy time.
        if not path.exists():  # noqa: ASYNC240  a local stat
            return False
        return await asyncio.to_thread(_check_health, address)

    return is_ready


def worker_is_listening(address: str) -> IsReady:
    """Return the condition that somebody accepts connections at ``unix:/path``.

    Unlike `worker_is_ready` it leaves this process without threads, so that it may be forked.
    """
    return lambda: probe.is_accepting(address.removeprefix("unix:"))


def _check_health(address: str) -> bool:
    # By then the children have been started, and the import delays none of them.
    from ringback import health  # noqa: PLC0415

    return health.check(address, _HEALTH_TIMEOUT_S)


def envoy_is_ready(ingress: Address) -> IsReady:
    """Return the condition that Envoy and both services answer as they must for a call."""
    return lambda: probe.is_ready(ingress)


def emulator_is_ready(address: Address) -> IsReady:
    """Return the condition that the emulator listens."""
    return lambda: probe.is_listening(address)
