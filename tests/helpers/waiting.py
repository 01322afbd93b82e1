"""Waiting for what happens by itself."""

import asyncio
from collections.abc import Callable
from typing import Final

# Longer than anything takes that a test waits for.
SOON_S: Final = 20.0


async def until(condition: Callable[[], object], timeout_s: float = SOON_S) -> None:
    """Return once the condition is true.

    Raises:
        TimeoutError: If it does not become true in time.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  files and processes send no events
            await asyncio.sleep(0.01)
