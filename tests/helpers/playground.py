"""The playground in a real Chromium, and what answers it: a gateway's stand-in, an emulator."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import ClientSession, web
from aiohttp.typedefs import Handler
from playwright.async_api import Browser, Page, expect

from emulator.options import Options
from emulator.server import Emulator

PAGE: Final = Path(__file__).parents[2] / "envoy" / "playground.html"
MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
KEY: Final = "sk-playground-4f9a1c"

# How a supervised call is, as the gateway tells it.
OPEN: Final[dict[str, Any]] = {
    "object": "realtime.call",
    "state": "attached",
    "reason": None,
    "cost": 0.0,
    "left": {"duration_s": 600.0, "idle_s": None, "cost": None},
}

# A browser needs the machine for itself to be done within the default of 5 s.
expect.set_options(timeout=15_000)

# Gives tests the data channel of the page, so that they can say what a provider might.
_EXPOSE_CHANNEL: Final = """
const create = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...args) {
  return (window.testChannel = create.apply(this, args));
};
"""

# Answers a request itself, or lets the emulator do it and changes what comes back.
Interference = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: str


def refusal(
    status: int, message: str = "", headers: Mapping[str, str] | None = None
) -> Interference:
    """Refuse as the gateway does: its error body, and an x-request-id."""

    async def interfere(_: web.Request, __: Handler) -> web.StreamResponse:
        error = {"message": message, "type": "test", "param": None, "code": None}
        return web.json_response(
            {"error": error}, status=status, headers={"x-request-id": "req-7", **(headers or {})}
        )

    return interfere


def answer(status: int, body: str, content_type: str) -> Interference:
    """Answer with this body."""

    async def interfere(_: web.Request, __: Handler) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type=content_type)

    return interfere


class Gateway:
    """Serves the page and the API on one origin; the emulator answers, and this records.

    Attributes:
        interferences: What happens at a path instead of the emulator's own answer.
        requests: Everything but the page and looks at calls, in the order of arrival.
        looks: Questions how a call is.
        seen: What differs from `OPEN` in the answers to them.
    """

    def __init__(self) -> None:
        self.interferences: dict[str, Interference] = {}
        self.requests: list[Seen] = []
        self.looks: list[Seen] = []
        self.seen: dict[str, Any] = {}
        # Silent until it is spoken to, so that what it says is what the page asked for.
        self._emulator = Emulator(Options(greet=False))
        self._client: ClientSession | None = None
        app = web.Application()
        app.router.add_get("/playground", _serve_page)
        app.router.add_get(f"{CALLS}/{{handle}}", self._show)
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app)

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        port: int = self._runner.addresses[0][1]
        return port

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/playground"

    async def __aenter__(self) -> Self:
        await self._emulator.start()
        self._client = ClientSession(self._emulator.url)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()
        await self._emulator.stop()

    async def hang_up(self, call_id: str) -> None:
        """End a call from the provider's side."""
        assert self._client is not None
        headers = {"authorization": "Bearer sk-provider"}
        async with self._client.post(f"{CALLS}/{call_id}/hangup", headers=headers) as response:
            assert response.status == 200

    async def _show(self, request: web.Request) -> web.StreamResponse:
        self.looks.append(Seen(request.path, request.headers, await request.text()))
        if (interfere := self.interferences.get("looks")) is not None:
            return await interfere(request, self._forward)
        return web.json_response(OPEN | {"id": request.match_info["handle"]} | self.seen)

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(Seen(request.path, request.headers, await request.text()))
        interfere = self.interferences.get(request.path)
        return await (interfere(request, self._forward) if interfere else self._forward(request))

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._client is not None
        passed = ("authorization", "content-type")
        sent = {name: request.headers[name] for name in passed if name in request.headers}
        async with self._client.post(
            request.path, data=await request.read(), headers=sent
        ) as response:
            kept = ("content-type", "location", "x-request-id")
            headers = {name: response.headers[name] for name in kept if name in response.headers}
            return web.Response(status=response.status, body=await response.read(), headers=headers)


async def _serve_page(_: web.Request) -> web.StreamResponse:
    return web.Response(body=PAGE.read_bytes(), content_type="text/html", charset="utf-8")


class Visit:
    """One person on the page: what they do, and what they can see.

    Attributes:
        page: Playwright's page.
        console: What the page and the browser wrote there, uncaught errors too.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    async def start(self, *, key: str = KEY, model: str = "") -> None:
        """Fill in the form and click."""
        await self.page.get_by_label("Your key").fill(key)
        await self.page.get_by_label("Model", exact=True).first.fill(model)
        await self.page.locator("#start").click()

    async def without_microphone(self) -> None:
        """Choose to listen and type only."""
        await self.page.get_by_text("Options").click()
        await self.page.get_by_label("Use my microphone").uncheck()

    async def reaches(self, state: str) -> None:
        """Wait for a state of the page's state machine."""
        await expect(self.page.locator("body")).to_have_attribute("data-state", state)

    async def connect(self, *, key: str = KEY, model: str = "") -> None:
        """Start, and wait until the call stands."""
        await self.start(key=key, model=model)
        await self.reaches("connected")

    async def text(self, selector: str) -> str:
        """Return the text of an element."""
        return await self.page.locator(selector).inner_text()

    async def loudest(self, meter: str) -> float:
        """Watch a meter for as long as the fake microphone needs for a few beeps; in dBFS."""
        level: float = await self.page.locator(meter).evaluate(
            """async meter => {
                 let highest = -Infinity;
                 for (const end = performance.now() + 1500; performance.now() < end;) {
                   highest = Math.max(highest, meter.value);
                   await new Promise(resolve => setTimeout(resolve, 20));
                 }
                 return highest;
               }"""
        )
        return level

    async def tell(self, *events: Mapping[str, Any]) -> None:
        """Let events arrive on the data channel as if the provider had sent them."""
        await self.page.evaluate(
            """events => events.forEach(event => testChannel.dispatchEvent(
                 new MessageEvent("message", { data: JSON.stringify(event) })))""",
            [dict(event) for event in events],
        )


@asynccontextmanager
async def visit(
    browser: Browser, url: str, *, script: str = "", **context: Any
) -> AsyncIterator[Visit]:
    """Open the page in a browser profile of its own.

    Args:
        browser: The browser.
        url: Address of the page.
        script: JavaScript that runs before the page's own.
        context: Options of `Browser.new_context`, such as ``color_scheme`` and ``viewport``.
    """
    profile = await browser.new_context(**context)
    try:
        await profile.add_init_script(_EXPOSE_CHANNEL + script)
        person = Visit(await profile.new_page())
        await person.page.goto(url)
        yield person
    finally:
        await profile.close()
