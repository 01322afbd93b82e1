import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from callsapi.v1.calls_pb2 import PHASE_ATTACHED, ListRequest, RevokeRequest
from helpers.charges import spent
from helpers.gateway import until
from helpers.postgres import Database
from helpers.supervised import Supervised, supervised
from helpers.voiceclient import VoiceClient
from helpers.webhooks import SECRET, Receiver, receiver

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

MAX_DURATION_S = 15.0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Supervised]:
    """Give a gateway whose calls have to be supervised and may last a short time."""
    folder = tmp_path_factory.mktemp("supervised")
    async with supervised(
        folder, mode="required", max_duration_s=MAX_DURATION_S, attach_s=5
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
async def test_a_call_is_metered_and_ends_when_its_time_is_over(
    gateway: Supervised, model: str
) -> None:
    """A call is known from its answer on, what it uses is counted, and it is hung up in time."""
    opened = time.time()
    async with VoiceClient() as client:
        call = await gateway.join(client, model)
        assert (call.phase, call.model) == (PHASE_ATTACHED, model)
        assert len(call.payer.key_hash) == 64
        listed = (await gateway.calls.List(ListRequest())).calls
        assert [each.id for each in listed] == [call.id]
        code, shown = await gateway.ringback("calls", "list")
        assert (code, shown.splitlines()[1].split()[0]) == (0, call.id)
        client.send({"type": "response.create"})
        done = await client.wait_for("response.done")
        await until(lambda: bool(gateway.named("call.usage", call)))

        ended = await gateway.end_of(call)
        assert ended.call.reason == "max_duration"
        assert MAX_DURATION_S - 1 < ended.at - opened < MAX_DURATION_S + 5
        await asyncio.wait_for(client.is_closed.wait(), 5)
        # What the browser was told was used, and nothing twice.
        told = [
            event["response"]["usage"]
            for event in client.events
            if event["type"] == "response.done"
        ]
        assert done["response"]["usage"] in told
        used = ended.call.usage
        assert used.audio_out + used.text_out == sum(usage["output_tokens"] for usage in told)
        if model == "gpt-realtime":
            # 64 dollars for a million audio tokens that were spoken, and something for the rest.
            assert ended.call.cost_microdollars > 64 * used.audio_out > 0
    assert list((await gateway.calls.List(ListRequest())).calls) == []


async def test_a_call_that_is_hung_up_by_its_caller_is_over(gateway: Supervised) -> None:
    """It is known here within moments."""
    async with VoiceClient() as client:
        call = await gateway.join(client)
    ended = await gateway.end_of(call)
    assert ended.call.reason == "ended_elsewhere"


@pytest.mark.parametrize("how", ["hang_up", "revoke_key"])
async def test_somebody_ends_a_call(gateway: Supervised, how: str) -> None:
    """An administrator ends a call, or all of a key: the browser's peer connection closes."""
    assert (await gateway.ringback("calls", "hangup", "another"))[0] == 1
    async with VoiceClient() as client:
        call = await gateway.join(client)
        if how == "hang_up":
            assert await gateway.ringback("calls", "hangup", call.id) == (0, "It is being ended.\n")
        else:
            answer = await gateway.calls.Revoke(RevokeRequest(key_hash=call.payer.key_hash))
            assert answer.calls == 1
        await asyncio.wait_for(client.is_closed.wait(), 5)
        assert (await gateway.end_of(call)).call.reason in {"admin", "revoked"}


@pytest.mark.parametrize(("status", "has_ended"), [(404, True), (401, False)])
async def test_a_call_that_cannot_be_found_again_has_ended(
    gateway: Supervised, status: int, *, has_ended: bool
) -> None:
    """404 to all credentials is the end, and made sure of; another refusal is waited out."""
    fault = {"cut_after_s": 0.5, "refuse_s": 2, "refuse_status": status}
    faults = f"{gateway.stack.emulator_url}/emulator/faults"
    assert (await gateway.http.post(faults, json={"sideband": fault})).is_success
    try:
        async with VoiceClient() as client:
            call = await gateway.join(client)
            if has_ended:
                assert (await gateway.end_of(call)).call.reason == "ended_elsewhere"
                await asyncio.wait_for(client.is_closed.wait(), 5)
            else:
                await until(lambda: len(gateway.named("call.attached", call)) > 1)
                assert gateway.named("call.ended", call) == []
    finally:
        await gateway.http.delete(faults)


async def test_a_call_that_never_comes_alive_is_hung_up(gateway: Supervised) -> None:
    """A sideband that cannot be attached in time costs a call that has to be supervised."""
    async with VoiceClient() as client:
        answer = await gateway.open(client)
        assert answer.status_code == 201
        assert (await gateway.last_at_provider())["state"] != "ended"
        ended = await gateway.last_at_provider(state="ended")
        assert ended["ended_because"] == "hangup"
        # The browser comes too late.
        await client.accept(answer.text)
        await asyncio.sleep(1)
        assert not client.is_connected.is_set()


@pytest.mark.parametrize("malformed", ["garbage", "empty"])
async def test_a_call_whose_answer_is_refused_is_hung_up(
    gateway: Supervised, malformed: str
) -> None:
    """It was registered while the answer was checked, and is ended by whoever keeps it."""
    before = len(gateway.named("call.ended"))
    faults = f"{gateway.stack.emulator_url}/emulator/faults"
    assert (await gateway.http.post(faults, json={"calls": {"malformed": malformed}})).is_success
    try:
        async with VoiceClient() as client:
            answer = await gateway.open(client)
            assert answer.status_code == 502
            assert "location" not in answer.headers
            await until(lambda: len(gateway.named("call.ended")) > before)
            assert gateway.named("call.ended")[-1].call.reason == "withheld"
            ended = await gateway.last_at_provider(state="ended")
            assert ended["ended_because"] == "hangup"
    finally:
        await gateway.http.delete(faults)


@pytest.mark.parametrize("how", ["hangs", "is down"])
async def test_without_callkeeper_no_answer_is_released(gateway: Supervised, how: str) -> None:
    """The caller gets 503, and the call that the provider has answered is hung up."""
    before = {call["call_id"] for call in await gateway.at_provider()}
    async with gateway.without_callkeeper(how), VoiceClient() as client:
        began = time.monotonic()
        answer = await gateway.open(client)
        assert time.monotonic() - began < 2
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "supervision_unavailable"
        assert answer.headers["retry-after"] == "1"
        assert "location" not in answer.headers
        ended = await gateway.last_at_provider(state="ended")
        assert ended["call_id"] not in before
        assert ended["ended_because"] == "hangup"
    assert (await gateway.last_at_provider())["call_id"] == ended["call_id"]


async def test_with_best_effort_calls_go_on_without_callkeeper(
    tmp_path: Path, database: Database
) -> None:
    """They are logged and counted; those that are known end by their limits, and are paid for.

    Webhook and collector are told what happens to them.
    """
    async with receiver() as told:
        sinks: dict[str, Any] = {
            "sinks": ["litellm"],
            "database_url": database.url,
            "webhook": {"url": f"{told.url}/hook", "secret": SECRET},
            "collector": {"url": told.url},
        }
        await check_best_effort(tmp_path, database, told, sinks)


async def check_best_effort(
    folder: Path, database: Database, told: Receiver, sinks: dict[str, Any]
) -> None:
    """Check the test above."""
    async with supervised(folder, mode="best_effort", idle_s=2, **sinks) as gateway:
        async with VoiceClient() as client:
            call = await gateway.join(client)
            ended = await gateway.end_of(call)
            assert ended.call.reason == "idle"
            assert spent(database, "LiteLLM_SpendLogs", "session_id") == {
                call.id: ended.call.cost_microdollars
            }
            await until(lambda: bool(told.named("call.ended")))
            names = [event["type"] for event in told.events if event["data"]["call"] == call.id]
            assert (names[0], names[-1]) == ("call.started", "call.ended")
            costs = [used["cost_microdollars"] for used in told.named("call.usage")]
            assert sum(costs) == ended.call.cost_microdollars
            assert told.named("call.ended")[0]["reason"] == "idle"
            await until(lambda: len(told.records) == len(told.events))
            await asyncio.wait_for(client.is_closed.wait(), 5)
        async with gateway.without_callkeeper("is down"), VoiceClient() as client:
            answer = await gateway.open(client)
            assert answer.status_code == 201
            await client.accept(answer.text)
            await asyncio.wait_for(client.is_connected.wait(), 20)
        assert '"event": "call_not_registered"' in gateway.stack.logs("sdpfilter-0")
