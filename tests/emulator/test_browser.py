"""A page in a real Chromium calls the emulator directly, from another origin."""

from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Page

from emulator.server import Emulator
from helpers.appbackend import OPENAI, SESSION, AppBackend
from helpers.chromium import ALLOW_MICROPHONE, chromium

# What an app's page does; no name in it is the emulator's.
TALK: Final = """
async ({mint, calls, label, session}) => {
  const minted = await fetch(mint, {
    method: "POST",
    headers: {"Authorization": "Bearer sk-made-up", "Content-Type": "application/json"},
    body: JSON.stringify({session}),
  });
  const key = (await minted.json()).value;
  const connection = new RTCPeerConnection();
  const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
  connection.addTrack(microphone.getTracks()[0], microphone);
  const channel = connection.createDataChannel(label);
  window.seen = [];
  channel.onmessage = (message) => window.seen.push(JSON.parse(message.data));
  channel.onopen = () => channel.send(JSON.stringify({
    type: "session.update", session: {type: "realtime", instructions: "Be brief."},
  }));
  connection.ontrack = (event) => {
    const audio = new Audio();
    audio.srcObject = event.streams[0];
    audio.play();
  };
  await connection.setLocalDescription(await connection.createOffer());
  const answered = await fetch(calls, {
    method: "POST",
    headers: {"Authorization": `Bearer ${key}`, "Content-Type": "application/sdp"},
    body: connection.localDescription.sdp,
  });
  await connection.setRemoteDescription({type: "answer", sdp: await answered.text()});
  window.connection = connection;
  window.channel = channel;
  return {status: answered.status, location: answered.headers.get("Location")};
}
"""
BYTES: Final = """
async () => {
  for (const report of (await window.connection.getStats()).values())
    if (report.type === "inbound-rtp") return [report.bytesReceived, report.totalAudioEnergy];
  return [0, 0];
}
"""


@pytest.fixture
async def page_url(clean_loop: None) -> AsyncIterator[str]:  # noqa: ARG001 - order
    """The address of an empty page."""

    async def empty(_: web.Request) -> web.Response:
        """Answer with the page."""
        return web.Response(text="<!doctype html><title>talk</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/"
    await runner.cleanup()


@pytest.fixture
async def page(page_url: str) -> AsyncIterator[Page]:
    """That page in a Chromium with a fake microphone."""
    async with chromium(ALLOW_MICROPHONE) as browser:
        page = await browser.new_page()
        await page.goto(page_url)
        yield page


@pytest.mark.browser
@pytest.mark.parametrize(
    ("prefix", "label", "model"),
    [
        pytest.param("/v1/realtime", "oai-events", "gpt-realtime", id="openai"),
        pytest.param("/openai/v1/realtime", "realtime-channel", "my-deployment", id="azure"),
    ],
)
async def test_a_page_talks_to_the_emulator(
    page: Page, prefix: str, label: str, model: str
) -> None:
    """A page connects, its data channel opens, events come back, and audio keeps arriving."""
    async with Emulator() as emulator:
        arguments: dict[str, Any] = {
            "mint": f"{emulator.url}{prefix}/client_secrets",
            "calls": f"{emulator.url}{prefix}/calls",
            "label": label,
            "session": {"type": "realtime", "model": model},
        }
        answered = await page.evaluate(TALK, arguments)
        assert answered["status"] == 201
        assert answered["location"].startswith("/v1/realtime/calls/rtc_u0_")
        await page.wait_for_function("window.connection.connectionState === 'connected'")
        await page.wait_for_function("window.seen.some((e) => e.type === 'session.updated')")
        await page.wait_for_function("window.seen.some((e) => e.type === 'response.done')")
        first, _ = await page.evaluate(BYTES)
        await page.wait_for_timeout(1500)
        second, energy = await page.evaluate(BYTES)
        assert second > first > 0
        assert energy > 0.001
        kinds = await page.evaluate("window.seen.map((e) => e.type)")
        assert kinds[0] == "session.created"


@pytest.mark.browser
async def test_a_page_sees_a_hangup_at_once(page: Page) -> None:
    """A hangup closes the data channel and the DTLS transport below it.

    That takes 20 ms, on a machine that has nothing else to do. Chromium's connectionState follows
    seconds later, when ICE finds nobody there.
    """
    async with Emulator() as emulator, aiohttp.ClientSession() as http:
        root = f"{emulator.url}{OPENAI}"
        arguments: dict[str, Any] = {
            "mint": f"{root}/client_secrets",
            "calls": f"{root}/calls",
            "label": "oai-events",
            "session": SESSION,
        }
        answered = await page.evaluate(TALK, arguments)
        await page.wait_for_function("window.seen.some((e) => e.type === 'session.updated')")
        call_id = answered["location"].rpartition("/")[2]
        assert await AppBackend(http, emulator.url).hang_up(call_id) == (200, "")
        states = "[window.channel.readyState, window.connection.sctp.transport.state]"
        await page.wait_for_function(f"{states}.every((s) => s === 'closed')", timeout=3000)
