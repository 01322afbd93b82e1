import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from playwright.async_api import Browser, expect

from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.playground import CALLS, KEY, MINT, Gateway, refusal, visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium that grants its fake microphone."""
    async with chromium(ALLOW_MICROPHONE) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    """The page's origin."""
    async with Gateway() as running:
        yield running


# --- The call -------------------------------------------------------------------------------------


async def test_a_person_talks_and_hears_an_answer(browser: Browser, gateway: Gateway) -> None:
    """A click leads to audio, events, a transcript and usage; hanging up, back to the start."""
    async with visit(browser, gateway.url) as person:
        page = person.page
        await expect(page.locator("#state")).to_have_text("Ready")
        await person.connect(model="gpt-realtime")

        await expect(page.locator("#first-audio")).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
        for step in await page.locator("#steps .time").all():
            await expect(step).to_have_text(re.compile(r"^\d+(\.\d+)? m?s$"))
        await expect(page.locator("#transport")).to_have_text(
            "ICE connected · DTLS connected · data channel open"
        )
        await expect(page.locator("#path")).to_contain_text("UDP")
        await expect(page.locator("#call-id")).to_have_text(re.compile("^rtc_"))
        await expect(page.locator("#turns .turn").first).to_contain_text("emulator")
        await expect(page.locator("#usage [data-way=output] td").last).not_to_have_text("0")
        types = await page.locator("#event-list .type").all_inner_texts()
        assert {"session.created", "session.update", "session.updated"} <= set(types)

        await page.get_by_role("button", name="Hang up").click()
        await person.reaches("ended")
        await expect(page.locator("#state")).to_have_text(
            re.compile(r"^Ended after 0:\d\d\. Ready for the next call\.$")
        )
        await expect(page.get_by_role("button", name="Start talking")).to_be_focused()
        await person.connect(model="gpt-realtime")
        assert person.console == []


async def test_requests_are_those_of_the_api(browser: Browser, gateway: Gateway) -> None:
    """The key goes to client_secrets alone, and the offer to calls as raw SDP with the token."""
    async with visit(browser, gateway.url) as person:
        await person.connect(model="gpt-realtime")
    mint, call = gateway.requests[:2]
    assert mint.path == MINT
    assert mint.headers["authorization"] == f"Bearer {KEY}"
    assert mint.headers["content-type"] == "application/json"
    assert json.loads(mint.body) == {"session": {"type": "realtime", "model": "gpt-realtime"}}
    assert call.path == CALLS
    assert call.headers["authorization"].startswith("Bearer ek_")
    assert call.headers["content-type"] == "application/sdp"
    assert call.body.startswith("v=0\r\n")
    assert call.body.endswith("\r\n")
    assert KEY not in str(call)


async def test_an_empty_model_is_left_to_the_gateway(browser: Browser, gateway: Gateway) -> None:
    """Without a model the session names none: the gateway takes the only one it has."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
    assert json.loads(gateway.requests[0].body) == {"session": {"type": "realtime"}}


async def test_options_arrive_in_session_update(browser: Browser, gateway: Gateway) -> None:
    """Instructions, voice and transcription model are sent once the data channel is open."""
    async with visit(browser, gateway.url) as person:
        page = person.page
        await page.get_by_text("Options").click()
        await page.get_by_label("Instructions").fill("Speak slowly.")
        await page.get_by_label("Voice", exact=True).fill("marin")
        await page.get_by_label("Transcribe my voice with").fill("whisper-1")
        await person.connect()
        row = page.locator("#event-list li").filter(has_text="session.update").first
        await row.locator("summary").click()
        assert json.loads(await row.locator("pre").inner_text()) == {
            "type": "session.update",
            "session": {
                "type": "realtime",
                "instructions": "Speak slowly.",
                "audio": {
                    "input": {"transcription": {"model": "whisper-1"}},
                    "output": {"voice": "marin"},
                },
            },
        }


async def test_a_typed_message_gets_an_answer(browser: Browser, gateway: Gateway) -> None:
    """A typed message is in the transcript once, and the model answers it."""
    async with visit(browser, gateway.url) as person:
        page = person.page
        await person.connect()
        await expect(page.locator("#event-list .type", has_text="response.done")).to_have_count(1)
        await page.get_by_label("Type instead of speaking").fill("What is <b>Ringback</b>?")
        await page.keyboard.press("Enter")
        await expect(page.locator(".turn.you")).to_have_text(["YouWhat is <b>Ringback</b>?"])
        await expect(page.locator("#event-list .type", has_text="response.done")).to_have_count(2)
        assert await page.locator(".turn:not(.you)").count() == 2


async def test_mute_silences_the_microphone(browser: Browser, gateway: Gateway) -> None:
    """The level of the microphone moves until it is muted, and again after."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        assert await person.loudest("#level-you") > -40
        mute = person.page.get_by_role("button", name="Mute")
        await mute.click()
        await expect(mute).to_have_attribute("aria-pressed", "true")
        async with asyncio.timeout(15):
            # What was on its way is still shown.
            while await person.loudest("#level-you") > -60:
                pass
        await mute.click()
        assert await person.loudest("#level-you") > -40


async def test_the_call_id_can_be_copied(browser: Browser, gateway: Gateway) -> None:
    """The button puts the whole id on the clipboard, and says so."""
    permissions = ["clipboard-read", "clipboard-write"]
    async with visit(browser, gateway.url, permissions=permissions) as person:
        await person.connect()
        await person.page.get_by_role("button", name="Copy Call id").click()
        await expect(person.page.get_by_role("button", name="Copied Call id")).to_be_visible()
        copied = await person.page.evaluate("navigator.clipboard.readText()")
        assert copied == await person.text("#call-id")


async def test_hanging_up_ends_the_call_at_the_provider(browser: Browser, gateway: Gateway) -> None:
    """The token that made the call asks for its end, with the id from Location."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        call_id = await person.text("#call-id")
        async with person.page.expect_response(f"**{CALLS}/*/hangup") as answered:
            await person.page.locator("#hangup").click()
        assert (await answered.value).status == 200
        await person.reaches("ended")
    call, hangup = gateway.requests[1:]
    assert hangup.path == f"{CALLS}/{call_id}/hangup"
    assert hangup.headers["authorization"] == call.headers["authorization"]
    assert hangup.body == ""


async def test_hanging_up_needs_nobodys_consent(browser: Browser, gateway: Gateway) -> None:
    """Whatever the gateway says, the page closes its side."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        gateway.interferences[f"{CALLS}/{await person.text('#call-id')}/hangup"] = refusal(503)
        await person.page.locator("#hangup").click()
        await person.reaches("ended")
        assert await person.text("#problem") == ""


async def test_a_call_that_the_other_side_ended_is_not_ended_again(
    browser: Browser, gateway: Gateway
) -> None:
    """There is nothing left to ask for."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        await gateway.hang_up(await person.text("#call-id"))
        await person.reaches("ended")
    assert [request.path for request in gateway.requests] == [MINT, CALLS]


async def test_a_call_can_be_cancelled_before_it_stands(browser: Browser, gateway: Gateway) -> None:
    """Cancel ends the attempt at once, and the answer that comes later changes nothing."""

    async def answer_late(request: web.Request, handler: Handler) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await handler(request)

    gateway.interferences[MINT] = answer_late
    async with visit(browser, gateway.url) as person:
        await person.start()
        await person.reaches("minting")
        await person.page.get_by_role("button", name="Cancel").click()
        await person.reaches("ended")
        await person.page.wait_for_timeout(700)
        await person.reaches("ended")
    assert [seen.path for seen in gateway.requests] == [MINT]
