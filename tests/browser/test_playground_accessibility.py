from collections.abc import AsyncIterator
from typing import Final, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.playground import KEY, MINT, Gateway, Visit, refusal, visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

Scheme = Literal["light", "dark"]

# Compares visible text with what is drawn behind it (WCAG 1.4.3), and borders of fields with what
# is around them (1.4.11). Returns what has too little contrast.
_CONTRAST: Final = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const linear = value => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = color => {
    const [red, green, blue] = numbers(color).map(value => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (numbers(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  const check = (element, color, back, least, what) => {
    const found = ratio(color, back);
    if (found < least) poor.push(`${what} of ${element.outerHTML.slice(0, 60)}: ${found}`);
  };
  for (const element of document.body.querySelectorAll("*")) {
    if (!element.checkVisibility() || element.disabled) continue;
    const style = getComputedStyle(element);
    const isField = element.matches("input:not([type=checkbox]), textarea");
    const hasText = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (hasText || isField) check(element, style.color, behind(element), 4.5, "text");
    if (isField) {
      const hint = getComputedStyle(element, "::placeholder").color;
      check(element, hint, behind(element), 4.5, "placeholder");
      check(element, style.borderTopColor, behind(element.parentElement), 3, "border");
    }
  }
  return poor;
}"""

# What assistive technology needs to name and find things. Returns what is wrong.
_STRUCTURE: Final = """() => {
  const wrong = [];
  const ids = [...document.querySelectorAll("[id]")].map(element => element.id);
  ids.filter((id, index) => ids.indexOf(id) !== index).forEach(id => wrong.push(`twice: ${id}`));
  for (const name of ["for", "list", "aria-labelledby", "aria-describedby"])
    for (const element of document.querySelectorAll(`[${name}]`))
      for (const id of element.getAttribute(name).split(" "))
        if (!document.getElementById(id)) wrong.push(`${name} leads nowhere: ${id}`);
  for (const field of document.querySelectorAll("input, textarea, meter"))
    if (![...field.labels].some(label => label.textContent.trim()))
      wrong.push(`no label: ${field.id}`);
  for (const button of document.querySelectorAll("button"))
    if (!button.textContent.trim()) wrong.push(`no name: ${button.id}`);
  for (const section of document.querySelectorAll("section"))
    if (!section.hasAttribute("aria-labelledby")) wrong.push(`no name: ${section.id}`);
  for (const element of document.querySelectorAll("[tabindex]"))
    if (element.tabIndex > 0) wrong.push(`out of order: ${element.id}`);
  return wrong;
}"""


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


async def test_everything_has_a_name(browser: Browser, gateway: Gateway) -> None:
    """Labels, references, ids, sections and the tab order are sound, before and in a call."""
    async with visit(browser, gateway.url) as person:
        page = person.page
        assert await page.evaluate(_STRUCTURE) == []
        assert await page.title() == "Ringback playground"
        await expect(page.locator("html")).to_have_attribute("lang", "en")
        await expect(page.get_by_role("heading", level=1)).to_have_count(1)
        await expect(page.get_by_role("banner")).to_have_count(1)
        await expect(page.get_by_role("main")).to_have_count(1)
        await person.connect()
        assert await page.evaluate(_STRUCTURE) == []
        for name in ("Conversation", "This call"):
            await expect(page.get_by_role("region", name=name)).to_be_visible()
        await expect(page.get_by_role("log", name="Conversation")).to_be_visible()
        await expect(page.get_by_role("meter", name="You")).to_be_visible()
        await expect(page.get_by_role("meter", name="Model")).to_be_visible()


async def test_state_and_problems_are_announced(browser: Browser, gateway: Gateway) -> None:
    """State and notes are polite live regions and problems an alert, all there from the start."""
    gateway.interferences[MINT] = refusal(403, "Not yours.")
    async with visit(browser, gateway.url) as person:
        await expect(person.page.locator("#state[role=status]")).to_have_text("Ready")
        await expect(person.page.locator("#note[role=status]")).to_be_empty()
        await expect(person.page.locator("#problem[role=alert]")).to_be_empty()
        await person.start()
        await expect(person.page.get_by_role("alert")).to_contain_text("Not yours.")


async def test_a_call_needs_no_mouse(browser: Browser, gateway: Gateway) -> None:
    """Tab visits the controls in reading order; Enter starts, Space hangs up."""
    async with visit(browser, gateway.url) as person:
        page = person.page
        visited = []
        for _ in range(5):
            await page.keyboard.press("Tab")
            visited.append(await focused(person))
            if visited[-1] == "key":
                await page.keyboard.type(KEY)
        assert visited == ["key", "remember", "model", "summary", "start"]
        await page.keyboard.press("Enter")
        await person.reaches("connected")
        assert await focused(person) == "hangup"
        await page.keyboard.press("Tab")
        assert await focused(person) == "copy"
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Space")
        await person.reaches("ended")
        assert await focused(person) == "start"


async def focused(person: Visit) -> str:
    """Return the id of what has the focus, or its tag; check that the focus can be seen."""
    name, outline = await person.page.evaluate(
        """() => [document.activeElement.id || document.activeElement.localName,
                  getComputedStyle(document.activeElement).outlineStyle]"""
    )
    assert outline == "solid", name
    return str(name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_contrast_is_sufficient(browser: Browser, gateway: Gateway, scheme: Scheme) -> None:
    """Text has a contrast of 4.5 and fields have borders of 3, in every state and scheme."""
    async with visit(browser, gateway.url, color_scheme=scheme) as person:
        await person.page.get_by_text("Options").click()
        assert await person.page.evaluate(_CONTRAST) == []
        await person.connect()
        await person.tell(
            {"type": "error", "error": {"message": "Odd.", "code": "odd"}},
            {"type": "response.output_text.delta", "item_id": "a", "delta": "Words"},
        )
        await person.page.locator("#event-list summary").first.click()
        assert await person.page.evaluate(_CONTRAST) == []
        await person.page.get_by_role("button", name="Hang up").click()
        gateway.interferences[MINT] = refusal(403, "Not yours.")
        await person.start()
        await person.reaches("failed")
        assert await person.page.evaluate(_CONTRAST) == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 2560])
async def test_no_width_needs_sideways_scrolling(
    browser: Browser, gateway: Gateway, width: int
) -> None:
    """The page fits from small phones to wide screens, with its longest texts too."""
    async with visit(browser, gateway.url, viewport={"width": width, "height": 800}) as person:
        fits = "() => document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert await person.page.evaluate(fits)
        await person.connect(model="a-deployment-with-a-name-that-is-as-long-as-names-ever-get-64")
        word = "Donaudampfschifffahrtsgesellschaft" * 4
        await person.tell(
            {"type": "response.output_text.delta", "item_id": "a", "delta": word},
            {"type": f"odd.{word}"},
            {"type": "error", "error": {"message": word}},
        )
        assert await person.page.evaluate(fits)


async def test_controls_are_large_enough(browser: Browser, gateway: Gateway) -> None:
    """Buttons and fields are at least 24 pixels high and wide (WCAG 2.5.8)."""
    async with visit(browser, gateway.url, viewport={"width": 360, "height": 800}) as person:
        await person.connect()
        for control in await person.page.locator("button:visible, input[type=text]:visible").all():
            box = await control.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= 24


async def test_reduced_motion_is_respected(browser: Browser, gateway: Gateway) -> None:
    """Nothing is animated for those who ask for less motion."""
    running = "() => document.getAnimations().length"
    await_mint = "**/client_secrets"
    for motion, animations in (("no-preference", 1), ("reduce", 0)):
        async with visit(browser, gateway.url, reduced_motion=motion) as person:
            await person.page.route(await_mint, lambda _: None)
            await person.start()
            await person.reaches("minting")
            assert await person.page.evaluate(running) == animations
