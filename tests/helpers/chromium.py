"""A real Chromium with a fake microphone, for WebRTC on loopback."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from playwright.async_api import Browser, async_playwright

ALLOW_MICROPHONE: Final = "--use-fake-ui-for-media-stream"
DENY_MICROPHONE: Final = "--use-fake-ui-for-media-stream=deny"

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    # As root, without a screen, and without a word to anybody outside.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # WebRTC with a beeping microphone and a peer on 127.0.0.1.
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)


def find_chromium() -> str:
    """Return the browser's path: what CHROMIUM names, else the first one on PATH.

    Without one the test is skipped, or fails in CI.
    """
    names = (os.environ.get("CHROMIUM", ""), *_NAMES)
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict(f"needs CHROMIUM or one of {', '.join(_NAMES)} on PATH")
    return found


@asynccontextmanager
async def chromium(*flags: str) -> AsyncIterator[Browser]:
    """Run a Chromium.

    Args:
        flags: `ALLOW_MICROPHONE`, `DENY_MICROPHONE` or others.
    """
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), args=[*_FLAGS, *flags]
        )
        try:
            yield browser
        finally:
            await browser.close()
