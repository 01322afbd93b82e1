import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from callkeeper.model import Call, Usage
from callkeeper.prices import PricedDeployment
from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import (
    GetRequest,
    HangUpRequest,
    ListRequest,
    RegisterRequest,
    RevokeRequest,
    Scope,
    TakeRequest,
)
from helpers.gateway import until
from helpers.keptservice import DONE, LIMITS, REGISTER, done, running
from helpers.sidebandprovider import EPHEMERAL, STANDARD


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


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (HangUpRequest(), "admin"),
        (HangUpRequest(has_ended=True), "ended_elsewhere"),
        (HangUpRequest(was_withheld=True), "withheld"),
    ],
    ids=["admin", "caller", "sdpfilter"],
)
async def test_the_reason_says_who_hung_up(
    tmp_path: Path, request_: HangUpRequest, reason: str
) -> None:
    """Who calls ends calls elsewhere, and callkeeper is told of it."""
    async with running(tmp_path) as service:
        call = await service.calls.Register(REGISTER)
        await service.event("call.attached")
        request_.call = call.id
        await service.calls.HangUp(request_)
        assert (await service.event("call.ended")).call.reason == reason


async def test_a_call_that_is_not_there_holds_no_slot_while_it_is_hung_up(tmp_path: Path) -> None:
    """Its browser may still come, for a minute; then it is hung up within moments."""
    scopes = [Scope(name="key:1", limit=1)]
    first, second = "1" * 32, "2" * 32
    async with running(tmp_path, replace(LIMITS, attach_s=0.2)) as service:
        service.provider.is_live = False
        service.provider.hangups = [404] * 3
        await service.calls.Take(TakeRequest(id=first, scopes=scopes))
        request = RegisterRequest(id=first)
        request.MergeFrom(REGISTER)
        await service.calls.Register(request)
        assert (await service.calls.Take(TakeRequest(id=second, scopes=scopes))).full == "key:1"
        await until(lambda: service.provider.commands > 0)
        assert (await service.calls.Get(GetRequest(call=first))).phase == calls_pb2.PHASE_ENDING
        assert (await service.calls.Take(TakeRequest(id=second, scopes=scopes))).full == ""
        ended = await service.event("call.ended")
        assert (ended.call.reason, service.provider.has_ended) == ("not_attached", True)
        assert (await service.calls.Take(TakeRequest(id="3" * 32, scopes=scopes))).full == "key:1"


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
    ("standard", "ephemeral", "has_ended"),
    [
        # Realistic
        pytest.param(404, 404, True, id="gone"),
        pytest.param(404, 401, True, id="gone-and-the-key-has-expired"),
        pytest.param(401, 404, False, id="the-ephemeral-key-alone-does-not-find-it"),
        pytest.param(403, 404, False, id="likewise"),
        pytest.param(404, 503, False, id="the-ephemeral-key-might-find-it"),
        pytest.param(503, 404, False, id="nobody-could-look"),
    ],
)
async def test_only_what_the_standard_credential_does_not_find_has_ended(
    tmp_path: Path, standard: int, ephemeral: int, *, has_ended: bool
) -> None:
    """A call that was there and is 404 has ended; whatever else is refused may still go on."""
    async with running(tmp_path, replace(LIMITS, unattached_s=10)) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        service.provider.refusals = {STANDARD: standard, EPHEMERAL: ephemeral}
        await service.provider.drop()
        await service.event("call.lost")
        if has_ended:
            assert (await service.event("call.ended")).call.reason == "ended_elsewhere"
            return
        await asyncio.sleep(0.6)
        service.provider.refusals = {}
        await service.event("call.attached", count=2)
        assert service.provider.commands == 0


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


async def test_without_room_for_what_it_costs_no_call_begins(tmp_path: Path) -> None:
    """A spool that is full keeps new calls away; those that are kept go on, and are known again."""
    full = [False]
    async with running(tmp_path, is_full=lambda: full[0]) as service:
        first = await service.calls.Register(REGISTER)
        full[0] = True
        assert (await service.calls.Register(REGISTER)).id == first.id
        another = RegisterRequest()
        another.CopyFrom(REGISTER)
        another.upstream_call_id = "rtc_2"
        with pytest.raises(aio.AioRpcError, match="give supervision") as caught:
            await service.calls.Register(another)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len((await service.calls.List(ListRequest())).calls) == 1


async def test_with_best_effort_a_full_spool_keeps_nobody_away(tmp_path: Path) -> None:
    """What the call costs may be lost."""
    limits = replace(LIMITS, is_required=False)
    async with running(tmp_path, limits, is_full=lambda: True) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")


async def test_a_long_answer_is_not_cut_off(tmp_path: Path) -> None:
    """The silence begins when the model has ceased to speak."""
    async with running(tmp_path, replace(LIMITS, idle_s=0.3)) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.provider.send({"type": "output_audio_buffer.started"})
        await asyncio.sleep(0.6)
        (state,) = (await service.calls.List(ListRequest())).calls
        assert (state.phase, state.idle_ends_at) == (calls_pb2.PHASE_ATTACHED, 0)
        ceased = time.time()
        await service.provider.send({"type": "output_audio_buffer.stopped"})
        ended = await service.event("call.ended")
        assert ended.call.reason == "idle"
        assert 0.25 < ended.at - ceased < 5
