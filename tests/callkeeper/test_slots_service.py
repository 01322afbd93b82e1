from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import StatusCode, aio

from callkeeper.calls import Reason
from callsapi.v1.calls_pb2 import (
    Payer,
    RegisterRequest,
    ReleaseRequest,
    Scope,
    TakeRequest,
    TakeResponse,
)
from callsapi.v1.calls_pb2_grpc import CallsStub
from helpers.callcounting import CallCounting, call_counting
from ringback.secrets import Secret
from ringback.settings.store import StoreSettings
from ringback.valkey import Valkey

ID, OTHER_ID = "0123456789abcdef" * 2, "f" * 32
KEY = Scope(name="key:1", limit=1)
REGISTER = RegisterRequest(
    handle="rtc_handle",
    deployment="voice-1",
    upstream_call_id="rtc_1",
    payer=Payer(key_hash="f" * 64),
    id=ID,
)


@asynccontextmanager
async def asked(folder: Path) -> AsyncIterator[tuple[CallCounting, CallsStub]]:
    """Run callkeeper, and give what asks it."""
    async with call_counting(folder) as calls, aio.insecure_channel(calls.address) as channel:
        yield calls, CallsStub(channel)


async def take(stub: CallsStub, call_id: str) -> TakeResponse:
    """Ask for the one slot of the key."""
    return await stub.Take(TakeRequest(id=call_id, scopes=[KEY]))


async def test_a_call_holds_its_slots_from_before_its_answer_to_its_end(tmp_path: Path) -> None:
    """It is registered under their id; nobody else gets or frees them in between."""
    async with asked(tmp_path) as (calls, stub):
        assert (await take(stub, ID)).full == ""
        assert (await take(stub, OTHER_ID)).full == KEY.name
        assert (await stub.Register(REGISTER)).id == ID
        await stub.Release(ReleaseRequest(id=ID))
        assert (await take(stub, OTHER_ID)).full == KEY.name
        kept = calls.keeper.find(ID)
        assert kept is not None
        calls.keeper.end(kept, Reason.ADMIN)
        await calls.keeper._finish(kept)
        assert (await take(stub, OTHER_ID)).full == ""
        await stub.Release(ReleaseRequest(id=OTHER_ID))
        assert calls.taken(KEY.name) == 0


@pytest.mark.parametrize("call_id", [ID, "rtc_1", OTHER_ID.upper()], ids=["taken", "none", "odd"])
async def test_an_id_is_of_one_call(tmp_path: Path, call_id: str) -> None:
    """Another call with it is not taken on, nor one whose id is none."""
    async with asked(tmp_path) as (_, stub):
        await stub.Register(REGISTER)
        second = RegisterRequest()
        second.CopyFrom(REGISTER)
        second.upstream_call_id, second.id = "rtc_2", call_id
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Register(second)
        assert caught.value.code() is StatusCode.INVALID_ARGUMENT


async def test_slots_are_taken_under_an_id(tmp_path: Path) -> None:
    """Nothing else names a call."""
    async with asked(tmp_path) as (_, stub):
        with pytest.raises(aio.AioRpcError) as caught:
            await take(stub, "")
        assert caught.value.code() is StatusCode.INVALID_ARGUMENT


async def test_a_store_that_is_away_is_no_worker_that_is_down(tmp_path: Path) -> None:
    """Another worker would ask the same store, so nobody is told to try one."""
    valkey = Valkey(StoreSettings(url=Secret("redis://127.0.0.1:1")))
    async with (
        call_counting(tmp_path, valkey) as calls,
        aio.insecure_channel(calls.address) as channel,
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await take(CallsStub(channel), ID)
        assert caught.value.code() is StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "the store cannot be asked"
    await valkey.close()
