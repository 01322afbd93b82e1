"""Client code as people write it, in a page of another origin, against `ringback up`."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, Request, Response

from helpers.chromium import ALLOW_MICROPHONE, chromium
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack

pytestmark = pytest.mark.browser

# The emulator's ephemeral keys; sealed tokens begin with ek_eyJ.
RAW_EPHEMERAL_KEY: Final = re.compile(r"ek_[0-9a-f]{32}")
CLIENT: Final = """
async ({gateway, key, model}) => {
  const r = await fetch(`${gateway}/v1/realtime/client_secrets`, {
    method: "POST",
    headers: {"Authorization": `Bearer ${key}`, "Content-Type": "application/json"},
    body: JSON.stringify({model}),
  });
  const token = (await r.json()).client_secret.value;
  const pc = new RTCPeerConnection();
  const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
  pc.addTrack(microphone.getTracks()[0], microphone);
  const audio = new Audio();
  pc.ontrack = (event) => { audio.srcObject = event.streams[0]; audio.play(); };
  const dc = pc.createDataChannel("oai-events");
  window.received = [];
  dc.onmessage = (message) => window.received.push(JSON.parse(message.data).type);
  dc.onopen = () => dc.send(JSON.stringify({
    type: "session.update", session: {type: "realtime", instructions: "Be brief."},
  }));
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(`${gateway}/v1/realtime/calls`, {
    method: "POST",
    headers: {"Authorization": `Bearer ${token}`, "Content-Type": "application/sdp"},
    body: pc.localDescription.sdp,
  });
  await pc.setRemoteDescription({type: "answer", sdp: await answer.text()});
  window.pc = pc;
  return {
    token, status: answer.status, location: answer.headers.get("location"),
    requestId: answer.headers.get("x-request-id"),
  };
}
"""
AUDIO_BYTES: Final = """
async () => [...(await pc.getStats()).values()]
  .filter((report) => report.type === "inbound-rtp").map((report) => report.bytesReceived)[0] ?? 0
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """What `ringback up` starts: Envoy, both services and the emulator."""
    options = StackOptions(
        port=0, egress_port=0, admin_port=0, run_dir=tmp_path_factory.mktemp("run")
    )
    async with Stack(options) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all conversations."""
    async with chromium(ALLOW_MICROPHONE) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app_url() -> AsyncIterator[str]:
    """The page of somebody's app: another origin than the gateway's."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>app</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://localhost:{runner.addresses[0][1]}/"
    await runner.cleanup()


class Traffic:
    """All that the browser sent and received."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        # Not the bound methods: Playwright cannot wrap those of a list.
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108
        page.on("response", lambda response: self.responses.append(response))  # noqa: PLW0108

    async def text(self) -> str:
        """Return every URL, header and body, joined."""
        parts = []
        for request in self.requests:
            parts += [request.url, str(await request.all_headers()), request.post_data or ""]
        for response in self.responses:
            parts.append(str(await response.all_headers()))
            if response.request.method != "OPTIONS":
                parts.append(await response.text())
        return "\n".join(parts)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
async def test_a_page_of_another_origin_talks(
    stack: Stack, browser: Browser, app_url: str, model: str
) -> None:
    """The call connects, audio keeps coming, events come back, and no raw key is ever seen."""
    page = await browser.new_page()
    traffic = Traffic(page)
    await page.goto(app_url)
    assert stack.demo_key is not None
    arguments = {"gateway": stack.url, "key": stack.demo_key.reveal(), "model": model}

    result: dict[str, Any] = await page.evaluate(CLIENT, arguments)

    assert result["status"] == 201
    assert result["token"].startswith("ek_eyJ")
    assert result["location"].startswith("/v1/realtime/calls/rtc_")
    assert result["requestId"]
    await page.wait_for_function("pc.connectionState === 'connected'")
    await page.wait_for_function("received.includes('session.updated')")
    counts = []
    for _ in range(4):
        counts.append(await page.evaluate(AUDIO_BYTES))
        await page.wait_for_timeout(1000)
    assert counts == sorted(set(counts)), "audio bytes grow in each of 3 seconds"
    text = await traffic.text()
    assert not RAW_EPHEMERAL_KEY.search(text)
    assert result["token"] in text  # the search sees what it should
    await page.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_every_request_went_through_envoy(stack: Stack) -> None:
    """Envoy's access log has each mint and each call, decided by both services."""
    decided = {"client_secrets": "minted", "upstream": "call"}
    async with asyncio.timeout(15):  # Envoy writes its log in intervals
        while not all(f'"route":"{route}"' in stack.logs("envoy") for route in decided):  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    lines = [json.loads(line) for line in stack.logs("envoy").splitlines() if line[:1] == "{"]
    for route, outcome in decided.items():
        outcomes = {line.get("outcome") for line in lines if line.get("route") == route}
        assert outcomes == {outcome}
