"""@openai/agents-realtime as it is published, in a page of another origin, through the gateway."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page

from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.npm import install
from helpers.sdkgateway import Provided

pytestmark = [
    pytest.mark.browser,
    pytest.mark.dataplane,
    pytest.mark.asyncio(loop_scope="session"),
]

BUNDLE: Final = "node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.umd.js"
PAGE: Final = '<!doctype html><title>app</title><script src="/agents.js"></script>'
CONNECT: Final = """
async ({gateway, token}) => {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebRTC } = OpenAIAgentsRealtime;
  const transport = window.transport = new OpenAIRealtimeWebRTC({
    baseUrl: `${gateway}/v1/realtime/calls`,
  });
  const agent = new RealtimeAgent({ name: "app", instructions: "Be brief." });
  const session = new RealtimeSession(agent, { transport });
  window.received = [];
  session.on("transport_event", (event) => received.push(event.type));
  try {
    await session.connect({ apiKey: token });
  } catch (error) {
    return { error: error.message };
  }
  window.peer = transport.connectionState.peerConnection;
  return { callId: transport.callId, status: transport.status };
}
"""
HANG_UP: Final = """
async ({url, token}) => (await fetch(url, {
  method: "POST", headers: { Authorization: `Bearer ${token}` },
})).status
"""
CONNECT_SOCKET: Final = """
async ({url, token}) => {
  const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebSocket } = OpenAIAgentsRealtime;
  const transport = new OpenAIRealtimeWebSocket({ url });
  const session = new RealtimeSession(new RealtimeAgent({ name: "app" }), { transport });
  const done = new Promise((resolve) => session.on("transport_event", (event) => {
    if (event.type === "response.done") resolve(event.response.status);
  }));
  await session.connect({ apiKey: token });
  session.sendMessage("Is anybody there?");
  const status = await done;
  session.close();
  return status;
}
"""
HEARD: Final = """
async () => [...(await peer.getStats()).values()].some((report) =>
  report.type === "inbound-rtp" && report.totalAudioEnergy > 0.001)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(pytestconfig: pytest.Config) -> AsyncIterator[Page]:
    """A page with the SDK's own bundle, in a Chromium with a microphone."""
    bundle = install(Path(__file__).parent / "node", pytestconfig.cache) / BUNDLE

    async def serve_page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def serve_bundle(_: web.Request) -> web.FileResponse:
        return web.FileResponse(bundle)

    app = web.Application()
    app.router.add_get("/", serve_page)
    app.router.add_get("/agents.js", serve_bundle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with chromium(ALLOW_MICROPHONE) as browser:
        page = await browser.new_page()
        await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
        yield page
    await runner.cleanup()


@pytest.mark.parametrize(
    ("model", "by_page"),
    [
        pytest.param("gpt-realtime", False, id="openai-backend-hangs-up"),
        pytest.param("azure-realtime", True, id="azure-page-hangs-up"),
    ],
)
async def test_a_page_talks_until_somebody_hangs_up(
    gateway: Provided, page: Page, model: str, *, by_page: bool
) -> None:
    """connect() settles, a voice is heard, callId is there, and hangup with it ends the call."""
    token = await gateway.app.mint({"type": "realtime", "model": model})
    connected: dict[str, Any] = await page.evaluate(
        CONNECT, {"gateway": gateway.url, "token": token}
    )
    assert connected["status"] == "connected", connected
    assert connected["callId"].startswith("rtc_")
    assert "session.updated" in await page.evaluate("received")
    await page.wait_for_function(HEARD)

    if by_page:
        url = f"{gateway.url}/v1/realtime/calls/{connected['callId']}/hangup"
        assert await page.evaluate(HANG_UP, {"url": url, "token": token}) == 200
    else:
        assert await gateway.app.hang_up(connected["callId"]) == (200, "")

    await page.wait_for_function("['closed', 'failed'].includes(peer.connectionState)")
    await page.wait_for_function("transport.status === 'disconnected'")


async def test_a_page_talks_over_a_websocket(gateway: Provided, page: Page) -> None:
    """A browser shows the token in the subprotocol: it has no other way."""
    token = await gateway.app.mint({"type": "realtime", "model": "azure-realtime"})
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime"
    assert await page.evaluate(CONNECT_SOCKET, {"url": url, "token": token}) == "completed"


async def test_a_page_reads_why_it_may_not_call(gateway: Provided, page: Page) -> None:
    """The SDK's error has the gateway's words: CORS covers refusals too."""
    refused = await page.evaluate(CONNECT, {"gateway": gateway.url, "token": "ek_of-nobody"})
    assert "Realtime call request failed with status 401" in refused["error"]
    assert "token" in refused["error"]
