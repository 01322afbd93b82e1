"""The playground as `ringback up` serves it: by Envoy, on the gateway's own origin."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.playground import PAGE, visit
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    """What `ringback up` starts without a configuration."""
    async with Stack(StackOptions(port=0, egress_port=0, admin_port=0, workers=1)) as running:
        yield running


async def test_envoy_serves_the_page_as_it_is(stack: Stack) -> None:
    """Byte for byte, since its policy names hashes, and with headers that keep it to itself."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{stack.url}/playground")
    assert answer.content == PAGE.read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
async def test_a_person_talks_and_hears_an_answer(stack: Stack, model: str) -> None:
    """Paste the key, click, talk: the call connects, sounds, shows what is said, and is hung up."""
    assert stack.demo_key is not None
    async with (
        chromium(ALLOW_MICROPHONE) as browser,
        visit(browser, f"{stack.url}/playground") as person,
    ):
        await person.connect(key=stack.demo_key.reveal(), model=model)
        await person.page.locator("#turns").get_by_text("emulator").first.wait_for()
        assert (await person.text("#call-id")).startswith("rtc_")
        assert "s" in await person.text("#first-audio")
        async with person.page.expect_response("**/hangup") as answered:
            await person.page.locator("#hangup").click()
        assert (await answered.value).status == 200
        await person.reaches("ended")
        assert not [line for line in person.console if "uncaught" in line]


async def test_a_wrong_key_is_explained(stack: Stack) -> None:
    """The gateway's own words reach the person."""
    async with (
        chromium(ALLOW_MICROPHONE) as browser,
        visit(browser, f"{stack.url}/playground") as person,
    ):
        await person.start(key="sk-nobody-knows-this-one", model="gpt-realtime")
        await person.reaches("failed")
        assert "This API key is not known" in await person.text("#problem")
