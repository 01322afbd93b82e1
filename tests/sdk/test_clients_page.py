"""The code in docs/clients.md does what the page says."""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from aiohttp import web

from emulator.script import ANSWERS
from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.descriptions import OFFERS
from helpers.programs import Node, run
from helpers.sdkgateway import Provided
from helpers.voiceclient import VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

TEXT: Final = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
# The first line of each block names it.
BLOCKS: Final[dict[str, str]] = dict(
    re.findall(r"```\w+\n(?:#|//) (\S+)\n(.*?)```", TEXT, re.DOTALL)
)
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"].decode()
BUNDLE: Final = "node_modules/@openai/agents-realtime/dist/bundle"
# What a bundler would do.
PAGE: Final = """<!doctype html><title>app</title>
<script type="importmap">
{"imports": {"@openai/agents-realtime": "/bundle/openai-realtime-agents.mjs"}}
</script>
<script type="module" src="/page.mjs"></script>"""


class Examples:
    """Runs the page's programs with the environment that it describes."""

    def __init__(self, node: Node, gateway: Provided) -> None:
        self._node = node
        self._gateway = gateway

    async def run(self, name: str, *, stdin: str = "", **env: str) -> str:
        """Return what a program prints."""
        env["LITELLM_KEY"] = self._gateway.key
        if name.endswith(".py"):
            env["RINGBACK_URL"] = self._gateway.url
            return await run(sys.executable, "-c", BLOCKS[name], stdin=stdin, env=env)
        (self._node.folder / name).write_text(BLOCKS[name], encoding="utf-8")
        return await self._node.run(name, stdin=stdin, RINGBACK_URL=self._node.https, **env)


@pytest.fixture
def examples(node: Node, gateway: Provided) -> Examples:
    """The programs of the page."""
    return Examples(node, gateway)


async def test_every_block_is_run() -> None:
    """No code is on the page that the tests below do not know."""
    assert set(BLOCKS) == {
        *(
            f"{name}.{kind}"
            for name in ("mint", "relay", "beside", "talk")
            for kind in ("py", "mjs")
        ),
        "mint_azure.py",
        "talk_azure.py",
        "page.mjs",
        "transcribe.py",
    }
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("name", ["mint.py", "mint.mjs", "mint_azure.py", "transcribe.py"])
async def test_minted_tokens_open_calls(examples: Examples, gateway: Provided, name: str) -> None:
    """What the program prints is a token that calls."""
    token = (await examples.run(name)).strip()
    async with VoiceClient() as voice:
        await gateway.app.call(voice, key=token)


@pytest.mark.parametrize("name", ["relay.py", "relay.mjs"])
async def test_offers_are_relayed(examples: Examples, name: str) -> None:
    """The offer on stdin brings the call's id and the answer."""
    printed = await examples.run(name, stdin=OFFER)
    assert re.match(r"rtc_\S+\sv=0\r?\n", printed)


@pytest.mark.parametrize("name", ["beside.py", "beside.mjs"])
async def test_calls_are_joined_and_ended(examples: Examples, gateway: Provided, name: str) -> None:
    """The client hears of the new instructions, and then its call is over."""
    async with VoiceClient() as voice:
        call_id = await gateway.call(voice, "azure-realtime")
        assert "session.updated" in await examples.run(name, CALL_ID=call_id)
        updated = (await voice.wait_for("session.updated"))["session"]
        assert updated["instructions"] == "Whisper."
        await voice.is_closed.wait()


@pytest.mark.parametrize("name", ["talk.py", "talk_azure.py", "talk.mjs"])
async def test_conversations_are_held_over_a_socket(examples: Examples, name: str) -> None:
    """The model's words are printed."""
    assert (await examples.run(name)).strip() == ANSWERS[0].text


@pytest_asyncio.fixture(loop_scope="session")
async def app_url(gateway: Provided, node: Node) -> AsyncIterator[str]:
    """The page of an app, with its backend."""

    async def serve_page(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def serve_script(_: web.Request) -> web.Response:
        return web.Response(text=BLOCKS["page.mjs"], content_type="text/javascript")

    async def serve_token(_: web.Request) -> web.Response:
        return web.json_response({"token": await gateway.app.mint(), "gateway": gateway.url})

    app = web.Application()
    app.router.add_get("/", serve_page)
    app.router.add_get("/page.mjs", serve_script)
    app.router.add_get("/token", serve_token)
    app.router.add_static("/bundle", node.folder / BUNDLE)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://localhost:{runner.addresses[0][1]}/"
    await runner.cleanup()


@pytest.mark.browser
async def test_the_page_of_an_app_calls(gateway: Provided, app_url: str) -> None:
    """The agents SDK connects, and the page has the call's id for its backend."""
    async with chromium(ALLOW_MICROPHONE) as browser:
        page = await browser.new_page()
        await page.goto(app_url)
        await page.wait_for_function("document.title.startsWith('rtc_')")
        assert await gateway.app.hang_up(await page.title()) == (200, "")
