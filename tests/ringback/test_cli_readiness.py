import asyncio
from pathlib import Path

import pytest

from ringback.cli.readiness import IsReady, NotReadyError, wait_until_ready, worker_is_ready


class After:
    """Ready when it has been asked so many times."""

    def __init__(self, count: int) -> None:
        self.left = count

    async def __call__(self) -> bool:
        """Answer one question."""
        self.left -= 1
        return self.left <= 0


async def test_each_is_asked_until_it_is_ready() -> None:
    """Who is ready is not asked again, and the wait ends with the last one."""
    quick, slow = After(1), After(4)

    await asyncio.wait_for(wait_until_ready({"quick": quick, "slow": slow}, {}), 5)

    assert (quick.left, slow.left) == (0, 0)


async def test_those_that_wait_are_known_at_any_time() -> None:
    """When the time is up, what the caller gave holds those that are not ready."""
    waiting: dict[str, IsReady] = {"quick": After(1), "never": After(10**9)}

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait_until_ready(waiting, {}), 0.1)

    assert list(waiting) == ["never"]


async def test_a_loss_ends_the_wait() -> None:
    """Nobody waits for what has ended; the caller looks at who was lost."""
    lost: dict[str, int] = {}
    wait = asyncio.create_task(wait_until_ready({"never": After(10**9)}, lost))
    await asyncio.sleep(0.05)
    assert not wait.done()

    lost["never"] = 2

    await asyncio.wait_for(wait, 5)


async def test_a_worker_without_a_socket_is_not_ready(tmp_path: Path) -> None:
    """Before the socket exists, and while nobody serves there, the worker is not ready."""
    is_ready = worker_is_ready(f"unix:{tmp_path}/extauthz-0.sock")

    assert not await is_ready()
    (tmp_path / "extauthz-0.sock").touch()
    assert not await is_ready()


def test_the_error_shows_the_end_of_each_log() -> None:
    """Who reads the terminal sees why, and where to find the rest."""
    error = NotReadyError(
        "Not ready within 30 s: envoy, extauthz-1.",
        Path("/run/logs"),
        {"envoy": ["one", "two"], "extauthz-1": []},
    )

    assert str(error).splitlines() == [
        "Not ready within 30 s: envoy, extauthz-1.",
        "The end of /run/logs/envoy.log:",
        "  one",
        "  two",
        "The end of /run/logs/extauthz-1.log:",
    ]
