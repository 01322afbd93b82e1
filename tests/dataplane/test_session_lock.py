import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from extauthz.keys import VirtualKey
from helpers.gateway import until
from helpers.supervised import Supervised, supervised
from helpers.voiceclient import VoiceClient
from ringback.calllimits import CallLimits
from ringback.sessionlock import parse_lock

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

MAX_VIOLATIONS = 4
WARN_S = 5
LOOKUP = {"type": "function", "name": "lookup", "description": "Looks an invoice up."}
LOCK: dict[str, Any] = {
    # Longer than most, for the label that carries the lock.
    "instructions": "Help with invoices. " * 1000,
    "tools": [LOOKUP],
    "max_output_tokens": {"max": 500},
    "audio": {
        "output": {"voice": "marin"},
        "input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": {"min": 300}}},
    },
}
LOCKED = "sk-key-with-a-lock"
VOICE_LOCKED = "sk-key-with-a-locked-voice"
FREE = "sk-key-without-a-lock"
SHORT = "sk-key-for-short-calls"
KEYS = {
    LOCKED: VirtualKey("", alias="locked", session_lock=parse_lock(LOCK)),
    VOICE_LOCKED: VirtualKey(
        "", alias="voice", session_lock=parse_lock({"audio": {"output": {"voice": "marin"}}})
    ),
    FREE: VirtualKey("", alias="free"),
    SHORT: VirtualKey("", alias="short", call_limits=CallLimits(max_duration_s=8)),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervised]:
    """Give a gateway with keys whose sessions are locked."""
    folder = tmp_path_factory.mktemp("locked")
    async with supervised(
        folder,
        keys=KEYS,
        mode="required",
        max_violations=MAX_VIOLATIONS,
        max_duration_s=60,
        warn_s=WARN_S,
    ) as gateway:
        yield gateway


class Page:
    """A browser in a call, and how its session was shown to it."""

    def __init__(self, gateway: Supervised, client: VoiceClient) -> None:
        self._gateway = gateway
        self.client = client
        self._shown_at: list[float] = []
        assert client._channel is not None
        client._channel.on("message", self._note)

    async def join(self, key: str) -> Any:
        """Call with a key, and return the call once callkeeper has looked at its session."""
        answer = await self._gateway.call(key, await self.client.offer())
        assert answer.status_code == 201, answer.text
        call = await self._gateway.joined(self.client, answer.text)
        if KEYS[key].session_lock:
            await self.client.wait_for("session.updated")
        return call

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Return all that were shown, the latest last."""
        return [event["session"] for event in self.client.events if "session" in event]

    def update(self, **members: Any) -> None:
        """Change the session."""
        session = {"type": "realtime", **members}
        self.client.send({"type": "session.update", "session": session})

    def _note(self, text: str) -> None:
        if '"session": {' in text:
            self._shown_at.append(time.monotonic())

    async def see_it_put_back(self) -> float:
        """Wait until the session is as the lock wants it; return for how long it was not."""
        lock, first = parse_lock(LOCK), len(self.sessions)

        def is_right_again() -> bool:
            return len(self.sessions) > first and not lock.corrections(self.sessions[-1])

        await until(is_right_again)
        assert lock.corrections(self.sessions[first])
        return self._shown_at[len(self.sessions) - 1] - self._shown_at[first]


async def test_what_a_browser_changes_is_put_back(gateway: Supervised) -> None:
    """Each locked member, at once, from the mint on; what is free stays as the browser wants it."""
    lock = parse_lock(LOCK)
    changes: list[dict[str, Any]] = [
        {"instructions": "Do as I say."},
        {"tools": [LOOKUP, {"type": "function", "name": "pay"}], "tracing": "auto"},
        {
            "max_output_tokens": "inf",
            "audio": {
                "input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 50}}
            },
        },
    ]
    assert len(changes) == MAX_VIOLATIONS - 1
    async with VoiceClient() as client:
        page = Page(gateway, client)
        call = await page.join(LOCKED)
        assert not lock.corrections(page.sessions[0])
        page.update(output_modalities=["text"])
        await until(lambda: page.sessions[-1]["output_modalities"] == ["text"])
        took = []
        for change in changes:
            page.update(**change)
            took.append(await page.see_it_put_back())
        assert max(took) < 1, took
        assert page.sessions[-1]["tracing"] == "auto"
        assert page.sessions[-1]["output_modalities"] == ["text"]
        turn_detection = page.sessions[-1]["audio"]["input"]["turn_detection"]
        assert turn_detection["silence_duration_ms"] == 300
        # Nobody goes on about it.
        seen = len(page.sessions)
        await asyncio.sleep(1)
        assert len(page.sessions) == seen
        assert gateway.named("call.ended", call) == []


async def test_a_browser_that_insists_loses_its_call(gateway: Supervised) -> None:
    """The last violation that is too many ends it, within moments."""
    async with VoiceClient() as client:
        page = Page(gateway, client)
        call = await page.join(LOCKED)
        for _ in range(MAX_VIOLATIONS - 1):
            page.update(instructions="Do as I say.")
            await page.see_it_put_back()
        page.update(instructions="Do as I say.")
        began = time.monotonic()
        await asyncio.wait_for(client.is_closed.wait(), 5)
        assert time.monotonic() - began < 5
        assert (await gateway.end_of(call)).call.reason == "policy_violation"
    assert (await gateway.last_at_provider())["ended_because"] == "hangup"


async def test_a_voice_is_put_back_until_it_was_heard(gateway: Supervised) -> None:
    """A browser that changes it before anything was said hears the platform's voice."""
    async with VoiceClient() as client:
        page = Page(gateway, client)
        page.client._channel.on(  # type: ignore[union-attr]
            "open", lambda: page.update(audio={"output": {"voice": "alloy"}})
        )
        await page.join(VOICE_LOCKED)
        await until(lambda: "alloy" in [each["audio"]["output"]["voice"] for each in page.sessions])
        await until(lambda: page.sessions[-1]["audio"]["output"]["voice"] == "marin")
        await client.wait_for("response.done")
        page.update(audio={"output": {"voice": "alloy"}})
        error = await client.wait_for("error")
        assert error["error"]["code"] == "cannot_update_voice"


async def test_a_response_with_more_than_is_allowed_is_cancelled(gateway: Supervised) -> None:
    """Within the bounds a browser may ask for what it likes."""
    async with VoiceClient() as client:
        page = Page(gateway, client)
        await page.join(LOCKED)
        await client.wait_for("response.done")
        for wanted, status in ((200, "completed"), (4000, "cancelled")):
            count = client.types().count("response.done") + 1
            client.send({"type": "response.create", "response": {"max_output_tokens": wanted}})
            done = await client.wait_for("response.done", count=count)
            assert done["response"]["status"] == status


async def test_a_token_is_minted_for_the_locked_session(gateway: Supervised) -> None:
    """Whatever the caller asks for; the provider says what it has been asked for."""
    wanted = {"model": "gpt-realtime", "session": {"type": "realtime", "instructions": "Mine."}}
    sessions = {}
    for key in (LOCKED, FREE):
        answer = await gateway.http.post(
            f"{gateway.stack.url}/v1/realtime/client_secrets",
            json=wanted,
            headers={"authorization": f"Bearer {key}"},
        )
        sessions[key] = answer.json()["session"]
    assert not parse_lock(LOCK).corrections(sessions[LOCKED])
    assert sessions[FREE]["instructions"] == "Mine."


async def test_a_locked_session_is_no_websocket(gateway: Supervised) -> None:
    """403 with what to do instead; the provider hears nothing."""
    headers = {
        "authorization": f"Bearer {LOCKED}",
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    url = f"{gateway.stack.url}/v1/realtime?model=gpt-realtime"
    answer = await gateway.http.get(url, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "session_locked"
    assert "WebRTC" in answer.json()["error"]["message"]
    counters = await gateway.http.get(f"{gateway.stack.emulator_url}/emulator/counters")
    assert counters.json()["answers"].get("websocket", {}) == {}


async def test_without_a_lock_a_browser_does_what_it_likes(gateway: Supervised) -> None:
    """Nobody says anything on its behalf."""
    async with VoiceClient() as client:
        page = Page(gateway, client)
        await page.join(FREE)
        page.update(instructions="Do as I say.")
        await client.wait_for("session.updated")
        await asyncio.sleep(0.5)
        assert client.types().count("session.updated") == 1
        assert page.sessions[-1]["instructions"] == "Do as I say."


async def test_a_call_is_warned_of_its_end(gateway: Supervised) -> None:
    """Once, in time: those who watch hear of it, and the model by a message of the conversation."""
    async with VoiceClient() as client:
        page = Page(gateway, client)
        call = await page.join(SHORT)
        warning = await gateway.event("call.warning", call)
        assert 2.5 < warning.at - call.opened_at < 4

        def told() -> list[dict[str, Any]]:
            added = [event for event in client.events if event["type"] == "conversation.item.added"]
            return [event["item"] for event in added if event["item"]["role"] == "system"]

        await until(lambda: bool(told()))
        assert told()[0]["content"][0]["text"] == (
            f"This call is going to be ended in about {WARN_S} seconds."
        )
        ended = await gateway.end_of(call)
        assert ended.call.reason == "max_duration"
        assert len(gateway.named("call.warning", call)) == len(told()) == 1
