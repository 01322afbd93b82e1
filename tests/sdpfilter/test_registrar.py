import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from grpc import StatusCode

from callkeeper.calls import Reason
from callkeeper.slots import Scope
from envoyapi.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from helpers.callcounting import CallCounting, call_counting
from helpers.exchanges import ANSWER, OFFER, SEALER
from helpers.gateway import until
from helpers.procmessages import (
    CONSENT,
    CREATED,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from helpers.procstreams import Stub, converse, served
from ringback.calllimits import CallLimits
from ringback.sdppolicy import PolicySettings
from ringback.settings import ServiceSettings, SupervisionSettings
from sdpfilter.policies import Policies
from sdpfilter.registrar import Registrar
from sdpfilter.service import SDPFilter

Mode = Literal["best_effort", "auto", "required"]
SLOTS = "0123456789abcdef" * 2
# A request for whose call extauthz has taken slots.
HOLDING = request_headers(consent={**CONSENT, "slot_id": SLOTS})
BUSY = ((":status", b"503"), ("content-type", b"application/json"))
OFFERED, ANSWERED = request_body(OFFER), response_body(ANSWER)


@asynccontextmanager
async def registering(
    folder: Path, *, late_s: float = 0
) -> AsyncIterator[tuple[Stub, CallCounting]]:
    """Serve what tells callkeeper of calls; one call holds a slot under `SLOTS`."""
    async with call_counting(folder, late_s=late_s) as calls:
        await calls.slots.take(SLOTS, [Scope("key:1", 1)])
        registrar = Registrar(calls.settings(mode="best_effort"), ServiceSettings())
        service = SDPFilter(SEALER, Policies(PolicySettings()), registrar=registrar)
        async with served(service) as channel:
            await service.start()
            yield Stub(channel), calls
            await service.stop()


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([request_body(b"x")], id="offer-refused"),
        pytest.param([OFFERED], id="stream-ended"),
        pytest.param([OFFERED, response_headers(BUSY, end=True)], id="provider-busy"),
        pytest.param([OFFERED, response_headers(), response_body(b"x")], id="answer-refused"),
        pytest.param(
            [OFFERED, response_headers(CREATED[:2]), ANSWERED], id="nobody-can-control-the-call"
        ),
    ],
)
async def test_slots_of_a_call_that_is_not_opened_are_given_back(
    tmp_path: Path, messages: list[ProcessingRequest]
) -> None:
    """At once, whatever has become of the call."""
    async with registering(tmp_path) as (stub, calls):
        await converse(stub, [HOLDING, *messages])
        await until(lambda: calls.taken("key:1") == 0)


async def test_slots_are_given_back_when_the_caller_leaves(tmp_path: Path) -> None:
    """Envoy cancels the stream."""
    async with registering(tmp_path) as (stub, calls):
        call = stub.Process()
        for message in (HOLDING, OFFERED):
            await call.write(message)
            await call.read()
        assert calls.taken("key:1") == 1
        call.cancel()
        await until(lambda: calls.taken("key:1") == 0)


@pytest.mark.parametrize(
    ("mode", "is_required", "is_released"),
    [
        ("best_effort", None, True),
        ("best_effort", True, False),
        ("required", None, False),
        ("required", False, True),
        ("auto", None, False),
        ("auto", False, True),
    ],
)
async def test_a_call_says_whether_it_may_go_on_unsupervised(
    tmp_path: Path, mode: Mode, *, is_required: bool | None, is_released: bool
) -> None:
    """Its own decision goes before the settings, if callkeeper is down; `auto` fails closed."""
    nowhere = (f"unix:{tmp_path}/nowhere",)
    settings = SupervisionSettings(mode=mode, callkeeper=nowhere, extauthz=nowhere)
    registrar = Registrar(settings, ServiceSettings())
    limits = CallLimits(is_required).to_label()
    held = request_headers(consent={**CONSENT, "call_limits": limits})
    service = SDPFilter(SEALER, Policies(PolicySettings()), registrar=registrar)
    async with served(service) as channel:
        await service.start()
        answers, _ = await converse(Stub(channel), [held, OFFERED, response_headers(), ANSWERED])
        await service.stop()
    assert (answers[-1].WhichOneof("response") == "response_body") is is_released


async def test_slots_are_given_back_when_the_caller_leaves_at_the_last_moment(
    tmp_path: Path,
) -> None:
    """While callkeeper is told of the call, which it may not hear any more."""
    async with registering(tmp_path, late_s=0.5) as (stub, calls):
        call = stub.Process()
        for message in (HOLDING, OFFERED, response_headers()):
            await call.write(message)
            await call.read()
        await call.write(ANSWERED)
        await asyncio.sleep(0.1)
        assert calls.taken("key:1") == 1
        call.cancel()
        await until(lambda: calls.taken("key:1") == 0)


async def test_a_call_that_is_opened_holds_its_slots(tmp_path: Path) -> None:
    """It is registered under the id of its slots, and they are free once it is gone."""
    async with registering(tmp_path) as (stub, calls):
        answers, status = await converse(stub, [HOLDING, OFFERED, response_headers(), ANSWERED])
        assert (len(answers), status) == (4, StatusCode.OK)
        kept = calls.keeper.find(SLOTS)
        assert kept is not None
        await asyncio.sleep(0.1)
        assert calls.taken("key:1") == 1
        calls.keeper.end(kept, Reason.ADMIN)
        await calls.keeper._finish(kept)
        assert calls.taken("key:1") == 0
