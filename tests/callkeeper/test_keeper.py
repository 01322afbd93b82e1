import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from callkeeper.calls import Limits
from callkeeper.egress import Egress
from callkeeper.keeper import Keeper
from callkeeper.kept import Charge
from callkeeper.model import Call, Usage
from callkeeper.news import News
from callkeeper.prices import PricedDeployment
from callkeeper.reach import Reaches
from callkeeper.service import CallKeeper
from callkeeper.slots import MemorySlots
from callkeeper.way import listener_way
from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import (
    Event,
    GetRequest,
    HangUpRequest,
    ListRequest,
    Payer,
    RegisterRequest,
    RevokeRequest,
    WatchRequest,
)
from callsapi.v1.calls_pb2_grpc import (
    CallsStub,
    UpstreamsStub,
    add_CallsServicer_to_server,
    add_UpstreamsServicer_to_server,
)
from helpers.gateway import until
from helpers.sidebandprovider import (
    EPHEMERAL,
    STANDARD,
    ReachTeller,
    SidebandProvider,
    sideband_provider,
)
from ringback.grpcpeers import Peers

LIMITS = Limits(is_required=True, attach_s=1, unattached_s=1, max_duration_s=30)
REGISTER = RegisterRequest(
    handle="rtc_handle",
    deployment="voice-1",
    origin="https://provider.example",
    upstream_call_id="rtc_1",
    model="voice",
    payer=Payer(key_hash="f" * 64, team_id="web"),
    token_id="token-1",
    request_id="request-1",
    sealed_key="sealed",
)


def done(response: str) -> dict[str, Any]:
    """Return the event of a response."""
    usage = {"input_tokens": 3, "output_tokens": 4}
    return {"type": "response.done", "response": {"id": response, "usage": usage}}


DONE = done("resp_1")


@dataclass
class Running:
    """A service that keeps calls, what it asks, and what it has told."""

    calls: CallsStub
    provider: SidebandProvider
    extauthz: ReachTeller
    extauthz_server: aio.Server
    events: list[Event]

    async def event(self, name: str, *, count: int = 1) -> Event:
        """Return an event once it has come so often."""
        await until(lambda: len(self._named(name)) >= count, 10)
        return self._named(name)[count - 1]

    def _named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]


@asynccontextmanager
async def running(
    folder: Path,
    limits: Limits = LIMITS,
    charge: Charge = lambda _call, _usage, _pricing: 0,
) -> AsyncIterator[Running]:
    """Run the service on a socket, with a provider and somebody in extauthz's place."""
    async with sideband_provider() as provider:
        teller, teller_server, server = ReachTeller(), aio.server(), aio.server()
        add_UpstreamsServicer_to_server(teller, teller_server)
        teller_server.add_insecure_port(f"unix:{folder}/extauthz")
        await teller_server.start()
        extauthz = Peers([f"unix:{folder}/extauthz"], UpstreamsStub)
        egress, news = Egress(listener_way(provider.url)), News()
        slots = MemorySlots()
        keeper = Keeper(limits, Reaches(extauthz), egress, news, charge, slots=slots)
        service = CallKeeper(keeper, news, egress, extauthz, slots=slots)
        add_CallsServicer_to_server(service, server)
        server.add_insecure_port(f"unix:{folder}/callkeeper")
        await server.start()
        await service.start()
        async with aio.insecure_channel(f"unix:{folder}/callkeeper") as channel:
            stub, events = CallsStub(channel), list[Event]()
            stream = stub.Watch(WatchRequest())
            await stream.initial_metadata()
            watching = asyncio.create_task(_collect(stream, events))
            yield Running(stub, provider, teller, teller_server, events)
            await service.drain()
            await asyncio.wait_for(watching, 5)
        await server.stop(None)
        await service.stop()
        await teller_server.stop(None)


async def _collect(stream: Any, events: list[Event]) -> None:
    async for event in stream:
        events.append(event)  # noqa: PERF401  each as it comes


async def test_a_call_is_registered_once(tmp_path: Path) -> None:
    """Who registers again gets the same id; a call is found by its id and its handle."""
    async with running(tmp_path) as service:
        first = await service.calls.Register(REGISTER)
        assert (await service.calls.Register(REGISTER)).id == first.id
        await service.event("call.attached")
        for name in (first.id, "rtc_handle"):
            state = await service.calls.Get(GetRequest(call=name))
            assert (state.id, state.phase) == (first.id, calls_pb2.PHASE_ATTACHED)
        assert len((await service.calls.List(ListRequest())).calls) == 1
        assert len(service.provider.sockets) == 1


@pytest.mark.parametrize("name", ["handle", "deployment", "upstream_call_id", "payer"])
async def test_what_cannot_be_kept_is_not_taken_on(tmp_path: Path, name: str) -> None:
    """A call without what names it is refused."""
    request = RegisterRequest()
    request.CopyFrom(REGISTER)
    request.ClearField(name)  # type: ignore[arg-type]  # one of a message's own names
    async with running(tmp_path) as service:
        with pytest.raises(aio.AioRpcError) as caught:
            await service.calls.Register(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_ephemeral_key_comes_second(tmp_path: Path) -> None:
    """If the standard credential finds no call, the call's own key is tried, in the same breath."""
    async with running(tmp_path) as service:
        service.provider.accepts = (EPHEMERAL,)
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        assert service.provider.attempts == [STANDARD, EPHEMERAL]


async def test_a_call_that_is_not_live_yet_is_tried_again(tmp_path: Path) -> None:
    """404 is no end before the first attach."""
    async with running(tmp_path, replace(LIMITS, attach_s=10)) as service:
        service.provider.is_live = False
        await service.calls.Register(REGISTER)
        await until(lambda: len(service.provider.attempts) >= 4)
        service.provider.is_live = True
        await service.event("call.attached")
        assert service.provider.commands == 0


async def test_usage_is_counted_once_and_priced(tmp_path: Path) -> None:
    """Of a repeated event nothing is charged; what is no event is passed over."""
    charged: list[Usage] = []

    def charge(_call: Call, usage: Usage, pricing: PricedDeployment | None) -> int:
        assert pricing is not None
        assert (pricing.provider, pricing.model) == ("openai", "gpt-realtime")
        charged.append(usage)
        return 60

    limits = replace(LIMITS, max_cost_microdollars=100)
    async with running(tmp_path, limits, charge) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        for event in ("no JSON", '{"type":"response.done"', [1], DONE, DONE):
            await service.provider.send(event if isinstance(event, str) else json.dumps(event))
        used = await service.event("call.usage")
        assert (used.call.usage.text_in, used.call.usage.text_out) == (3, 4)
        assert used.call.cost_microdollars == 60

        await service.provider.send(done("resp_2"))
        ended = await service.event("call.ended")
        assert (ended.call.reason, ended.call.cost_microdollars) == ("max_cost", 120)
        assert [usage.id for usage in charged] == ["resp_1", "resp_2"]
        assert service.provider.has_ended


async def test_a_lost_sideband_is_attached_again(tmp_path: Path) -> None:
    """The call stays, and what is used afterwards counts."""
    async with running(tmp_path) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.provider.drop()
        await service.event("call.lost")
        await service.event("call.attached", count=2)
        await service.provider.send(DONE)
        await service.event("call.usage")
        assert service.provider.commands == 0


async def test_a_sideband_that_stays_away_costs_the_call(tmp_path: Path) -> None:
    """With `required` a call that was lost for too long is hung up."""
    async with running(tmp_path) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        service.provider.refusal = 503
        await service.provider.drop()
        ended = await service.event("call.ended")
        assert (ended.call.reason, service.provider.has_ended) == ("unattached", True)


async def test_a_hangup_is_repeated_until_it_is_confirmed(tmp_path: Path) -> None:
    """Whatever the provider answers before; the credentials are the last that were known."""
    async with running(tmp_path) as service:
        call = await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.extauthz_server.stop(None)
        service.provider.hangups = [503, 401, 500]
        await service.calls.HangUp(HangUpRequest(call=call.id))
        ended = await service.event("call.ended")
        assert (ended.call.reason, service.provider.commands) == ("admin", 4)
        with pytest.raises(aio.AioRpcError) as caught:
            await service.calls.HangUp(HangUpRequest(call=call.id))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_call_that_has_ended_is_let_go(tmp_path: Path) -> None:
    """404 after the sideband was there is the end; a hangup makes sure of it."""
    async with running(tmp_path) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        service.provider.has_ended = True
        await service.provider.drop()
        ended = await service.event("call.ended")
        assert (ended.call.reason, service.provider.commands) == ("ended_elsewhere", 1)


@pytest.mark.parametrize(
    ("request_", "calls"),
    [
        (RevokeRequest(token_id="token-1"), 1),
        (RevokeRequest(key_hash="f" * 64), 1),
        (RevokeRequest(token_id="another"), 0),
    ],
    ids=["token", "key", "another"],
)
async def test_revocation_ends_the_calls_of_a_token_or_key(
    tmp_path: Path, request_: RevokeRequest, calls: int
) -> None:
    """Those of others go on."""
    async with running(tmp_path) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        assert (await service.calls.Revoke(request_)).calls == calls
        if calls:
            assert (await service.event("call.ended")).call.reason == "revoked"
        assert service.provider.has_ended is bool(calls)


async def test_best_effort_leaves_a_call_without_sideband(tmp_path: Path) -> None:
    """Only what ends every call ends it."""
    limits = replace(LIMITS, is_required=False, attach_s=0.1, max_duration_s=1.5)
    async with running(tmp_path, limits) as service:
        service.extauthz.refuses = grpc.StatusCode.UNAVAILABLE
        await service.calls.Register(REGISTER)
        await asyncio.sleep(0.7)
        assert len((await service.calls.List(ListRequest())).calls) == 1
        service.extauthz.refuses = None
        service.provider.is_live = False
        await until(lambda: service.provider.commands > 0, 10)


async def test_the_end_of_a_call_is_told_afterwards(tmp_path: Path) -> None:
    """By its handle, with reason and time; a hangup finds it no more."""
    async with running(tmp_path) as service:
        began = time.time()
        call = await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.calls.HangUp(HangUpRequest(call=call.id))
        await service.event("call.ended")
        state = await service.calls.Get(GetRequest(call=REGISTER.handle))
        assert (state.id, state.phase) == (call.id, calls_pb2.PHASE_ENDED)
        assert (state.reason, state.handle) == ("admin", REGISTER.handle)
        assert began < state.opened_at < state.ended_at < time.time()
        assert list((await service.calls.List(ListRequest())).calls) == []
        assert list((await service.calls.List(ListRequest(with_ended=True))).calls) == [state]
        with pytest.raises(aio.AioRpcError) as caught:
            await service.calls.HangUp(HangUpRequest(call=call.id))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_calls_are_listed_by_who_pays(tmp_path: Path) -> None:
    """Those of one key or one token, and the latest of many."""
    async with running(tmp_path, replace(LIMITS, is_required=False)) as service:
        ids = {}
        for name, key, token in (("a", "1", "t1"), ("b", "1", "t2"), ("c", "2", "t3")):
            request = RegisterRequest()
            request.CopyFrom(REGISTER)
            request.handle = request.upstream_call_id = f"rtc_{name}"
            request.payer.key_hash, request.token_id = key * 64, token
            ids[(await service.calls.Register(request)).id] = name

        async def listed(**wanted: Any) -> str:
            calls = (await service.calls.List(ListRequest(**wanted))).calls
            return "".join(ids[call.id] for call in calls)

        assert await listed() == "abc"
        assert await listed(key_hash="1" * 64) == "ab"
        assert await listed(key_hash="1" * 64, token_id="t2") == "b"
        assert await listed(key_hash="2" * 64, token_id="t2") == ""
        assert await listed(limit=2) == "bc"


async def test_what_is_left_of_limits_is_told(tmp_path: Path) -> None:
    """When the call ends at the latest, and when unless somebody speaks; what it may cost."""
    limits = replace(LIMITS, idle_s=20, max_cost_microdollars=5)
    async with running(tmp_path, limits) as service:
        await service.calls.Register(REGISTER)
        state = (await service.event("call.attached")).call
        assert state.ends_at == state.opened_at + 30
        assert 20 < state.idle_ends_at - state.opened_at < 25
        assert state.max_cost_microdollars == 5
        assert (state.handle, state.ended_at) == ("", 0)
