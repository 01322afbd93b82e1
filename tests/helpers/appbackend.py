"""What the backend of a voice app does over HTTP, and what its browser does with the answer."""

import asyncio
from typing import Any, Final

import aiohttp

from helpers.voiceclient import VoiceClient

OPENAI: Final = "/v1/realtime"
AZURE: Final = "/openai/v1/realtime"
STANDARD: Final = {"Authorization": "Bearer sk-made-up"}
SESSION: Final = {"type": "realtime", "model": "gpt-realtime"}
_WITHIN_S: Final = 30.0


class AppBackend:
    """One app that speaks to a Realtime API at a URL, with OpenAI's or Azure's path prefix."""

    def __init__(self, http: aiohttp.ClientSession, url: str, prefix: str = OPENAI) -> None:
        self.http = http
        self.url = url
        self.root = url + prefix

    async def mint(self, session: dict[str, Any] | None = None) -> str:
        """Return a fresh ephemeral key."""
        url = f"{self.root}/client_secrets"
        async with self.http.post(
            url, json={"session": session or SESSION}, headers=STANDARD
        ) as response:
            assert response.status == 200
            return str((await response.json())["value"])

    async def connect(self, client: VoiceClient, *, key: str | None = None, query: str = "") -> str:
        """Make a call, wait until both sides are connected, and return its id."""
        call_id = await self.call(client, key=key, query=query)
        async with asyncio.timeout(_WITHIN_S):
            await client.is_connected.wait()
        await self.wait_for_state(call_id, "live")
        return call_id

    async def call(self, client: VoiceClient, *, key: str | None = None, query: str = "") -> str:
        """Make a call and return its id."""
        call_id, answer = await self.offer(client, key=key, query=query)
        await client.accept(answer)
        return call_id

    async def offer(
        self, client: VoiceClient, *, key: str | None = None, query: str = ""
    ) -> tuple[str, str]:
        """Send an offer, and return the call's id and the answer, which the client has not seen."""
        headers = {
            "Authorization": f"Bearer {key or await self.mint()}",
            "Content-Type": "application/sdp",
        }
        offer = await client.offer()
        async with self.http.post(
            f"{self.root}/calls{query}", data=offer, headers=headers
        ) as response:
            assert response.status == 201
            assert response.content_type == "application/sdp"
            return response.headers["Location"].rpartition("/")[2], await response.text()

    async def hang_up(self, call_id: str) -> tuple[int, str]:
        """Return the status and the body of the answer to a hangup."""
        url = f"{self.root}/calls/{call_id}/hangup"
        async with self.http.post(url, headers=STANDARD) as response:
            return response.status, await response.text()

    def listen_in(
        self, call_id: str, headers: dict[str, str] | None = None
    ) -> Any:  # aiohttp names the type only in private
        """Return the context manager of a sideband WebSocket."""
        url = f"{self.root}?call_id={call_id}"
        return self.http.ws_connect(url, headers=headers or STANDARD)

    async def wait_for_state(self, call_id: str, state: str) -> dict[str, Any]:
        """Return the emulator's view of a call once it is in a state.

        Raises:
            TimeoutError: If it is not in time.
        """
        async with asyncio.timeout(_WITHIN_S):
            while True:
                snapshot = await self.snapshot(call_id)
                if snapshot["state"] == state:
                    return snapshot
                await asyncio.sleep(0.02)

    async def snapshot(self, call_id: str) -> dict[str, Any]:
        """Return the emulator's view of a call."""
        async with self.http.get(f"{self.url}/emulator/calls") as response:
            calls = (await response.json())["calls"]
        found: list[dict[str, Any]] = [call for call in calls if call["call_id"] == call_id]
        return found[0]
