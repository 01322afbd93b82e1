"""Calls in a real browser that the gateway ends: each ends, in time, and the page says why."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from callsapi.v1.calls_pb2 import CallState, Event, ListRequest
from helpers.chromium import ALLOW_MICROPHONE, chromium
from helpers.litellmrows import hash_of
from helpers.playground import CALLS, Visit, visit
from helpers.postgres import Database
from helpers.supervised import Supervised, supervised

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

MAX_DURATION_S: Final = 8
IDLE_S: Final = 5
# In US dollars; the shortest response of the emulator costs more.
BUDGET: Final = 0.0001
# From what ends a call to its closed peer connection.
IN_TIME_S: Final = 5.0

# Remembers when the browser learnt of the end, and the connection.
_WATCH_END: Final = """
{
  const open = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (...args) {
    const channel = open.apply(this, args);
    window.testPeer = this;
    channel.addEventListener("close", () => (window.testEndedAt = Date.now() / 1000));
    return channel;
  };
}
"""


@dataclass
class OnCall:
    """Somebody whose call callkeeper listens to."""

    person: Visit
    gateway: Supervised
    call: CallState

    async def ends(self, reason: str, words: str) -> Event:
        """Wait until the page knows that the call has ended, and says why; return the end."""
        await self.person.reaches("ended")
        await expect(self.person.page.locator("#note")).to_contain_text(words)
        await expect(self.person.page.locator("#note")).to_contain_text(f"Reason {reason}")
        ended = await self.gateway.end_of(self.call)
        assert ended.call.reason == reason
        assert await self.person.page.evaluate("testPeer.connectionState") == "closed"
        assert not [line for line in self.person.console if "uncaught" in line]
        return ended

    async def silence_ends(self) -> float:
        """Return when the call ends because nobody speaks, once the model has spoken."""
        stopped = self.person.page.locator("#event-list", has_text="output_audio_buffer.stopped")
        await stopped.wait_for()
        while True:
            (state,) = (await self.gateway.calls.List(ListRequest())).calls
            if state.idle_ends_at:
                return state.idle_ends_at
            await asyncio.sleep(0.05)

    async def seen_by(self, key: str) -> dict[str, Any]:
        """Return what the holder of the key is told of the call."""
        url = f"{self.gateway.stack.url}{CALLS}/{await self.person.text('#call-id')}"
        headers = {"authorization": f"Bearer {key}"}
        found: dict[str, Any] = (await self.gateway.http.get(url, headers=headers)).json()
        return found

    async def is_in_time(self, cause: float, record: pytest.FixtureRequest) -> None:
        """Check how long after its cause, in seconds since 1970, the connection was closed."""
        took = await self.person.page.evaluate("testEndedAt") - cause
        record.node.user_properties.append(("seconds", round(took, 2)))
        # Clocks of two processes of one machine.
        assert -0.01 < took < IN_TIME_S


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, shared_database: Database
) -> AsyncIterator[Supervised]:
    """A gateway that looks keys up in a database, and writes there what calls cost."""
    async with supervised(
        tmp_path_factory.mktemp("supervised"),
        more={"database": {"url": shared_database.url}},
        mode="required",
        sinks=["litellm"],
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium whose microphone beeps."""
    async with chromium(ALLOW_MICROPHONE) as running:
        yield running


@asynccontextmanager
async def on_call(
    browser: Browser, gateway: Supervised, key: str, *, talks: bool = True
) -> AsyncIterator[OnCall]:
    """Open the playground and a call with a key, whose browser talks or is silent."""
    async with visit(browser, f"{gateway.stack.url}/playground", script=_WATCH_END) as person:
        if not talks:
            await person.without_microphone()
            await person.page.get_by_label("The model speaks first").uncheck()
        before = len(gateway.named("call.attached"))
        await person.connect(key=key, model="gpt-realtime")
        yield OnCall(person, gateway, await gateway.attached(before))


async def test_a_call_ends_when_its_time_is_over(
    browser: Browser,
    gateway: Supervised,
    shared_database: Database,
    request: pytest.FixtureRequest,
) -> None:
    """The page counts down to it, and shows what the call cost."""
    key = shared_database.rows.key(metadata={"ringback_max_call_duration_s": MAX_DURATION_S})
    async with on_call(browser, gateway, key) as caller:
        await expect(caller.person.page.locator("#left.soon")).to_have_text(re.compile(r"0:0\d"))
        ended = await caller.ends("max_duration", "This call has lasted as long as a call may")
        await caller.is_in_time(caller.call.ends_at, request)
        cost = f"${ended.call.cost_microdollars / 1e6:.4f}"
        await expect(caller.person.page.locator("#cost")).to_have_text(cost)
        assert ended.call.cost_microdollars > 0


async def test_a_call_in_which_nobody_speaks_ends(
    browser: Browser,
    gateway: Supervised,
    shared_database: Database,
    request: pytest.FixtureRequest,
) -> None:
    """The page says beforehand that it will."""
    key = shared_database.rows.key(metadata={"ringback_max_call_idle_s": IDLE_S})
    async with on_call(browser, gateway, key, talks=False) as caller:
        due = await caller.silence_ends()
        left = caller.person.page.locator("#left.soon")
        await expect(left).to_contain_text("unless somebody speaks")
        await caller.ends("idle", "Nobody has spoken for a while")
        await caller.is_in_time(due, request)


async def test_a_call_is_ended_by_an_administrator(
    browser: Browser,
    gateway: Supervised,
    shared_database: Database,
    request: pytest.FixtureRequest,
) -> None:
    """By the command, whose start is part of the time; until then the key's holder looks on."""
    key = shared_database.rows.key(max_budget=5)
    async with on_call(browser, gateway, key) as caller:
        used = await gateway.event("call.usage", caller.call)
        left = (await caller.seen_by(key))["left"]["budget"]
        assert left == pytest.approx(5 - used.call.cost_microdollars / 1e6)
        began = time.time()
        assert (await gateway.ringback("calls", "hangup", caller.call.id))[0] == 0
        await caller.ends("admin", "An administrator ended this call")
        await caller.is_in_time(began, request)


async def test_a_call_ends_when_its_budget_is_used_up(
    browser: Browser,
    gateway: Supervised,
    shared_database: Database,
    request: pytest.FixtureRequest,
) -> None:
    """With the response that does it."""
    key = shared_database.rows.key(max_budget=BUDGET)
    async with on_call(browser, gateway, key) as caller:
        await caller.ends("key_budget", "The budget of your key is used up")
        used = await gateway.event("call.usage", caller.call)
        assert used.call.cost_microdollars > BUDGET * 1_000_000
        await caller.is_in_time(used.at, request)


async def test_a_call_ends_when_its_key_is_blocked(
    browser: Browser,
    gateway: Supervised,
    shared_database: Database,
    request: pytest.FixtureRequest,
) -> None:
    """In the database, by whatever hand; the page's token still tells why."""
    rows = shared_database.rows
    key = rows.key()
    async with on_call(browser, gateway, key) as caller:
        blocked_at = time.time()
        rows.update("LiteLLM_VerificationToken", {"token": hash_of(key)}, blocked=True)
        await caller.ends("key_blocked", "Your key was blocked")
        await caller.is_in_time(blocked_at, request)
