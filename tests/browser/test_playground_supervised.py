"""What the page shows of a call that the gateway supervises."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from helpers.chromium import chromium
from helpers.playground import CALLS, Gateway, refusal, visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    """The page's origin."""
    async with Gateway() as running:
        yield running


async def test_cost_and_time_left_are_shown(browser: Browser, gateway: Gateway) -> None:
    """They change as the gateway tells, and the time counts down by itself."""
    async with visit(browser, gateway.url) as person:
        await person.without_microphone()
        await person.connect()
        await expect(person.page.locator("#cost")).to_have_text("$0.0000")
        await expect(person.page.locator("#left")).to_have_text(re.compile(r"^(10:00|9:5\d)$"))
        gateway.seen = {"cost": 0.0123, "left": {"duration_s": 29, "idle_s": None, "cost": 0.0877}}
        await expect(person.page.locator("#cost")).to_have_text("$0.0123 of $0.1000")
        await expect(person.page.locator("#left.soon")).to_have_text(re.compile(r"^0:2\d$"))
        gateway.seen["left"] = {"duration_s": 29, "idle_s": 9, "cost": None}
        await expect(person.page.locator("#left")).to_have_text(
            re.compile(r"^0:0\d unless somebody speaks$")
        )
        token = gateway.requests[1].headers["authorization"]
        assert {look.headers["authorization"] for look in gateway.looks} == {token}
        call_id = await person.text("#call-id")
        assert {look.path for look in gateway.looks} == {f"{CALLS}/{call_id}"}
        assert person.console == []


async def test_why_a_call_ended_is_said(browser: Browser, gateway: Gateway) -> None:
    """As soon as the gateway knows it, and what the call cost in the end."""
    async with visit(browser, gateway.url) as person:
        await person.without_microphone()
        await person.connect()
        await gateway.hang_up(await person.text("#call-id"))
        await person.reaches("ended")
        await expect(person.page.locator("#state")).to_contain_text("The other side ended the call")
        gateway.seen = {"state": "ending", "reason": "max_duration", "cost": 0.01}
        note = person.page.locator("#note")
        await expect(note).to_contain_text("This call has lasted as long as a call may")
        await expect(note).to_contain_text("Reason max_duration")
        await expect(person.page.locator("#state")).to_contain_text("The gateway ended the call")
        gateway.seen |= {"state": "ended", "cost": 0.02}
        await expect(person.page.locator("#cost")).to_have_text("$0.0200")
        await expect(person.page.locator("#left")).not_to_contain_text(":")


async def test_a_call_that_a_person_ends_needs_no_explanation(
    browser: Browser, gateway: Gateway
) -> None:
    """Only its cost is shown once more."""
    async with visit(browser, gateway.url) as person:
        await person.without_microphone()
        await person.connect()
        gateway.seen = {"state": "ended", "reason": "ended_elsewhere", "cost": 0.5}
        await person.page.locator("#hangup").click()
        await expect(person.page.locator("#cost")).to_have_text("$0.5000")
        assert await person.text("#note") == ""


@pytest.mark.parametrize("status", [404, 503])
async def test_what_the_gateway_does_not_tell_is_not_shown(
    browser: Browser, gateway: Gateway, status: int
) -> None:
    """The call goes on; who learns nothing of it does not ask again."""
    gateway.interferences["looks"] = refusal(status)
    async with visit(browser, gateway.url) as person:
        await person.without_microphone()
        await person.connect()
        await person.page.wait_for_timeout(2500)
        await person.reaches("connected")
        await expect(person.page.locator("#cost")).to_be_hidden()
        await person.page.locator("#hangup").click()
        await person.page.wait_for_timeout(500)
        assert await person.text("#note") == ""
    assert (len(gateway.looks) == 1) is (status != 503)


async def test_a_revoked_token_is_explained(browser: Browser, gateway: Gateway) -> None:
    """It tells nothing any more, which tells enough."""
    async with visit(browser, gateway.url) as person:
        await person.without_microphone()
        await person.connect()
        gateway.interferences["looks"] = refusal(401)
        await gateway.hang_up(await person.text("#call-id"))
        await expect(person.page.locator("#note")).to_contain_text("was revoked")
