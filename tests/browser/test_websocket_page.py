from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from helpers.chromium import chromium
from helpers.gateway import Gateway
from helpers.gatewayfiles import KEY, OPENAI_KEY, Files, openai_entry
from helpers.recording import RecordingUpstream
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

# Opens a WebSocket, says hello, and tells what came of it.
CONVERSE = """([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  const said = [];
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => { said.push(event.data); socket.close(4001, "enough"); };
  socket.onclose = (event) => resolve([socket.protocol, said, event.code]);
})"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Give a gateway whose upstream echoes."""
    files = Files(tmp_path_factory.mktemp("gateway"))
    async with RecordingUpstream() as upstream:
        files.write_config([openai_entry("voice", upstream.url())])
        files.write_keys()
        files.write_settings()
        async with Stack(files.options()) as stack:
            yield Gateway(stack, files, upstream, upstream)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def page() -> AsyncIterator[Page]:
    """Give a page."""
    async with chromium() as browser:
        yield await browser.new_page()


async def converse(gateway: Gateway, page: Page, *protocols: str) -> Any:
    """Let a page open a WebSocket."""
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?model=voice"
    return await page.evaluate(CONVERSE, [url, protocols])


@pytest.mark.parametrize("credential", ["key", "token"])
async def test_page_converses(gateway: Gateway, page: Page, credential: str) -> None:
    """A browser accepts the subprotocol that it is answered with, and gets its echo."""
    gateway.reset()
    shown = KEY if credential == "key" else gateway.seal()
    await page.goto(f"{gateway.stack.url}/healthz")
    protocols = ["realtime", f"openai-insecure-api-key.{shown}", "openai-beta.realtime-v1"]
    assert await converse(gateway, page, *protocols) == ["realtime", ["hello"], 4001]
    (request,) = gateway.openai.received
    upstream = OPENAI_KEY if credential == "key" else "ek_upstream_made_by_a_test"
    assert request.header("authorization") == f"Bearer {upstream}"
    assert not {"origin", "cookie", "sec-websocket-protocol"} & request.names


async def test_page_of_another_origin_does_not(gateway: Gateway, page: Page) -> None:
    """A page whose origin is not allowed gets no WebSocket, with a good key or without."""
    gateway.reset()
    await page.goto("data:text/html,elsewhere")
    protocols = ["realtime", f"openai-insecure-api-key.{KEY}"]
    assert await converse(gateway, page, *protocols) == ["", [], 1006]
    assert gateway.received == []
