import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
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
from helpers.dataplanes import DataPlane, Shared
from helpers.door import CALL, CALL_BY_FORM, SEALER, Door, open_door
from helpers.envoygateway.differences import (
    BARE_REFUSALS,
    NAMELESS_STREAMS,
    SPLIT_HEADERS,
    UNCHECKED_CONSENT,
)
from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.http11 import Message
from helpers.kept import pour
from helpers.stubservices import Check, Process, RawContext
from ringback.settings.overload import OverloadSettings
from sdpfilter.exchange import Exchange
from sdpfilter.translate import answer_message

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

# Of one message. What is late keeps many calls waiting at once, and this process is their client,
# both services and the upstream: it has to come to all of them in this time.
TIMEOUT_S: Final = 4.0
LATE_S: Final = 5.5
AT_ONCE: Final = 25
LATE_AT_ONCE: Final = 500
STAGES: Final = ("request_headers", "request_body", "response_headers", "response_body")
# Status and code; None where either of 503 and 504 may be first.
Refusal = tuple[int, str] | None
# What an answer to one message of Envoy does; True ends the stream cleanly.
Misstep = Callable[[RawContext, ProcessingRequest, Exchange], Awaitable[bool]]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared[Door]]:
    """Give one Envoy of each data plane, with shortened timeouts, for the whole module."""
    many = OverloadSettings(max_decisions=4096, max_mints=4096, max_checks=4096, max_calls=4096)

    def start(plane: DataPlane) -> AbstractAsyncContextManager[Door]:
        folder = tmp_path_factory.mktemp(f"door-{plane}")
        return open_door(folder, dataplane=plane, timeout_s=TIMEOUT_S, overload=many)

    async with Shared(start) as doors:
        yield doors


@pytest_asyncio.fixture(loop_scope="module")
async def door(doors: Shared[Door], dataplane: DataPlane) -> AsyncIterator[Door]:
    """Give it with services that do what they should; see afterwards that it works again."""
    door = await doors.of(dataplane)
    door.reset()
    yield door
    door.reset()
    async with asyncio.timeout(20):
        # Envoy may have given up a connection to services that had so much to do.
        while (await door.call()).status != 201:  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.1)


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


@pytest.mark.dataplanes(
    "istio",
    "envoy-gateway",
    only=("late", "aborting", "empty", "routed-without-mark", "ok-with-denial", "split-header"),
)
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
        pytest.param(answers(lambda c: c.SerializeToString()[:-7]), "unavailable", id="cut-off"),
    ],
)
async def test_broken_extauthz_sends_nothing_upstream(
    door: Door, flood: int, service: Callable[[Door], Check], code: str
) -> None:
    """Whatever extauthz answers but its real consent, every call ends with 503."""
    door.service.check = service(door)
    at_once = LATE_AT_ONCE if service is late else AT_ONCE
    codes = {code, "unavailable"} if door.differs(UNCHECKED_CONSENT) else {code}

    def check(answer: Message) -> None:
        check_refusal(answer, 503)
        assert answer.error["code"] in codes

    await pour(door.port, CALL, flood, at_once, check)
    assert door.upstream.received == []


@pytest.mark.dataplanes("envoy-gateway")
async def test_header_of_an_answer_does_not_split(door: Door) -> None:
    """An answer of extauthz's with a header that would become two lines is no answer."""
    status = HttpStatus(code=StatusCode.OK)
    door.service.check = answers(denied(7, status=status, headers=[SPLIT], body="x"))(door)
    answer = await door.call()
    if door.differs(SPLIT_HEADERS):
        assert answer.header("x-split") == "two"
    else:
        check_refusal(answer, 503, "unavailable")
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
    if answer.HasField("response_body"):
        # Where metadata cannot be matched on the way back, the type of an answer is its mark.
        answer.response_body.response.ClearField("header_mutation")
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
    pytest.param(aborts, (503, "unavailable"), id="aborts"),
    pytest.param(answers_late, None, id="late"),
    pytest.param(ends_cleanly, (503, "not_checked"), id="ends-cleanly"),
    # Synthetic
    pytest.param(answers_nothing, (503, "unavailable"), id="empty"),
    pytest.param(answers_another_message, (503, "unavailable"), id="another-message"),
    # Pathological
    pytest.param(answers_garbage, (503, "unavailable"), id="garbage"),
]
UNMARKED: Final = pytest.param(answers_without_mark, (503, "not_checked"), id="without-mark")
TWICE: Final = pytest.param(answers_twice, (503, "unavailable"), id="twice")


def check_refused(answer: Message, refusal: Refusal) -> None:
    """Check that an answer is the refusal."""
    check_refusal(answer, *refusal or (answer.status,))
    assert answer.status in {503, 504}


def check_held(door: Door, answer: Message, refusal: Refusal) -> None:
    """Check that an answer is the refusal, after the upstream has answered."""
    if door.differs(BARE_REFUSALS):
        assert answer.status in {503, 504}
        assert answer.error["code"] == "not_checked" if answer.body else True
        assert answer.header("access-control-allow-origin") == ORIGIN
    else:
        check_refused(answer, refusal)
    assert b"v=0" not in answer.raw
    assert "location" not in answer.names


async def flood_with(
    door: Door,
    flood: int,
    stage: str,
    misstep: Misstep,
    check: Callable[[Message], None],
) -> None:
    """Check the answers to calls of which each goes wrong at a stage."""
    door.service.process = process_until(stage, misstep)
    # Of a form sdpfilter is shown the headers, too.
    call = CALL_BY_FORM if stage == "request_headers" else CALL
    at_once = LATE_AT_ONCE if misstep is answers_late else AT_ONCE
    await pour(door.port, call, flood, at_once, check)


@pytest.mark.dataplanes("istio", "envoy-gateway", only=("ends-cleanly",))
@pytest.mark.parametrize(
    ("misstep", "refusal"),
    [*ALWAYS, TWICE, pytest.param(ends_after_reply, (503, "not_checked"), id="ends-after-reply")],
)
async def test_request_headers_unanswered_send_nothing_upstream(
    door: Door, flood: int, misstep: Misstep, refusal: Refusal
) -> None:
    """If sdpfilter fails at the headers of the request, every call is refused."""
    await flood_with(door, flood, "request_headers", misstep, lambda a: check_refused(a, refusal))
    assert door.upstream.received == []


@pytest.mark.dataplanes(
    "istio", "envoy-gateway", only=("late", "ends-cleanly", "empty", "without-mark")
)
@pytest.mark.parametrize(("misstep", "refusal"), [*ALWAYS, UNMARKED])
async def test_offer_unanswered_sends_nothing_upstream(
    door: Door, flood: int, misstep: Misstep, refusal: Refusal
) -> None:
    """If sdpfilter fails at the offer, every call is refused."""
    await flood_with(door, flood, "request_body", misstep, lambda a: check_refused(a, refusal))
    assert door.upstream.received == []


@pytest.mark.dataplanes(
    "istio", "envoy-gateway", only=("ends-cleanly-response_headers", "ends-cleanly-response_body")
)
@pytest.mark.parametrize("stage", ["response_headers", "response_body"])
@pytest.mark.parametrize(("misstep", "refusal"), ALWAYS)
async def test_answer_unchecked_does_not_leave(
    door: Door, flood: int, stage: str, misstep: Misstep, refusal: Refusal
) -> None:
    """If sdpfilter fails on the way back, nothing of the upstream's answer reaches anybody."""
    await flood_with(door, flood, stage, misstep, lambda a: check_held(door, a, refusal))
    assert len(door.upstream.received) == flood


@pytest.mark.dataplanes(
    "istio", "envoy-gateway", only=("ends-after-the-offer", "body-without-mark")
)
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
async def test_answer_half_checked_does_not_leave(
    door: Door, flood: int, stage: str, misstep: Misstep
) -> None:
    """An offer was checked and sent; an answer that was not checked to its end stays here."""

    def check(answer: Message) -> None:
        assert answer.status == 503
        check_held(door, answer, None)

    await flood_with(door, flood, stage, misstep, check)


@pytest.mark.dataplanes("envoy-gateway")
async def test_a_stream_says_which_request_it_is_of(door: Door) -> None:
    """What sdpfilter logs of an aborted stream has the request id that the caller gets."""
    seen: list[object] = []

    async def process(context: RawContext) -> None:
        sent = dict(context.invocation_metadata() or ())
        seen.append(sent.get("x-request-id"))

    door.service.process = process
    answer = await door.call()
    is_told = not door.differs(NAMELESS_STREAMS)
    assert (answer.status, seen) == (503, [answer.header("x-request-id") if is_told else None])
    assert door.upstream.received == []


async def test_second_answer_to_the_last_message_changes_nothing(door: Door, flood: int) -> None:
    """Once the answer was let pass, another word of sdpfilter is not heard."""

    def check(answer: Message) -> None:
        assert answer.status in {201, 503}
        check_readable(answer)

    await flood_with(door, flood, "response_body", answers_twice, check)


# --- What might listen in the place of a service


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def hangs_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close the connection at once, cleanly."""


async def hangs_up_when_asked(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close the connection at the first bytes."""
    await reader.read(1)


def says(data: bytes) -> Peer:
    """Return a peer that answers whatever comes with these bytes."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(data)

    return peer


async def is_mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read, and say nothing."""
    while await reader.read(65536):
        pass


# A TLS 1.2 ServerHello as far as its length: who expects plain text gets certificates.
TLS: Final = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + b"\x00" * 100
PEERS: Final = {
    # Realistic
    "hangs-up": hangs_up,
    "hangs-up-when-asked": hangs_up_when_asked,
    "mute": is_mute,
    "http1": says(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    "tls": says(TLS),
    # Pathological
    "garbage": says(b"\xff" * 1000),
    # HTTP/2 settings without end.
    "settings": says(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 100),
}
NO_SERVICE: Final = ("extauthz", "sdpfilter")


@pytest.mark.parametrize("absent", NO_SERVICE)
async def test_nobody_in_the_place_of_a_service_sends_nothing_upstream(
    tmp_path: Path, flood: int, absent: str
) -> None:
    """A socket that is missing, no socket, or spoken at by a stranger: every call ends with 503."""
    place = tmp_path / "place.sock"
    endpoints = {absent: f"unix:{place}"}
    async with (
        strangers(place) as stranger,
        open_door(tmp_path, timeout_s=1, endpoints=endpoints) as door,
    ):

        def check(answer: Message) -> None:
            check_refusal(answer, answer.status)
            assert answer.status in {503, 504}

        for peer in (None, "no socket", *PEERS.values()):
            await stranger.become(peer)
            await pour(door.port, CALL, flood, LATE_AT_ONCE, check)
            assert door.upstream.received == []


@dataclass(slots=True)
class Stranger:
    """What is found at a path instead of a service."""

    path: Path
    server: asyncio.Server | None = None
    peer: Peer = is_mute
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def become(self, peer: Peer | str | None) -> None:
        """Be nothing, a file with a text, or who behaves so; connections from before end."""
        for writer in list(self.writers):
            writer.transport.abort()
        if isinstance(peer, str):
            self.path.write_text(peer)
        elif peer is not None:
            self.peer = peer
            if self.server is None:
                self.path.unlink()
                self.server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with suppress(ConnectionError, asyncio.CancelledError):
            await self.peer(reader, writer)
        self.writers.discard(writer)
        writer.close()


@asynccontextmanager
async def strangers(path: Path) -> AsyncIterator[Stranger]:
    """Give what can be found at a path, at first nothing."""
    stranger = Stranger(path)
    yield stranger
    if stranger.server is not None:
        stranger.server.close()
    await stranger.become(None)
