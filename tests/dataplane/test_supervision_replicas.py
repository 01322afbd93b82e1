"""`ringback up` with two workers of callkeeper that share their calls in Valkey."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from callsapi.v1.calls_pb2 import PHASE_ATTACHED, CallState, GetRequest, ListRequest
from helpers.supervised import Supervised, supervised
from helpers.valkey import ValkeyProcess
from helpers.voiceclient import VoiceClient
from helpers.waiting import until

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

MAX_DURATION_S = 9.0
LEASE_S = 2.0
WORKERS = ("callkeeper-0", "callkeeper-1")


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyProcess]:
    """What the workers share."""
    with ValkeyProcess() as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyProcess
) -> AsyncIterator[Supervised]:
    """Give a gateway with two workers of each service."""
    async with supervised(
        tmp_path_factory.mktemp("replicas"),
        workers=2,
        more={"store": {"url": valkey.url}},
        mode="required",
        store="valkey",
        lease_s=LEASE_S,
        max_duration_s=MAX_DURATION_S,
    ) as gateway:
        yield gateway


async def join(gateway: Supervised, client: VoiceClient) -> CallState:
    """Open a call, and return it once somebody listens to it."""
    answer = await gateway.open(client)
    assert answer.status_code == 201, answer.text
    await client.accept(answer.text)
    async with asyncio.timeout(20):
        while True:
            for call in (await gateway.calls.List(ListRequest())).calls:
                if call.phase == PHASE_ATTACHED:
                    return call
            await asyncio.sleep(0.05)


def keeper_of(gateway: Supervised, call: CallState) -> str:
    """Return which worker has taken a call last."""
    (found,) = [name for name in WORKERS if call.id in gateway.stack.logs(name)]
    return found


async def test_a_call_goes_on_when_its_worker_is_killed_and_ends_in_time(
    gateway: Supervised,
) -> None:
    """Its duration is counted from the answer, and so is what it has used."""
    opened = time.monotonic()
    async with VoiceClient() as client:
        call = await join(gateway, client)
        client.send({"type": "response.create"})
        await client.wait_for("response.done")
        # What is written down at once.
        await asyncio.sleep(0.3)
        os.kill(gateway.stack.pid_of(keeper_of(gateway, call)), signal.SIGKILL)
        # By the other one, or by who comes in the place of the one that died.
        logs = gateway.stack.logs
        await until(lambda: any("call_adopted" in logs(name) for name in WORKERS), LEASE_S + 3)
        await asyncio.wait_for(client.is_closed.wait(), MAX_DURATION_S + 5)
    assert MAX_DURATION_S - 1 < time.monotonic() - opened < MAX_DURATION_S + 5
    at_provider = await gateway.last_at_provider(state="ended")
    assert at_provider["ended_because"] == "hangup"
    ended = await gateway.calls.Get(GetRequest(call=call.id), wait_for_ready=True)
    assert ended.reason == "max_duration"
    assert ended.cost_microdollars > 0


async def test_without_the_store_no_call_begins(gateway: Supervised, valkey: ValkeyProcess) -> None:
    """The caller gets 503, and the call that the provider has answered is hung up."""
    valkey.kill()
    async with VoiceClient() as client:
        answer = await gateway.open(client)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "supervision_unavailable"
        ended = await gateway.last_at_provider(state="ended")
        assert ended["ended_because"] == "hangup"
    await asyncio.to_thread(valkey.start)
    async with VoiceClient() as client:
        await join(gateway, client)
