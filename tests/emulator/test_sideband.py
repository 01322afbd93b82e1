"""Sidebands of real calls: who may listen in, what they get, and what can go wrong there."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import pytest

from emulator.options import Options
from emulator.server import Emulator
from emulator.usage import FULL_USAGE
from helpers.appbackend import STANDARD, AppBackend
from helpers.voiceclient import VoiceClient

WRITE: Final = {"type": "response.create", "response": {"output_modalities": ["text"]}}
SECOND: Final = base64.b64encode(bytes(48_000)).decode()
DONE: Final = "response.done"
TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"


@dataclass(frozen=True, slots=True)
class Line:
    """A live call, the ephemeral key that it was made with, and the ways to it."""

    backend: AppBackend
    client: VoiceClient
    call_id: str
    key: str

    @property
    def own_key(self) -> dict[str, str]:
        """The headers of who knows only the key of the call."""
        return {"Authorization": f"Bearer {self.key}"}

    async def switch(self, **faults: Any) -> None:
        """Have exactly these faults."""
        url = f"{self.backend.url}/emulator/faults"
        await self.backend.http.delete(url)
        async with self.backend.http.post(url, json=faults) as response:
            assert response.status == 200, await response.text()

    async def refusal(self, headers: dict[str, str] | None = None) -> int:
        """Return the status of a sideband that is refused."""
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await self.backend.listen_in(self.call_id, headers)
        return refused.value.status

    async def attach(self) -> Any:
        """Listen in as soon as the call is found."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return await self.backend.listen_in(self.call_id)
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.02)

    async def counters(self) -> Any:
        """Return what the emulator has counted."""
        async with self.backend.http.get(f"{self.backend.url}/emulator/counters") as response:
            return await response.json()


@pytest.fixture
async def line(http: aiohttp.ClientSession) -> AsyncIterator[Line]:
    """A live call in which nobody speaks."""
    async with Emulator(Options(greet=False)) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        key = await backend.mint()
        call_id = await backend.connect(client, key=key)
        await client.wait_for("session.created")
        yield Line(backend, client, call_id, key)


def update(**fields: Any) -> dict[str, Any]:
    """Return an event that changes the session."""
    return {"type": "session.update", "session": {"type": "realtime", **fields}}


async def read_until(socket: Any, kind: str) -> list[dict[str, Any]]:
    """Return the events up to the first of a type."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(await socket.receive_str(timeout=10)))
    return events


async def test_every_observer_gets_all_from_when_it_joined(line: Line) -> None:
    """What one of them changes, all see, and the browser; who comes later has missed the rest."""
    async with line.backend.listen_in(line.call_id) as first:
        await first.send_json(update(instructions="Sing."))
        await read_until(first, "session.updated")
        async with line.backend.listen_in(line.call_id, line.own_key) as second:
            item = {"type": "message", "role": "system", "content": []}
            await second.send_json({"type": "conversation.item.create", "item": item})
            await second.send_json(WRITE)
            seen = [await read_until(socket, DONE) for socket in (first, second)]
            assert seen[0] == seen[1]
            assert seen[1][0]["type"] == "conversation.item.added"
            assert (await line.counters())["sidebands"] == 2
    await line.client.wait_for(DONE)
    assert "session.updated" in line.client.types()


async def test_a_call_is_found_with_one_kind_of_key_or_both(line: Line) -> None:
    """Sources disagree on which one providers want, so either can be had; the other is 404."""
    await line.switch(sideband={"keys": "standard"})
    assert await line.refusal(line.own_key) == 404
    async with line.backend.listen_in(line.call_id, STANDARD):
        pass
    await line.switch(sideband={"keys": "ephemeral"})
    assert await line.refusal(STANDARD) == 404
    async with line.backend.listen_in(line.call_id, line.own_key):
        pass
    await line.switch()
    for headers in (STANDARD, line.own_key):
        async with line.backend.listen_in(line.call_id, headers):
            pass
    assert (await line.counters())["answers"]["sideband"] == {"101": 4, "404": 2}


async def test_a_call_is_found_late_and_not_after_its_end(line: Line) -> None:
    """It can take longer than the connection does; a call that was hung up is 404 for good."""
    alive_s = (await line.counters())["calls"][0]["live_s"]
    await line.switch(sideband={"live_after_s": alive_s + 0.5})
    assert await line.refusal() == 404
    async with await line.attach():
        assert (await line.counters())["calls"][0]["live_s"] >= alive_s + 0.5
    await line.switch()
    await line.backend.hang_up(line.call_id)
    assert await line.refusal() == 404


async def test_a_hangup_ends_the_call_for_everyone(line: Line) -> None:
    """At once the peer is closed and every sideband too; a second hangup finds nothing."""
    async with (
        line.backend.listen_in(line.call_id) as first,
        line.backend.listen_in(line.call_id) as second,
    ):
        assert await line.backend.hang_up(line.call_id) == (200, "")
        async with asyncio.timeout(3):
            await line.client.is_closed.wait()
            for socket in (first, second):
                closed = await socket.receive()
                assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1000)
    assert (await line.backend.hang_up(line.call_id))[0] == 404
    counted = await line.counters()
    assert counted["answers"]["hangup"] == {"200": 1, "404": 1}
    assert (counted["open"], counted["states"], counted["ends"]) == (0, {"ended": 1}, {"hangup": 1})
    (call,) = counted["calls"]
    assert (call["observers"], call["observers_most"]) == (0, 2)
    assert 0 < call["unobserved_s"] <= call["live_s"]


async def test_a_socket_can_be_cut(line: Line) -> None:
    """After so many events or seconds; then sidebands are refused for a while; the call goes on."""
    cut = {"cut_after_events": 2, "refuse_s": 0.5, "times": 1}
    await line.switch(sideband=cut)
    async with line.backend.listen_in(line.call_id) as socket:
        await socket.send_json(WRITE)
        kinds = [(await socket.receive()).type for _ in range(3)]
        assert kinds[:2] == [aiohttp.WSMsgType.TEXT] * 2
        assert kinds[2] in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
    assert await line.refusal() == 503
    async with await line.attach() as socket:
        await socket.send_json(WRITE)
        assert (await read_until(socket, DONE))[0]["type"] == "response.created"
    cut = {"cut_after_s": 0.05, "cut_code": 1011, "refuse_s": 600, "refuse_status": 404}
    await line.switch(sideband=cut)
    async with line.backend.listen_in(line.call_id) as socket:
        assert (await socket.receive(timeout=5)).data == 1011
    assert await line.refusal() == 404
    await line.client.wait_for(DONE, count=2)
    assert not line.client.is_closed.is_set()


async def test_events_come_twice_or_late(line: Line) -> None:
    """Late ones come after others, after the next attach, and at the latest with the hangup."""
    async with line.backend.listen_in(line.call_id) as socket:
        await line.switch(events={"again_s": 0, "times": 1})
        await socket.send_json(WRITE)
        once = (await read_until(socket, DONE))[-1]
        assert json.loads(await socket.receive_str(timeout=5)) == once

        await line.switch(events={"late_s": 0.3, "times": 1})
        await socket.send_json(WRITE)
        await socket.send_json(update(instructions="Hum."))
        events = await read_until(socket, DONE)
        assert "session.updated" in [event["type"] for event in events]

        await line.switch(
            events={"kind": "session.updated", "late_s": 0.5, "times": 1},
        )
        await socket.send_json(update(instructions="Whistle."))
        await line.client.wait_for("session.updated", count=2)
    async with line.backend.listen_in(line.call_id) as socket:
        assert json.loads(await socket.receive_str(timeout=5))["type"] == "session.updated"

        await line.switch(events={"late_s": 600})
        await socket.send_json(WRITE)
        await read_until(socket, "response.output_item.done")
        await line.backend.hang_up(line.call_id)
        assert (await read_until(socket, DONE))[-1]["response"]["usage"]
        assert (await socket.receive()).data == 1000


async def test_usage_is_what_a_test_wants(line: Line) -> None:
    """None of it, all of its parts, or given figures; what was said is kept for the reckoning."""
    given = {"total_tokens": 5, "input_tokens": 2, "output_tokens": 3}
    usages = []
    async with line.backend.listen_in(line.call_id) as socket:
        for said in ("zero", "null", "full", given):
            await line.switch(usage={"response": said})
            await socket.send_json(WRITE)
            usages.append((await read_until(socket, DONE))[-1]["response"]["usage"])
        await line.client.wait_for(DONE, count=4)
    assert (usages[0]["total_tokens"], usages[0]["input_token_details"]["text_tokens"]) == (0, 0)
    assert usages[1:] == [None, FULL_USAGE, given]
    seen = [event["response"] for event in line.client.events if event["type"] == DONE]
    assert [response["usage"] for response in seen] == usages
    bills = (await line.counters())["calls"][0]["bills"]
    assert bills == [
        {"kind": "response", "id": response["id"], "usage": response["usage"]} for response in seen
    ]


async def test_transcriptions_are_billed_as_their_model_is(line: Line) -> None:
    """Whisper by begun seconds, others by tokens; a fault changes that too."""
    usages = []
    async with line.backend.listen_in(line.call_id) as socket:
        for model, fault in (
            ("gpt-4o-transcribe", {}),
            ("whisper-1", {}),
            ("gpt-4o-transcribe", 1),
        ):
            await line.switch(**({"usage": {"transcription": "duration"}} if fault else {}))
            await socket.send_json(update(audio={"input": {"transcription": {"model": model}}}))
            for _ in range(2):
                await socket.send_json({"type": "input_audio_buffer.append", "audio": SECOND})
            await socket.send_json({"type": "input_audio_buffer.commit"})
            usages.append((await read_until(socket, TRANSCRIBED))[-1]["usage"])
    # What the silent microphone adds meanwhile is billed too.
    assert usages[0]["type"] == "tokens"
    assert usages[0]["input_tokens"] >= 20
    for usage in usages[1:]:
        assert usage == {"type": "duration", "seconds": max(2, usage["seconds"])}
    bills = (await line.counters())["calls"][0]["bills"]
    assert [(bill["kind"], bill["usage"]) for bill in bills] == [
        ("transcription", usage) for usage in usages
    ]


async def test_a_call_at_its_cap_says_so_to_observers(http: aiohttp.ClientSession) -> None:
    """They get session_expired and the close code 1001 with the same words."""
    async with Emulator(Options(greet=False)) as emulator, VoiceClient() as client:
        backend = AppBackend(http, emulator.url)
        await http.post(f"{emulator.url}/emulator/faults", json={"session": {"cap_s": 1.5}})
        call_id = await backend.connect(client)
        async with backend.listen_in(call_id) as socket:
            error = (await read_until(socket, "error"))[-1]["error"]
            closed = await socket.receive(timeout=5)
        assert (error["code"], error["type"]) == ("session_expired", "invalid_request_error")
        assert (closed.data, closed.extra) == (1001, error["message"])
        assert error["message"] == "Your session hit the maximum duration of 0.025 minutes."
        async with asyncio.timeout(3):
            await client.is_closed.wait()


async def test_a_socket_may_outlive_its_call(line: Line) -> None:
    """Then nothing tells the observer that the call has ended, and what it sends is lost."""
    await line.switch(sideband={"lingers": True})
    async with line.backend.listen_in(line.call_id) as socket:
        await line.backend.hang_up(line.call_id)
        await socket.send_json(WRITE)
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.2)
        assert (await line.counters())["sidebands"] == 1
