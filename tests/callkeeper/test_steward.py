import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from callkeeper.steward import Steward
from callkeeper.warning import WarnAs, Warnings
from callsapi.v1.calls_pb2 import RegisterRequest
from helpers.gateway import until
from helpers.keptservice import LIMITS, REGISTER, Running, done, running
from ringback.sessionlock import parse_lock

LOCK = {"instructions": "Help.", "audio": {"output": {"voice": "marin"}}}
GOOD = {"type": "realtime", **LOCK}


def locked(lock: str = parse_lock(LOCK).to_json()) -> RegisterRequest:
    """Return the registration of a call with a session lock."""
    request = RegisterRequest(session_lock=lock)
    request.MergeFrom(REGISTER)
    return request


def updates(service: Running) -> list[dict[str, Any]]:
    """Return the sessions that the provider was asked for, without what only asks."""
    asked = [event["session"] for event in service.provider.heard if "session" in event]
    return [session for session in asked if session.keys() != {"type"}]


async def test_a_changed_session_is_put_back_until_it_was_changed_too_often(
    tmp_path: Path,
) -> None:
    """Each time at once; with the last one the call ends."""
    async with running(tmp_path, steward=Steward(max_violations=3)) as service:
        service.provider.session = GOOD
        await service.calls.Register(locked())
        await until(lambda: len(service.provider.heard) == 1)
        assert service.provider.heard[0]["session"] == {"type": "realtime"}
        for number in (1, 2):
            await service.provider.update(instructions="Do as I say.")
            await until(lambda number=number: len(updates(service)) == number)  # type: ignore[misc]
            await until(lambda: service.provider.session == GOOD)
        assert updates(service) == [{"type": "realtime", "instructions": "Help."}] * 2
        await service.provider.update(instructions="Do as I say.")
        ended = await service.event("call.ended")
        assert ended.call.reason == "policy_violation"
        assert service.provider.has_ended


async def test_a_provider_that_writes_otherwise_is_corrected_once(tmp_path: Path) -> None:
    """What it shows to our own correction is how it writes it."""
    async with running(tmp_path) as service:
        service.provider.write = lambda session: (
            session | {"instructions": session.get("instructions", "").upper()}
        )
        service.provider.session = service.provider.write(GOOD)
        await service.calls.Register(locked())
        await until(lambda: len(updates(service)) == 1)
        await asyncio.sleep(3.5)
        for speed in (1.1, 1.2):
            await service.provider.update(speed=speed)
        await asyncio.sleep(0.2)
        assert len(updates(service)) == 1
        assert service.named("call.ended") == []


async def test_an_attached_sideband_looks_again(tmp_path: Path) -> None:
    """What was changed while nobody listened is put back."""
    async with running(tmp_path) as service:
        service.provider.session = GOOD
        await service.calls.Register(locked())
        await until(lambda: len(service.provider.heard) == 1)
        service.provider.session = {**GOOD, "instructions": "Do as I say."}
        await service.provider.drop()
        await until(lambda: service.provider.session == GOOD)


async def test_without_a_lock_nothing_is_said(tmp_path: Path) -> None:
    """A caller may change its session as it likes."""
    async with running(tmp_path) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.provider.update(instructions="Do as I say.")
        await asyncio.sleep(0.2)
        assert service.provider.heard == []


async def test_a_lock_that_makes_no_sense_keeps_the_call_away(tmp_path: Path) -> None:
    """Nobody could hold it."""
    async with running(tmp_path) as service:
        for lock in ("no JSON", "[]", '{"model":"x"}'):
            with pytest.raises(aio.AioRpcError) as caught:
                await service.calls.Register(locked(lock))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("told_as", "kind"),
    [("item", "conversation.item.create"), ("response", "response.create"), ("event", None)],
)
async def test_a_call_is_warned_once_before_its_end(
    tmp_path: Path, told_as: WarnAs, kind: str | None
) -> None:
    """In time, in the way that is set, and those who watch hear of it."""
    limits = replace(LIMITS, max_duration_s=2)
    steward = Steward(Warnings(before_s=1.5, told_as=told_as))
    async with running(tmp_path, limits, steward=steward) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.warning")
        ended = await service.event("call.ended")
        assert ended.call.reason == "max_duration"
        assert len(service.named("call.warning")) == 1
        assert 0.8 < ended.at - service.named("call.warning")[0].at < 1.8
        assert [event["type"] for event in service.provider.heard] == ([kind] if kind else [])


async def test_a_call_that_has_cost_much_is_warned(tmp_path: Path) -> None:
    """From the part of its highest cost on that is set."""
    limits = replace(LIMITS, max_cost_microdollars=100)
    steward = Steward(Warnings(cost_share=0.5))
    async with running(tmp_path, limits, lambda *_: 30, steward) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.provider.send(done("resp_1"))
        await service.event("call.usage")
        assert service.named("call.warning") == []
        await service.provider.send(done("resp_2"))
        await service.event("call.warning")
        await service.provider.send(done("resp_3"))
        await service.event("call.usage", count=3)
        assert len(service.named("call.warning")) == 1


async def test_a_spoken_warning_waits_until_the_model_is_silent(tmp_path: Path) -> None:
    """A conversation has one response at a time."""
    limits = replace(LIMITS, max_duration_s=5)
    steward = Steward(Warnings(before_s=4.5, told_as="response"))
    async with running(tmp_path, limits, steward=steward) as service:
        await service.calls.Register(REGISTER)
        await service.event("call.attached")
        await service.provider.send({"type": "response.created", "response": {"id": "resp_1"}})
        await asyncio.sleep(1)
        assert service.provider.heard == []
        await service.provider.send({"type": "response.done", "response": {"id": "resp_1"}})
        await until(lambda: len(service.provider.heard) == 1)
        assert service.provider.heard[0]["type"] == "response.create"
