from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.playground import Gateway, Visit, visit

NONE: Final = "\N{EN DASH}"
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


@pytest_asyncio.fixture(loop_scope="module")
async def person(browser: Browser, gateway: Gateway) -> AsyncIterator[Visit]:
    """Someone in a call in which nothing happens by itself."""
    async with visit(browser, gateway.url) as visitor:
        await visitor.page.get_by_text("Options").click()
        await visitor.page.get_by_label("The model speaks first").uncheck()
        await visitor.connect()
        await expect(visitor.page.locator("#event-list li")).to_have_count(3)
        yield visitor


def transcription(kind: str, item_id: str, **more: str) -> dict[str, Any]:
    """Return an event about the transcript of what a person said."""
    name = f"conversation.item.input_audio_transcription.{kind}"
    return {"type": name, "item_id": item_id, "content_index": 0, **more}


def spoken(item_id: str) -> dict[str, Any]:
    """Return the event that adds what a person said to the conversation."""
    item = {"id": item_id, "role": "user", "content": [{"type": "input_audio"}]}
    return {"type": "conversation.item.added", "item": item}


def reply(kind: str, item_id: str, **more: str) -> dict[str, Any]:
    """Return an event about what the model says or writes."""
    return {"type": f"response.{kind}", "item_id": item_id, "content_index": 0, **more}


# --- Transcript -----------------------------------------------------------------------------------


async def test_what_was_said_keeps_its_place(person: Visit) -> None:
    """A person's words stand before the reply, though their transcript comes after it."""
    turns = person.page.locator(".turn p")
    await person.tell(
        spoken("a"),
        reply("output_audio_transcript.delta", "b", delta="Good "),
        reply("output_audio_transcript.delta", "b", delta="mor"),
    )
    await expect(turns).to_have_text(["…", "Good mor"])
    await person.tell(
        reply("output_audio_transcript.done", "b", transcript="Good morning."),
        transcription("completed", "a", transcript=" Hello. "),
    )
    await expect(turns).to_have_text(["Hello.", "Good morning."])
    await expect(person.page.locator(".turn .who")).to_have_text(["You", "Model"])


async def test_text_replies_are_shown(person: Visit) -> None:
    """Replies of a text session are in the transcript too."""
    await person.tell(
        reply("output_text.delta", "a", delta="Only "),
        reply("output_text.delta", "a", delta="words"),
    )
    await expect(person.page.locator(".turn p")).to_have_text(["Only words"])
    await person.tell(reply("output_text.done", "a", text="Only words."))
    await expect(person.page.locator(".turn p")).to_have_text(["Only words."])


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        # Realistic
        pytest.param([transcription("delta", "a", delta="He")], "He", id="delta"),
        pytest.param([transcription("completed", "a", transcript="\n")], "(nothing un", id="empty"),
        pytest.param([transcription("failed", "a")], "(could not be transcribed)", id="failed"),
        # Synthetic
        pytest.param([transcription("delta", "a")], "", id="delta-without-text"),
    ],
)
async def test_transcripts_of_speech_come_in_many_ways(
    person: Visit, events: list[dict[str, Any]], shown: str
) -> None:
    """Deltas, empty transcripts and failures replace the ellipsis."""
    await person.tell(spoken("a"), *events)
    await expect(person.page.locator(".turn.you p")).to_contain_text(shown)
    await expect(person.page.locator(".turn.you p")).not_to_contain_text("…")


async def test_a_message_waits_for_the_response_under_way(person: Visit) -> None:
    """A typed message is sent at once, but a response asked for only when the last is done."""
    await person.tell({"type": "response.created", "response": {}})
    await person.page.get_by_label("Type instead of speaking").fill("And then?")
    await person.page.get_by_role("button", name="Send").click()
    sent = person.page.locator("#event-list .sent .type")
    await expect(sent).to_have_text(["session.update", "conversation.item.create"])
    await person.tell({"type": "response.done", "response": {"status": "completed"}})
    await expect(sent).to_have_text(
        ["session.update", "conversation.item.create", "response.create"]
    )


async def test_usage_adds_up(person: Visit) -> None:
    """Tokens of every response are summed; a response without usage counts nothing."""
    usage = {
        "input_tokens": 132,
        "output_tokens": 1121,
        "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64},
        "output_token_details": {"text_tokens": 30, "audio_tokens": 1091},
    }
    done = {"type": "response.done", "response": {"status": "completed", "usage": usage}}
    empty = {"type": "response.done", "response": {"status": "cancelled", "usage": None}}
    await person.tell(done, empty, done)
    cells = person.page.locator("#usage td")
    await expect(cells).to_have_text(["238", "26", "128", "264", "60", "2,182", NONE, "2,242"])


# --- List of events -------------------------------------------------------------------------------


async def test_an_event_opens_to_its_json(person: Visit) -> None:
    """Each row shows time, direction and type, and opens to the whole event."""
    await person.tell({"type": "rate_limits.updated", "rate_limits": [{"name": "tokens"}]})
    row = person.page.locator("#event-list li").last
    await expect(row.locator(".way")).to_have_text("received")
    await expect(row.locator(".time")).to_contain_text(" s")
    await expect(row.locator("pre")).to_have_count(0)
    await row.locator("summary").focus()
    await person.page.keyboard.press("Enter")
    await expect(row.locator("pre")).to_contain_text('"name": "tokens"')
    await person.page.keyboard.press("Enter")
    await person.page.keyboard.press("Enter")
    await expect(row.locator("pre")).to_have_count(1)


async def test_the_list_keeps_the_last_500(person: Visit) -> None:
    """Older events leave the list."""
    await person.tell(*({"type": f"odd.{number}"} for number in range(600)))
    types = person.page.locator("#event-list .type")
    await expect(types).to_have_count(500)
    await expect(types.first).to_have_text("odd.100")
    await expect(person.page.locator("#event-count")).to_have_text("500")


async def test_events_are_filtered_by_type(person: Visit) -> None:
    """The filter and the switch for deltas hide rows, those that come later too."""
    page = person.page
    shown = page.locator("#event-list li:visible .type")
    await page.get_by_label("Filter events by type").fill("output_text")
    await person.tell(reply("output_text.delta", "a"), {"type": "response.created"})
    await expect(shown).to_have_text(["response.output_text.delta"])
    await page.get_by_label("Hide deltas").check()
    await expect(shown).to_have_count(0)
    await person.tell(reply("output_text.delta", "a"), reply("output_text.done", "a"))
    await expect(shown).to_have_text(["response.output_text.done"])
    await page.get_by_label("Filter events by type").fill("")
    await page.get_by_label("Hide deltas").uncheck()
    await expect(shown).to_have_count(7)


async def test_a_paused_list_stands_still(person: Visit) -> None:
    """While paused, events wait and are counted; then they join the list in their order."""
    page = person.page
    pause = page.get_by_role("button", name="Pause")
    await pause.click()
    await person.tell({"type": "odd.1"}, {"type": "odd.2"})
    await expect(page.locator("#event-list li")).to_have_count(3)
    await expect(page.locator("#event-count")).to_have_text("3, 2 waiting")
    await expect(pause).to_have_attribute("aria-pressed", "true")
    await pause.click()
    await expect(page.locator("#event-list .type").last).to_have_text("odd.2")
    await expect(page.locator("#event-count")).to_have_text("5")


# --- Ends and beginnings --------------------------------------------------------------------------


async def test_the_provider_can_end_the_call(person: Visit, gateway: Gateway) -> None:
    """If the provider hangs up the page says so and is ready for the next call."""
    await gateway.hang_up(await person.text("#call-id"))
    await person.reaches("ended")
    assert "The other side ended the call after 0:0" in await person.text("#state")
    await expect(person.page.get_by_label("Type instead of speaking")).to_be_disabled()


async def test_a_new_call_begins_with_a_clean_page(person: Visit) -> None:
    """Transcript, events, usage and problems of the last call are gone."""
    await person.tell({"type": "error", "error": {"message": "Odd."}}, spoken("a"))
    await person.page.get_by_role("button", name="Hang up").click()
    await expect(person.page.locator(".turn")).to_have_count(1)
    await person.connect()
    await expect(person.page.locator(".turn")).to_have_count(0)
    await expect(person.page.locator("#note")).to_be_empty()
    await expect(person.page.locator("#event-list .type")).to_have_text(
        ["session.update", "session.created", "session.updated"]
    )


async def test_models_that_worked_are_offered_again(browser: Browser, gateway: Gateway) -> None:
    """The last models that led to a call are presets, the newest first, also after a reload."""
    async with visit(browser, gateway.url) as person:
        presets = person.page.locator("#models option")
        await expect(presets).to_have_count(1)
        for model in ("gpt-realtime", "gpt-realtime-mini"):
            await person.connect(model=model)
            await person.page.get_by_role("button", name="Hang up").click()
        await person.page.reload()
        values = await presets.evaluate_all("options => options.map(option => option.value)")
        assert values == ["gpt-realtime-mini", "gpt-realtime"]
