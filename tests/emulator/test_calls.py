"""Real calls: an aiortc client against the emulator on loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from helpers.voiceclient import Recording, VoiceClient

from emulator.ice import IceOptions
from emulator.options import Options
from emulator.script import ANSWERS, GREETING
from emulator.server import Emulator
from emulator.voice import synthesize

OPENAI = "/v1/realtime"
AZURE = "/openai/v1/realtime"
STANDARD = {"Authorization": "Bearer sk-made-up"}


class Backend:
    """What an app's backend does over HTTP."""

    def __init__(self, http: aiohttp.ClientSession, url: str, prefix: str = OPENAI) -> None:
        self.http, self.url, self.prefix = http, url, prefix

    async def mint(self, session: dict[str, Any] | None = None) -> str:
        body = {"session": session or {"type": "realtime", "model": "gpt-realtime"}}
        url = f"{self.url}{self.prefix}/client_secrets"
        async with self.http.post(url, json=body, headers=STANDARD) as response:
            assert response.status == 200
            return str((await response.json())["value"])

    async def call(self, client: VoiceClient, *, key: str | None = None, query: str = "") -> str:
        """Connect a client and return the call's path below the realtime API."""
        headers = {
            "Authorization": f"Bearer {key or await self.mint()}",
            "Content-Type": "application/sdp",
        }
        url = f"{self.url}{self.prefix}/calls{query}"
        async with self.http.post(url, data=await client.offer(), headers=headers) as response:
            assert response.status == 201
            assert response.content_type == "application/sdp"
            await client.accept(await response.text())
            async with asyncio.timeout(10):
                await client.is_connected.wait()
            return response.headers["Location"].removeprefix("/v1/realtime/calls/")

    async def hang_up(self, call_id: str) -> tuple[int, str]:
        url = f"{self.url}{self.prefix}/calls/{call_id}/hangup"
        async with self.http.post(url, headers=STANDARD) as response:
            return response.status, await response.text()

    async def snapshot(self, call_id: str) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/emulator/calls") as response:
            calls = (await response.json())["calls"]
        return next(call for call in calls if call["call_id"] == call_id)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_greeting_is_heard_and_ends_with_usage(http: aiohttp.ClientSession) -> None:
    """A client that only connects hears the emulator speak, reads the words, and gets the usage."""
    async with Emulator() as emulator, VoiceClient() as client:
        backend = Backend(http, emulator.url)
        call_id = await backend.call(client)
        done = await client.wait_for("response.done")
        await client.wait_for("output_audio_buffer.stopped")
        assert client.loudest > 3000
        assert client.frames_heard > 200
        assert done["response"]["status"] == "completed"
        assert done["response"]["output"][0]["content"][0]["transcript"] == GREETING.text
        usage = done["response"]["usage"]
        assert usage["output_token_details"]["audio_tokens"] == 100
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        snapshot = await backend.snapshot(call_id)
        assert snapshot["state"] == "live"
        assert snapshot["channel"] == "oai-events"
        assert snapshot["audio_bytes_received"] > 100_000
