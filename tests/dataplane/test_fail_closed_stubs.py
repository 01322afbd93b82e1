import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import grpc
import pytest
import pytest_asyncio
from google.rpc.status_pb2 import Status

from envoyapi.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoyapi.service.auth.v3.external_auth_pb2 import (
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from envoyapi.type.v3.http_status_pb2 import HttpStatus, StatusCode
from extauthz.clusters import build_clusters
from extauthz.decision import Allow, Labels
from extauthz.deployments import Origin
from extauthz.translate import write_decision
from helpers.callforms import CONTENT_TYPE, form, part
from helpers.descriptions import OFFERS
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.http11 import Message, request_bytes, send
from helpers.load import flood
from helpers.recording import RecordingUpstream
from helpers.stubservices import Check, Process, RawContext, StubService, serving
from ringback.envoylint.parts import http_filter
from ringback.secrets import Secret
from ringback.settings import TokenSettings, UpstreamSettings
from ringback.tokens import handle_sealer
from sdpfilter.exchange import Exchange
from sdpfilter.translate import answer_message

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

# Of one message. What is late keeps 200 calls waiting at once, and this process is their client,
# both services and the upstream: it has to come to all of them in this time.
TIMEOUT_S: Final = 4.0
LATE_S: Final = 5.5
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
SEALER: Final = handle_sealer(TokenSettings(secret=Secret("a secret of the tests")), {})
STAGES: Final = ("request_headers", "request_body", "response_headers", "response_body")
# What an answer to one message of Envoy does; True ends the stream cleanly.
Misstep = Callable[[RawContext, ProcessingRequest, Exchange], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Door:
    """An Envoy whose services answer what a test wants, and the upstream behind it."""

    port: int
    upstream: RecordingUpstream
    service: StubService
    consent: CheckResponse

    async def call(self) -> Message:
        """Send an offer."""
        return await self._send("application/sdp", OFFER)

    async def call_by_form(self) -> Message:
        """Send an offer in a form, of which sdpfilter is shown the headers, too."""
        return await self._send(CONTENT_TYPE, form(part("sdp", OFFER)))

    async def _send(self, content_type: str, body: bytes) -> Message:
        headers = {"origin": ORIGIN, "content-type": content_type}
        return await send(self.port, request_bytes("POST", "/v1/realtime/calls", headers, body))

    async def check(self, _request: bytes, _context: RawContext) -> bytes:
        """Consent as extauthz does."""
        return self.consent.SerializeToString()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def only_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """Give one Envoy with shortened timeouts for the whole module."""
    service = StubService()
    async with RecordingUpstream() as upstream, serving(service) as address:
        origin = Origin("http", "127.0.0.1", upstream.port)
        bootstrap = local_bootstrap(
            endpoints={"extauthz": [address], "sdpfilter": [address]},
            upstreams=[c.to_dict() for c in build_clusters([origin], UpstreamSettings())],
        )
        authz = http_filter(bootstrap, "envoy.filters.http.ext_authz")
        authz["grpc_service"]["timeout"] = f"{TIMEOUT_S}s"
        proc = http_filter(bootstrap, "envoy.filters.http.ext_proc")
        proc["message_timeout"] = f"{TIMEOUT_S}s"
        async with EnvoyProcess(bootstrap, tmp_path_factory.mktemp("envoy")) as envoy:
            yield Door(envoy.port("ingress_http"), upstream, service, consent_to(origin))


@pytest_asyncio.fixture(loop_scope="module")
async def door(only_door: Door) -> AsyncIterator[Door]:
    """Give it with services that do what they should; see afterwards that it works again."""
    only_door.service.check = only_door.check
    only_door.service.process = process_honestly
    only_door.upstream.reset()
    yield only_door
    only_door.service.check = only_door.check
    only_door.service.process = process_honestly
    only_door.upstream.reset()
    assert (await only_door.call()).status == 201
    assert len(only_door.upstream.received) == 1


def consent_to(origin: Origin) -> CheckResponse:
    """Return what extauthz says to a good call."""
    headers = {
        "x-ringback-cluster": origin.cluster,
        ":path": "/v1/realtime/calls",
        ":authority": origin.authority,
        "authorization": "Bearer ek_upstream",
    }
    labels = Labels("call", deployment="d", key_hash="k", token_id="t")
    return write_decision(Allow(labels, {name: Secret(text) for name, text in headers.items()}))


async def process_honestly(context: RawContext) -> None:
    """Serve a stream as sdpfilter does."""
    exchange = Exchange(SEALER, time.time)
    while isinstance(message := await context.read(), bytes):
        answer = answer_message(ProcessingRequest.FromString(message), exchange)
        await context.write(answer.SerializeToString())


def process_until(stage: str, misstep: Misstep) -> Process:
    """Return a service that is honest until it comes to a stage."""

    async def process(context: RawContext) -> None:
        exchange = Exchange(SEALER, time.time)
        while isinstance(data := await context.read(), bytes):
            message = ProcessingRequest.FromString(data)
            if message.WhichOneof("request") == stage:
                if await misstep(context, message, exchange):
                    return
            else:
                await context.write(answer_message(message, exchange).SerializeToString())

    return process


# --- What a broken extauthz might answer


def answers(make: Callable[[CheckResponse], bytes | CheckResponse]) -> Callable[[Door], Check]:
    """Return a service that always answers what is made of extauthz's consent."""

    def service(door: Door) -> Check:
        consent = CheckResponse()
        consent.CopyFrom(door.consent)
        made = make(consent)
        data = made if isinstance(made, bytes) else made.SerializeToString()

        async def check(_request: bytes, _context: RawContext) -> bytes:
            return data

        return check

    return service


def without_mark(consent: CheckResponse) -> CheckResponse:
    """Return consent, routed to the upstream, that does not say that anything was checked."""
    consent.ClearField("dynamic_metadata")
    return consent


def marked(mark: bool | str | float) -> Callable[[CheckResponse], CheckResponse]:
    """Return what turns the mark of consent into something else."""

    def change(consent: CheckResponse) -> CheckResponse:
        consent.dynamic_metadata.update({"checked": mark})
        return consent

    return change


def denied(code: int, **fields: object) -> Callable[[CheckResponse], CheckResponse]:
    """Return what makes a denial, with a gRPC status code of its own."""
    return lambda _consent: CheckResponse(
        status=Status(code=code),
        denied_response=DeniedHttpResponse(**fields),  # type: ignore[arg-type]
    )


SPLIT: Final = HeaderValueOption(header=HeaderValue(key="x-note", value="one\r\nx-split: two"))


def split_header(consent: CheckResponse) -> CheckResponse:
    """Return consent with a header whose value would become two lines."""
    consent.ok_response.headers.append(SPLIT)
    return consent


def late(door: Door) -> Check:
    """Return a service that consents after Envoy's timeout."""

    async def check(request: bytes, context: RawContext) -> bytes:
        await asyncio.sleep(LATE_S)
        return await door.check(request, context)

    return check


def aborting(_door: Door) -> Check:
    """Return a service that ends every request with an error."""

    async def check(_request: bytes, context: RawContext) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "the request cannot be decided")

    return check


@pytest.mark.parametrize(
    ("service", "code"),
    [
        # Realistic
        pytest.param(late, "unavailable", id="late"),
        pytest.param(aborting, "unavailable", id="aborting"),
        pytest.param(answers(lambda _: CheckResponse()), "not_checked", id="empty"),
        pytest.param(answers(without_mark), "not_checked", id="routed-without-mark"),
        pytest.param(answers(denied(7)), "not_checked", id="denied-without-status"),
        # Synthetic
        pytest.param(
            answers(denied(0, status=HttpStatus(code=StatusCode.Forbidden))),
            "not_checked",
            id="ok-with-denial",
        ),
        pytest.param(
            answers(lambda _: CheckResponse(ok_response=OkHttpResponse())),
            "not_checked",
            id="no-status",
        ),
        pytest.param(answers(marked(mark=False)), "not_checked", id="marked-false"),
        pytest.param(answers(marked("true")), "not_checked", id="marked-with-text"),
        pytest.param(answers(marked(1.0)), "not_checked", id="marked-with-number"),
        # Pathological
        pytest.param(answers(lambda _: b"\xff\xff\xff\xff"), "unavailable", id="garbage"),
        pytest.param(answers(split_header), "unavailable", id="split-header"),
        pytest.param(
            answers(denied(7, status=HttpStatus(code=StatusCode.OK), headers=[SPLIT], body="x")),
            "unavailable",
            id="split-header-of-an-answer",
        ),
        pytest.param(answers(lambda c: c.SerializeToString()[:-7]), "unavailable", id="cut-off"),
    ],
)
async def test_broken_extauthz_sends_nothing_upstream(
    door: Door, service: Callable[[Door], Check], code: str
) -> None:
    """Whatever extauthz answers but its real consent, 200 of 200 calls end with 503."""
    door.service.check = service(door)
    for answer in await flood(door.call, at_once=200 if service is late else 25):
        check_refusal(answer, 503, code)
    assert door.upstream.received == []


# --- What a broken sdpfilter might do


async def ends_cleanly(
    _context: RawContext, _message: ProcessingRequest, _exchange: Exchange
) -> bool:
    """End the stream while a reply is owed."""
    return True


async def ends_after_reply(
    context: RawContext, message: ProcessingRequest, exchange: Exchange
) -> bool:
    """Answer, and see no reason to go on."""
    await context.write(answer_message(message, exchange).SerializeToString())
    return True


async def answers_nothing(
    context: RawContext, _message: ProcessingRequest, _exchange: Exchange
) -> bool:
    """Send a message that answers none of Envoy's."""
    await context.write(ProcessingResponse().SerializeToString())
    return False


async def answers_another_message(
    context: RawContext, message: ProcessingRequest, _exchange: Exchange
) -> bool:
    """Answer a message that Envoy has not sent."""
    stage = STAGES[STAGES.index(message.WhichOneof("request") or "") - 1]
    answer = ProcessingResponse()
    getattr(answer, stage).SetInParent()
    await context.write(answer.SerializeToString())
    return False


async def answers_without_mark(
    context: RawContext, message: ProcessingRequest, exchange: Exchange
) -> bool:
    """Let everything pass and mark nothing as checked."""
    answer = answer_message(message, exchange)
    answer.ClearField("dynamic_metadata")
    await context.write(answer.SerializeToString())
    return False


async def answers_late(context: RawContext, message: ProcessingRequest, exchange: Exchange) -> bool:
    """Answer after Envoy's timeout."""
    await asyncio.sleep(LATE_S)
    await context.write(answer_message(message, exchange).SerializeToString())
    return False


async def answers_garbage(
    context: RawContext, _message: ProcessingRequest, _exchange: Exchange
) -> bool:
    """Send what is no message."""
    await context.write(b"\xff\xff\xff\xff")
    return False


async def answers_twice(
    context: RawContext, message: ProcessingRequest, exchange: Exchange
) -> bool:
    """Answer one message two times."""
    answer = answer_message(message, exchange).SerializeToString()
    await context.write(answer)
    await context.write(answer)
    return False


async def aborts(context: RawContext, _message: ProcessingRequest, _exchange: Exchange) -> bool:
    """End the stream with an error."""
    await context.abort(grpc.StatusCode.INTERNAL, "the stream cannot be answered")


ALWAYS: Final = [
    # Realistic
    pytest.param(aborts, 503, "unavailable", id="aborts"),
    pytest.param(answers_late, 504, "timeout", id="late"),
    pytest.param(ends_cleanly, 503, "not_checked", id="ends-cleanly"),
    # Synthetic
    pytest.param(answers_nothing, 503, "unavailable", id="empty"),
    pytest.param(answers_another_message, 503, "unavailable", id="another-message"),
    # Pathological
    pytest.param(answers_garbage, 503, "unavailable", id="garbage"),
]
UNMARKED: Final = pytest.param(answers_without_mark, 503, "not_checked", id="without-mark")
TWICE: Final = pytest.param(answers_twice, 503, "unavailable", id="twice")


async def flood_with(
    door: Door, stage: str, misstep: Misstep, *, status: int, code: str
) -> list[Message]:
    """Return the answers to 200 calls of which each goes wrong at a stage."""
    door.service.process = process_until(stage, misstep)
    call = door.call_by_form if stage == "request_headers" else door.call
    found = await flood(call, at_once=200 if misstep is answers_late else 25)
    for answer in found:
        check_refusal(answer, status, code)
    return found


@pytest.mark.parametrize(
    ("misstep", "status", "code"),
    [*ALWAYS, TWICE, pytest.param(ends_after_reply, 503, "not_checked", id="ends-after-reply")],
)
async def test_request_headers_unanswered_send_nothing_upstream(
    door: Door, misstep: Misstep, status: int, code: str
) -> None:
    """If sdpfilter fails at the headers of the request, 200 of 200 calls are refused."""
    await flood_with(door, "request_headers", misstep, status=status, code=code)
    assert door.upstream.received == []


@pytest.mark.parametrize(("misstep", "status", "code"), [*ALWAYS, UNMARKED])
async def test_offer_unanswered_sends_nothing_upstream(
    door: Door, misstep: Misstep, status: int, code: str
) -> None:
    """If sdpfilter fails at the offer, 200 of 200 calls are refused."""
    await flood_with(door, "request_body", misstep, status=status, code=code)
    assert door.upstream.received == []


@pytest.mark.parametrize("stage", ["response_headers", "response_body"])
@pytest.mark.parametrize(("misstep", "status", "code"), ALWAYS)
async def test_answer_unchecked_does_not_leave(
    door: Door, stage: str, misstep: Misstep, status: int, code: str
) -> None:
    """If sdpfilter fails on the way back, nothing of the upstream's answer reaches anybody."""
    for answer in await flood_with(door, stage, misstep, status=status, code=code):
        assert b"v=0" not in answer.raw
        assert "location" not in answer.names
    assert len(door.upstream.received) == 200


@pytest.mark.parametrize(
    ("stage", "misstep"),
    [
        pytest.param("request_body", ends_after_reply, id="ends-after-the-offer"),
        pytest.param("response_headers", ends_after_reply, id="ends-after-headers"),
        pytest.param("response_headers", answers_twice, id="headers-twice"),
        pytest.param("response_body", answers_without_mark, id="body-without-mark"),
        pytest.param("request_body", answers_twice, id="offer-twice"),
    ],
)
async def test_answer_half_checked_does_not_leave(door: Door, stage: str, misstep: Misstep) -> None:
    """An offer was checked and sent; an answer that was not checked to its end stays here."""
    door.service.process = process_until(stage, misstep)
    for answer in await flood(door.call):
        check_refusal(answer, 503)
        assert b"v=0" not in answer.raw


async def test_second_answer_to_the_last_message_changes_nothing(door: Door) -> None:
    """Once the answer was let pass, another word of sdpfilter is not heard."""
    door.service.process = process_until("response_body", answers_twice)
    for answer in await flood(door.call):
        assert answer.status in {201, 503}
        check_readable(answer)
