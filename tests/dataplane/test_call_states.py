import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from callsapi.v1.calls_pb2 import HangUpRequest
from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.gateway import CallerAt, bearer
from helpers.http11 import Message, request_bytes, send
from helpers.supervised import CALLS, Supervised, supervised
from helpers.upprocess import RINGBACK
from helpers.voiceclient import VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Command:
    """A command that goes on until it is interrupted."""

    process: asyncio.subprocess.Process

    async def line(self, *words: str) -> str:
        """Return the next line of its output that has all these words."""
        assert self.process.stdout is not None
        passed = []
        async with asyncio.timeout(20):
            while line := (await self.process.stdout.readline()).decode():
                if all(word in line for word in words):
                    return line
                passed.append(line)
        raise AssertionError(words, passed)

    async def interrupt(self) -> int:
        """Press Ctrl-C, and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), 10)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervised]:
    """Give a gateway whose calls have to be supervised, and have limits that none will reach."""
    folder = tmp_path_factory.mktemp("states")
    limits: dict[str, Any] = {"max_duration_s": 300, "idle_s": 200, "max_cost": 5}
    async with supervised(folder, mode="required", **limits) as gateway:
        yield gateway


async def look(gateway: Supervised, credential: str | None, path: str = CALLS) -> Message:
    """Ask as a page would."""
    lines = [("origin", ORIGIN), *([bearer(credential)] if credential else [])]
    return await send(gateway.port, request_bytes("GET", path, lines))


async def seen(gateway: Supervised, credential: str, path: str) -> dict[str, Any]:
    """Return what an owner is told."""
    answer = await look(gateway, credential, path)
    assert answer.status == 200, answer.raw
    check_readable(answer)
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
async def test_owners_see_how_a_call_goes_on_and_ends(gateway: Supervised, model: str) -> None:
    """Key and token see a call begin, cost something, and end for a reason."""
    caller = CallerAt(gateway.port)
    token = await caller.token(model, key=gateway.key)
    other = await caller.token(model, key=gateway.key)
    async with VoiceClient() as client:
        answer = await caller.call(token, offer=(await client.offer()).encode())
        location = str(answer.header("location"))
        handle = location.rpartition("/")[2]
        begun = await seen(gateway, token, location)
        assert (begun["id"], begun["model"], begun["reason"]) == (handle, model, None)
        assert begun["state"] in {"opened", "attached"}
        assert begun["cost"] == 0
        assert 290 < begun["left"]["duration_s"] <= 300
        assert begun["left"]["cost"] == 5
        call = await gateway.joined(client, answer.body.decode())
        client.send({"type": "response.create"})
        done = await client.wait_for("response.done")
        used = await gateway.event("call.usage", call)

        for prefix in ("/v1/realtime", "/realtime", "/openai/v1/realtime"):
            shown = await seen(gateway, gateway.key, f"{prefix}/calls/{handle}")
            assert shown["state"] == "attached"
            assert shown["cost"] == used.call.cost_microdollars / 1_000_000
            assert shown["left"]["cost"] == pytest.approx(5 - shown["cost"])
            # The model is still speaking.
            assert shown["left"]["idle_s"] is None
        told = done["response"]["usage"]
        assert shown["usage"]["input_tokens"] >= told["input_tokens"]
        assert shown["usage"]["output_tokens"] >= told["output_tokens"] > 0
        (listed,) = (await seen(gateway, token, CALLS))["data"]
        assert listed["id"] == handle
        assert (await seen(gateway, other, CALLS))["data"] == []
        check_refusal(await look(gateway, other, location), 404, "call_id_not_found")
        check_refusal(await look(gateway, None, location), 401, "key_missing")

        assert (await caller.hang_up(location, key=gateway.key)).status == 200
        await gateway.end_of(call)
    ended = await seen(gateway, token, location)
    assert (ended["state"], ended["reason"]) == ("ended", "ended_elsewhere")
    assert ended["cost"] >= shown["cost"]
    assert ended["duration_s"] == pytest.approx(ended["ended_at"] - ended["opened_at"], abs=0.2)
    assert set(ended["left"].values()) == {None}
    latest, *_ = (await seen(gateway, gateway.key, CALLS))["data"]
    assert latest == ended


@asynccontextmanager
async def command(gateway: Supervised, *arguments: str) -> AsyncIterator[Command]:
    """Run ``ringback calls`` with its output in a pipe."""
    words = [RINGBACK, "calls", *arguments, "--address", gateway.address]
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(*words, **pipes)  # type: ignore[arg-type]  # of pipes
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_operators_see_calls_come_and_go(gateway: Supervised) -> None:
    """A table that is drawn again every second, and a line for whatever happens."""
    async with command(gateway, "list", "--live") as table, command(gateway, "watch") as watch:
        await table.line("No call is open.")
        await watch.line("Nothing is missed from here on")
        async with VoiceClient() as client:
            call = await gateway.join(client)
            await watch.line("call.started", call.id)
            await watch.line("call.attached", call.id)
            await table.line("CALL", "AGE", "LEFT", "STATE", "MODEL", "KEY", "TOKENS", "COST")
            first = await table.line(call.id, "attached", "gpt-realtime", " idle ")
            assert await table.line(call.id) != first
            client.send({"type": "response.create"})
            await watch.line("call.usage", call.id, "tokens")
            used = await gateway.event("call.usage", call)
            await table.line(call.id, f"${used.call.cost_microdollars / 1e6:.4f}")
            await gateway.calls.HangUp(HangUpRequest(call=call.id))
            await watch.line("call.ended", call.id, "admin")
            await table.line("No call is open.")
        assert await table.interrupt() == await watch.interrupt() == 0


async def test_questions_take_no_place_of_calls(gateway: Supervised) -> None:
    """However many ask while callkeeper hangs: some wait, the others are refused at once."""
    caller = CallerAt(gateway.port)
    token = await caller.token("gpt-realtime", key=gateway.key)
    async with gateway.without_callkeeper("hangs"), VoiceClient() as client:
        offer = (await client.offer()).encode()
        asked = [asyncio.create_task(look(gateway, token)) for _ in range(100)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        answer = await caller.call(token, offer=offer)
        # sdpfilter could not register it.
        check_refusal(answer, 503, "supervision_unavailable")
        codes = [(await each).error["code"] for each in asked]
    assert set(codes) == {"overloaded", "call_states_unavailable"}
    assert codes.count("call_states_unavailable") >= 32


# From here on callkeeper ends, and with it what the gateway of these tests is told.


@pytest.mark.parametrize("how", ["hangs", "is down"])
async def test_without_callkeeper_nobody_can_tell(gateway: Supervised, how: str) -> None:
    """503 within moments for whoever may ask; others still learn nothing."""
    async with gateway.without_callkeeper(how):
        answer = await look(gateway, gateway.key)
        check_refusal(answer, 503, "call_states_unavailable")
        assert answer.header("retry-after") == "1"
        check_refusal(await look(gateway, None), 401, "key_missing")


async def test_who_watches_learns_that_callkeeper_ends(gateway: Supervised) -> None:
    """And who asks then, that nobody answers; both are errors."""
    async with command(gateway, "watch") as watch:
        await watch.line("Nothing is missed from here on")
        async with gateway.without_callkeeper("is down"), command(gateway, "list") as table:
            await watch.line("callkeeper has ended.")
            assert await watch.process.wait() == 1
            await table.line("callkeeper cannot be asked: unavailable.")
            assert await table.process.wait() == 1
