import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from grpc import StatusCode, aio

from callkeeper.calls import Reason
from callkeeper.slots import Scope
from callsapi.v1.calls_pb2 import EndCallRequest, EndCallResponse
from callsapi.v1.calls_pb2_grpc import UpstreamsServicer, add_UpstreamsServicer_to_server
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


class EndedCalls(UpstreamsServicer):
    """Takes for ended what it is told to end."""

    def __init__(self) -> None:
        self.handles: list[str] = []

    async def EndCall(
        self,
        request: EndCallRequest,
        context: aio.ServicerContext[EndCallRequest, EndCallResponse],  # noqa: ARG002  of gRPC
    ) -> EndCallResponse:
        """End a call."""
        self.handles.append(request.handle)
        return EndCallResponse()


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


@pytest.mark.parametrize(
    ("body", "late_s"),
    [
        pytest.param(None, 0, id="caller-leaves"),
        pytest.param(None, 0.5, id="caller-leaves-meanwhile"),
        pytest.param(ANSWERED, 0.5, id="caller-leaves-at-the-last-moment"),
        pytest.param(response_body(b"x"), 0, id="refused"),
        pytest.param(response_body(b"x"), 0.5, id="refused-meanwhile"),
    ],
)
async def test_a_call_whose_answer_is_not_released_is_ended(
    tmp_path: Path, body: ProcessingRequest | None, late_s: float
) -> None:
    """It is refused, or the caller leaves: whoever keeps the call then hangs it up."""
    async with registering(tmp_path, late_s=late_s) as (stub, calls):
        call = stub.Process()
        for message in (HOLDING, OFFERED, response_headers()):
            await call.write(message)
            await call.read()
        if body is not None:
            await call.write(body)
            if body is not ANSWERED:
                await call.read()
        call.cancel()
        await until(lambda: calls.keeper.find(SLOTS) is not None)
        kept = calls.keeper.find(SLOTS)
        assert kept is not None
        await until(lambda: kept.state.reason is Reason.WITHHELD)
        # They are held for as long as the provider has the call.
        assert calls.taken("key:1") == 1


@pytest.mark.parametrize("mode", ["required", "best_effort"])
async def test_a_call_that_nobody_keeps_is_ended_by_extauthz(tmp_path: Path, mode: Mode) -> None:
    """If its answer is refused while callkeeper is down; one that need not be kept is let go."""
    ended, server = EndedCalls(), aio.server()
    add_UpstreamsServicer_to_server(ended, server)
    settings = SupervisionSettings(
        mode=mode, callkeeper=(f"unix:{tmp_path}/nowhere",), extauthz=(f"unix:{tmp_path}/extauthz",)
    )
    server.add_insecure_port(settings.extauthz[0])
    await server.start()
    service = SDPFilter(
        SEALER,
        Policies(PolicySettings()),
        registrar=Registrar(settings, ServiceSettings()),
    )
    async with served(service) as channel:
        await service.start()
        messages = [HOLDING, OFFERED, response_headers(), response_body(b"x")]
        answers, _ = await converse(Stub(channel), messages)
        assert answers[-1].WhichOneof("response") == "immediate_response"
        if mode == "required":
            await until(lambda: len(ended.handles) == 1)
        else:
            await asyncio.sleep(0.3)
            assert ended.handles == []
        await service.stop()
    await server.stop(None)


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
