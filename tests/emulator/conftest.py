"""Fixtures of the emulator's tests."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest


@pytest.fixture
async def clean_loop() -> AsyncIterator[None]:
    """Fail the test if it leaves tasks behind, or an exception that nobody has seen."""
    loop = asyncio.get_running_loop()
    unseen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    before = asyncio.all_tasks()
    yield
    # The last callbacks of what has just been closed take longer on a busy machine.
    for _ in range(20):
        await asyncio.sleep(0.05)
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            break
    gc.collect()
    assert not unseen
    assert not left


@pytest.fixture
async def http(clean_loop: None) -> AsyncIterator[aiohttp.ClientSession]:  # noqa: ARG001 - order
    """An HTTP client."""
    async with aiohttp.ClientSession() as session:
        yield session
