import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler
from playwright.async_api import Browser, expect

from helpers.chromium import ALLOW_MICROPHONE, DENY_MICROPHONE, chromium
from helpers.playground import CALLS, KEY, MINT, Gateway, Visit, answer, refusal, visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium that grants its fake microphone, and knows a name for this machine."""
    rule = "--host-resolver-rules=MAP playground.test 127.0.0.1"
    async with chromium(ALLOW_MICROPHONE, rule) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway() -> AsyncIterator[Gateway]:
    """The page's origin."""
    async with Gateway() as running:
        yield running


async def problem_of(person: Visit) -> str:
    """Wait for the failure, and return what the page says of it."""
    await person.reaches("failed")
    await expect(person.page.get_by_role("alert")).to_be_visible()
    return await person.text("#problem")


class Refused(NamedTuple):
    """A refusal by the gateway, and words that the page must say about it."""

    path: str
    status: int
    title: str
    advice: str
    retry_after: str = ""


@pytest.mark.parametrize(
    "case",
    [
        # Realistic
        pytest.param(Refused(MINT, 401, "not accept this key", "whole key"), id="unknown-key"),
        pytest.param(Refused(MINT, 403, "may not use that", "another model"), id="forbidden"),
        pytest.param(Refused(MINT, 404, "no such model", "spelling"), id="unknown-model"),
        pytest.param(Refused(MINT, 422, "budget is used up", "ask whoever"), id="budget"),
        pytest.param(Refused(MINT, 429, "Too many", "in 7 seconds.", "7"), id="seconds"),
        pytest.param(Refused(MINT, 429, "Too many", "in 5 minutes.", "300"), id="minutes"),
        pytest.param(Refused(MINT, 429, "Too many", "in a moment."), id="some-time"),
        pytest.param(Refused(MINT, 502, "provider refused", "request id"), id="bad-upstream"),
        pytest.param(Refused(MINT, 503, "right now", "in 1 second.", "1"), id="down"),
        pytest.param(Refused(MINT, 504, "too long", "Try again"), id="slow-upstream"),
        pytest.param(Refused(CALLS, 400, "offer of your", "another browser"), id="bad-offer"),
        pytest.param(Refused(CALLS, 401, "token was not", "Start again"), id="bad-token"),
        pytest.param(Refused(CALLS, 403, "not allowed", "another"), id="call-forbidden"),
        pytest.param(Refused(CALLS, 404, "where to send", "Start again"), id="deployment-gone"),
        pytest.param(Refused(CALLS, 413, "too large", "extensions"), id="offer-too-large"),
        pytest.param(Refused(CALLS, 415, "kind of content", "proxies"), id="content-type"),
        pytest.param(Refused(CALLS, 502, "provider refused", "request id"), id="bad-answer"),
        # Synthetic
        pytest.param(Refused(MINT, 400, "make sense", "options"), id="malformed"),
        pytest.param(Refused(MINT, 405, "kind of request", "in front of it"), id="method"),
        pytest.param(Refused(MINT, 500, "Something broke", "request id"), id="broken"),
        pytest.param(Refused(MINT, 418, "status 418", "request id"), id="no-words-for-it"),
        # Pathological
        pytest.param(
            Refused(MINT, 429, "Too many", "now.", "Mon, 01 Jan 2001 00:00:00 GMT"), id="past"
        ),
        pytest.param(Refused(MINT, 429, "Too many", "now.", "soon"), id="not-a-time"),
    ],
)
async def test_a_refusal_is_told_in_words(
    browser: Browser, gateway: Gateway, case: Refused
) -> None:
    """Each status says what happened and what to do, the gateway's message and the request id."""
    headers = {"retry-after": case.retry_after} if case.retry_after else {}
    gateway.interferences[case.path] = refusal(case.status, "Said by the gateway.", headers)
    async with visit(browser, gateway.url) as person:
        await person.start()
        problem = await problem_of(person)
        assert case.title in problem.splitlines()[0]
        assert "Said by the gateway." in problem
        assert case.advice in problem
        assert f"Status {case.status} · request id req-7" in problem
        await expect(person.page.get_by_role("button", name="Start talking")).to_be_focused()
        await expect(person.page.locator("#conversation")).to_be_hidden()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param('{"error": "Token has expired"}', "Token has expired", id="litellm-string"),
        pytest.param('{"detail": "Not here"}', "Not here", id="detail"),
        pytest.param("<h1>Bad gateway</h1>", "", id="html"),
        pytest.param("null", "", id="null"),
        pytest.param('{"error": {"message": {"a": 1}}}', "", id="not-a-text"),
        pytest.param('{"error": {"message": "<img src=x>"}}', "<img src=x>", id="markup"),
    ],
)
async def test_any_error_body_is_read(
    browser: Browser, gateway: Gateway, body: str, said: str
) -> None:
    """Other shapes of error bodies are read too, and what cannot be read is left out."""
    gateway.interferences[MINT] = answer(502, body, "application/json")
    async with visit(browser, gateway.url) as person:
        await person.start()
        await problem_of(person)
        quotes = await person.page.locator("#problem blockquote").all_inner_texts()
        assert quotes == ([said] if said else [])


@pytest.mark.parametrize(
    ("path", "body", "title"),
    [
        pytest.param(MINT, "{}", "holds no token", id="no-value"),
        pytest.param(MINT, "null", "holds no token", id="null"),
        pytest.param(MINT, '{"value": 5}', "holds no token", id="value-is-no-text"),
        pytest.param(MINT, "<html>Sign in</html>", "holds no token", id="login-page"),
        pytest.param(CALLS, "v=0\r\n", "not one that this browser can use", id="truncated-sdp"),
        pytest.param(CALLS, "{}", "not one that this browser can use", id="not-sdp"),
    ],
)
async def test_an_unusable_answer_is_told_in_words(
    browser: Browser, gateway: Gateway, path: str, body: str, title: str
) -> None:
    """A success that holds no token or no SDP is a problem with a name."""
    gateway.interferences[path] = answer(200, body, "text/plain")
    async with visit(browser, gateway.url) as person:
        await person.start()
        assert title in await problem_of(person)


async def test_an_unreachable_gateway_is_told_in_words(browser: Browser, gateway: Gateway) -> None:
    """A connection that fails says that the gateway could not be reached."""
    async with visit(browser, gateway.url) as person:
        await person.page.route(f"**{MINT}", lambda route: route.abort())
        await person.start()
        assert "could not be reached" in await problem_of(person)


async def test_a_key_never_follows_a_redirect(browser: Browser, gateway: Gateway) -> None:
    """A redirect of the mint request is a failure: nothing arrives where it points."""

    async def redirect(_: web.Request, __: Handler) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": "/elsewhere"})

    gateway.interferences[MINT] = redirect
    async with visit(browser, gateway.url) as person:
        await person.start()
        await problem_of(person)
    assert [seen.path for seen in gateway.requests] == [MINT]


# --- Microphone -----------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_without_a_microphone_one_can_still_listen(gateway: Gateway) -> None:
    """A denied microphone is explained, and the call goes on as recvonly if wanted."""
    async with chromium(DENY_MICROPHONE) as browser, visit(browser, gateway.url) as person:
        await person.start()
        assert "microphone is blocked" in await problem_of(person)
        assert [seen.path for seen in gateway.requests] == [MINT]
        await person.page.get_by_role("button", name="Continue without a microphone").click()
        await person.reaches("connected")
        await expect(person.page.locator("#first-audio")).to_contain_text("s")
        await expect(person.page.get_by_role("button", name="Mute")).to_be_hidden()
        await expect(person.page.locator("[data-step=microphone]")).to_contain_text("not used")
        offer = gateway.requests[-1].body
        assert "a=recvonly" in offer
        assert "a=sendrecv" not in offer.split("m=application")[0]


@pytest.mark.parametrize(
    ("error", "title"),
    [
        pytest.param("NotFoundError", "There is no microphone", id="none"),
        pytest.param("NotReadableError", "taken or does not work", id="busy"),
        pytest.param("AbortError", "taken or does not work", id="other"),
    ],
)
async def test_a_missing_microphone_is_told_in_words(
    browser: Browser, gateway: Gateway, error: str, title: str
) -> None:
    """Each reason why there is no microphone has its own words."""
    script = f"""navigator.mediaDevices.getUserMedia = () =>
        Promise.reject(new DOMException("", "{error}"));"""
    async with visit(browser, gateway.url, script=script) as person:
        await person.start()
        assert title in await problem_of(person)


async def test_a_page_without_https_says_so_before_anyone_clicks(
    browser: Browser, gateway: Gateway
) -> None:
    """Over plain http from another machine there is no microphone; listening and typing work."""
    url = f"http://playground.test:{gateway.port}/playground"
    async with visit(browser, url) as person:
        assert "Without https there is no microphone" in await person.text("#note")
        await expect(person.page.locator("#microphone")).to_be_disabled()
        await expect(person.page.locator("#start")).to_have_text("Start listening")
        await person.connect()


# --- On the way to and during the call ------------------------------------------------------------


async def without_candidates(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let the emulator answer, and take every candidate out."""
    response = await handler(request)
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    response.body = re.sub(rb"a=(candidate|end-of-candidates).*\r\n", b"", response.body)
    return response


async def test_no_path_for_audio_is_told_in_words(browser: Browser, gateway: Gateway) -> None:
    """If ICE finds nothing for 15 s the page names the usual reason: UDP is blocked."""
    gateway.interferences[CALLS] = without_candidates
    async with visit(browser, gateway.url) as person:
        await person.page.clock.install()
        await person.start()
        await expect(person.page.locator("[data-step=answer]")).to_contain_text("ms")
        await person.page.clock.fast_forward(15_000)
        problem = await problem_of(person)
        assert "No path for audio was found" in problem
        assert "UDP blocked" in problem
        await expect(person.page.locator("[data-step=connection]")).to_contain_text("failed")


async def test_silence_is_explained_after_five_seconds(browser: Browser, gateway: Gateway) -> None:
    """Five seconds without sound bring a note that says what may be wrong."""
    async with visit(browser, gateway.url) as person:
        await person.page.clock.install()
        await person.page.get_by_text("Options").click()
        await person.page.get_by_label("The model speaks first").uncheck()
        await person.connect()
        await person.page.clock.fast_forward(5_000)
        await expect(person.page.locator("#note")).to_contain_text("after 5 seconds")
        await person.page.get_by_role("button", name="Hang up").click()
        await expect(person.page.locator("[data-step=audio]")).to_contain_text("none heard")


async def test_errors_of_the_provider_do_not_end_the_call(
    browser: Browser, gateway: Gateway
) -> None:
    """An error event and a failed response are shown with the provider's words."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        await person.tell({"type": "error", "error": {"message": "No such voice.", "code": "bad"}})
        note = person.page.locator("#note")
        await expect(note).to_contain_text("No such voice.")
        await expect(note).to_contain_text("Code bad")
        failed = {"status": "failed", "status_details": {"error": {"message": "Out of quota."}}}
        await person.tell({"type": "response.done", "response": failed})
        await expect(note).to_contain_text("Out of quota.")
        await person.reaches("connected")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("not JSON", id="text"),
        pytest.param("null", id="null"),
        pytest.param("[]", id="list"),
        pytest.param('{"type": 5}', id="type-is-no-text"),
        pytest.param('{"type": "constructor"}', id="name-of-a-property"),
        pytest.param('{"type": "error"}', id="error-without-error"),
        pytest.param('{"type": "response.done"}', id="done-without-response"),
        pytest.param('{"type": "conversation.item.added"}', id="item-without-item"),
        pytest.param('{"type": "response.output_text.delta"}', id="delta-without-anything"),
        pytest.param(
            '{"type": "conversation.item.input_audio_transcription.completed", "transcript": 5}',
            id="transcript-is-no-text",
        ),
    ],
)
async def test_strange_events_break_nothing(browser: Browser, gateway: Gateway, data: str) -> None:
    """Whatever arrives is listed, and the call goes on."""
    async with visit(browser, gateway.url) as person:
        await person.connect()
        await person.page.evaluate(
            'data => testChannel.dispatchEvent(new MessageEvent("message", { data }))', data
        )
        await person.page.evaluate("() => undefined")
        await person.reaches("connected")
        assert person.console == []


# --- Secrets --------------------------------------------------------------------------------------


async def test_key_and_token_are_never_shown(browser: Browser, gateway: Gateway) -> None:
    """Even if the other side quotes them, neither is in page, storage or console."""
    async with visit(browser, gateway.url) as person:
        await person.connect(model="gpt-realtime")
        token = gateway.requests[-1].headers["authorization"].removeprefix("Bearer ")
        await person.tell({"type": "error", "error": {"message": f"Bad {token} of {KEY}"}})
        await person.tell({"type": f"odd.{KEY}", "client_secret": {"value": token}})
        await person.tell({"type": "response.output_text.delta", "item_id": "i", "delta": token})
        for summary in await person.page.locator("#event-list summary").all():
            await summary.click()
        assert "***" in await person.text("#note")
        await expect_no_secret(person, KEY, token)
        await person.page.get_by_role("button", name="Hang up").click()
        gateway.interferences[MINT] = refusal(401, f"Incorrect API key provided: {KEY}")
        await person.start()
        assert "Incorrect API key provided: ***" in await problem_of(person)
        await expect_no_secret(person, KEY, token)


async def expect_no_secret(person: Visit, *secrets: str) -> None:
    """Check everything that outlives the moment: markup, storages, cookies, address, console."""
    traces = await person.page.evaluate(
        """() => [document.documentElement.outerHTML, JSON.stringify(localStorage),
                  JSON.stringify(sessionStorage), document.cookie, location.href,
                  JSON.stringify(history.state), window.name].join("\\n")"""
    )
    for secret in secrets:
        assert secret not in traces
        assert secret not in "\n".join(person.console)


async def test_a_key_in_the_address_is_not_read(browser: Browser, gateway: Gateway) -> None:
    """Neither query nor fragment fill the form: addresses end up in histories and logs."""
    async with visit(browser, f"{gateway.url}?key={KEY}&model=m#key={KEY}") as person:
        await expect(person.page.get_by_label("Your key")).to_have_value("")
        await expect(person.page.locator("#model")).to_have_value("")


async def test_a_key_is_remembered_only_if_ticked(browser: Browser, gateway: Gateway) -> None:
    """The tick keeps the key for this tab over a reload; taking it away forgets the key."""
    stored = "() => JSON.stringify([sessionStorage, localStorage])"
    async with visit(browser, gateway.url) as person:
        page = person.page
        await page.get_by_label("Your key").fill(KEY)
        assert KEY not in await page.evaluate(stored)
        await page.get_by_label("Remember in this tab").check()
        await page.reload()
        await expect(page.get_by_label("Your key")).to_have_value(KEY)
        await expect(page.get_by_label("Remember in this tab")).to_be_checked()
        assert KEY not in await page.evaluate("() => JSON.stringify(localStorage)")
        await page.get_by_label("Remember in this tab").uncheck()
        assert KEY not in await page.evaluate(stored)
        await page.reload()
        await expect(page.get_by_label("Your key")).to_have_value("")


@pytest.mark.parametrize("key", ["", "   ", "sk-with space", "sk-ключ"])
async def test_what_cannot_be_a_key_is_not_sent(
    browser: Browser, gateway: Gateway, key: str
) -> None:
    """An impossible key is refused in the form, and nothing is sent."""
    async with visit(browser, gateway.url) as person:
        await person.start(key=key)
        await person.page.wait_for_timeout(50)
        await person.reaches("ready")
        assert not await person.page.locator("#key").evaluate("key => key.validity.valid")
    assert gateway.requests == []
