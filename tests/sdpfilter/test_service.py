import asyncio
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import structlog
from grpc import StatusCode, aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envoyapi.service.ext_proc.v3 import external_processor_pb2_grpc
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
)
from helpers.exchanges import ANSWER, OFFER, SEALER
from helpers.procmessages import (
    CREATED,
    SDP,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from helpers.procstreams import REQUEST_ID, converse, served
from ringback import logs
from ringback.sdppolicy import PolicySettings
from ringback.tokens.errors import TokenError
from sdpfilter.policies import Policies
from sdpfilter.service import Context, SDPFilter

Stub = external_processor_pb2_grpc.ExternalProcessorStub
Servicer = external_processor_pb2_grpc.ExternalProcessorServicer

POLICIES = Policies(PolicySettings())
CALL = [request_headers(), request_body(OFFER), response_headers(), response_body(ANSWER)]
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    """The service as it is."""
    async with served(SDPFilter(SEALER, POLICIES)) as channel:
        yield external_processor_pb2_grpc.ExternalProcessorStub(channel)


def kinds(answers: list[ProcessingResponse]) -> list[str | None]:
    """Return what the answers are."""
    return [answer.WhichOneof("response") for answer in answers]


def check_owes_nothing(
    messages: list[ProcessingRequest], answers: list[ProcessingResponse], status: StatusCode
) -> None:
    """Check that each message has its answer, or that the stream has failed.

    Nothing is owed after a refusal or the answer to the last body: Envoy asks nothing more then.
    """
    is_over = bool(answers) and answers[-1].WhichOneof("response") in {
        "immediate_response",
        "response_body",
    }
    assert status is StatusCode.OK or len(answers) < len(messages)
    assert status is not StatusCode.OK or is_over or len(answers) == len(messages)
    for message, answer in zip(messages, answers, strict=False):
        assert answer.WhichOneof("response") in {
            message.WhichOneof("request"),
            "immediate_response",
        }


@pytest.mark.parametrize(
    "messages",
    [pytest.param(CALL, id="answered"), pytest.param([CALL[0], request_body(b"x")], id="refused")],
)
async def test_a_stream_ends_with_its_last_answer(
    stub: Stub, messages: list[ProcessingRequest]
) -> None:
    """The service ends the stream, not Envoy: of streams that are cancelled gRPC keeps memory."""
    call = stub.Process()
    for message in messages:
        await call.write(message)
        assert isinstance(await call.read(), ProcessingResponse)
    assert await call.read() is aio.EOF
    assert await call.code() is StatusCode.OK


async def test_a_call_is_served(stub: Stub) -> None:
    """One stream, four messages, four answers, and an end in peace."""
    answers, status = await converse(stub, CALL)
    assert kinds(answers) == [message.WhichOneof("request") for message in CALL]
    assert status is StatusCode.OK


async def test_messages_that_come_at_once_are_answered_in_order(stub: Stub) -> None:
    """An answer belongs to its message even if Envoy does not wait."""
    call = stub.Process()
    for message in CALL:
        await call.write(message)
    await call.done_writing()
    answers = [answer async for answer in call]
    assert kinds(answers) == [message.WhichOneof("request") for message in CALL]
    assert await call.code() is StatusCode.OK


async def test_streams_do_not_know_of_each_other(stub: Stub) -> None:
    """Many streams at once have one exchange each."""
    results = await asyncio.gather(*(converse(stub, CALL[: n % 5]) for n in range(40)))
    assert all(status is StatusCode.OK for _, status in results)
    assert [len(answers) for answers, _ in results] == [n % 5 for n in range(40)]


MESSAGES = st.sampled_from(
    [
        *CALL,
        request_headers(consent=None),
        request_headers(end=True),
        request_body(b"{}"),
        request_body(OFFER, end=False),
        response_headers(details="local"),
        response_headers(details=None),
        response_headers(((":status", b"400"),)),
        response_headers(((":status", b"503"),)),
        response_headers(((":status", b"x"),)),
        response_body(b"{}"),
        ProcessingRequest(),
        ProcessingRequest(request_trailers=HttpTrailers()),
    ]
)


@given(
    st.builds(
        lambda begin, more: CALL[:begin] + more, st.integers(0, 4), st.lists(MESSAGES, max_size=4)
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_stream_ends_in_peace_while_it_owes(
    stub: Stub, messages: list[ProcessingRequest]
) -> None:
    """Envoy lets a message pass when the stream ends with OK before the answer: it never does."""
    answers, status = await converse(stub, messages)
    check_owes_nothing(messages, answers, status)
    assert status in {StatusCode.OK, StatusCode.INTERNAL}


class Ends(external_processor_pb2_grpc.ExternalProcessorServicer):
    """A service with the mistake that the check is about: it ends while it owes."""

    async def Process(
        self, request_iterator: AsyncIterator[ProcessingRequest], context: Context
    ) -> None:
        """Read and return."""
        del request_iterator
        await context.read()


async def test_the_check_can_fail() -> None:
    """A clean end without an answer is found out."""
    async with served(Ends()) as channel:
        stub = external_processor_pb2_grpc.ExternalProcessorStub(channel)
        answers, status = await converse(stub, CALL)
    assert status is StatusCode.OK
    with pytest.raises(AssertionError):
        check_owes_nothing(CALL, answers, status)


class BrokenSealer:
    """Raises where a call is sealed."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def seal(self, _claims: object, _now: float) -> str:
        """Fail."""
        raise self._error


FAULTS: list[BaseException] = [
    AssertionError(OFFER),
    EOFError(OFFER),
    KeyError(OFFER),
    MemoryError(OFFER),
    OSError(OFFER),
    RecursionError(OFFER),
    StopAsyncIteration(OFFER),
    StopIteration(OFFER),
    TimeoutError(OFFER),
    TokenError("length"),
    UnicodeDecodeError("utf-8", OFFER, 0, 1, "made up"),
    ValueError(OFFER),
    aio.AbortError(OFFER),
    aio.UsageError(OFFER),
    grpc.RpcError(OFFER),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_every_fault_aborts_the_stream(fault: BaseException) -> None:
    """Whatever is raised while an answer is owed, the stream fails, and says nothing about it."""
    async with served(SDPFilter(BrokenSealer(fault), POLICIES)) as channel:  # type: ignore[arg-type]
        call = external_processor_pb2_grpc.ExternalProcessorStub(channel).Process()
        for message in CALL[:2]:
            await call.write(message)
            await call.read()
        await call.write(CALL[2])
        with pytest.raises(aio.AioRpcError):
            await call.read()
        assert await call.code() is StatusCode.INTERNAL
        assert await call.details() == "the stream cannot be answered"
        assert list(await call.trailing_metadata()) == []


async def test_a_task_that_is_cancelled_from_within_owes_on() -> None:
    """Even then the stream does not end with OK: Envoy's message_timeout refuses the request."""
    broken = BrokenSealer(asyncio.CancelledError())
    async with served(SDPFilter(broken, POLICIES)) as channel:  # type: ignore[arg-type]
        call = external_processor_pb2_grpc.ExternalProcessorStub(channel).Process()
        for message in CALL[:2]:
            await call.write(message)
            await call.read()
        await call.write(CALL[2])
        await asyncio.wait([asyncio.ensure_future(call.code())], timeout=0.2)
        assert not call.done() or await call.code() is not StatusCode.OK
        call.cancel()


@pytest.mark.parametrize("written", [1, 2, 3])
async def test_a_worker_that_stops_fails_its_streams(written: int) -> None:
    """A stream that outlasts the grace of its server ends with an error, not with OK."""
    server = aio.server()
    SDPFilter(SEALER, POLICIES).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = external_processor_pb2_grpc.ExternalProcessorStub(channel).Process()
        for message in CALL[:written]:
            await call.write(message)
            await call.read()
        await server.stop(0)
        assert await call.code() in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x12\x05ab"])
async def test_what_is_no_message_aborts_the_stream(data: bytes) -> None:
    """Bytes that are no ProcessingRequest are a fault like any other."""
    async with served(SDPFilter(SEALER, POLICIES)) as channel:
        call: Any = channel.stream_stream(METHOD)()
        await call.write(data)
        with pytest.raises(aio.AioRpcError):
            await call.read()
        assert await call.code() is StatusCode.INTERNAL


async def test_the_service_has_nothing_to_prepare_or_release() -> None:
    """It is ready at once, and its health is asked for under Envoy's name of the service."""
    service = SDPFilter(SEALER, POLICIES)
    await service.start()
    await service.drain()
    await service.stop()
    assert service.names == ("envoy.service.ext_proc.v3.ExternalProcessor",)


# --- Logs


@contextmanager
def worker_log(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Log as a worker does; gives what reads everything on stderr since the last time."""
    root = logging.getLogger()
    before = root.handlers, root.level
    # Kept from basicConfig, which would close them.
    root.handlers = []
    logs.configure("debug", "sdpfilter")
    try:
        yield lambda: capfd.readouterr().err
    finally:
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        root.handlers, root.level = before


def lines(text: str) -> list[dict[str, Any]]:
    """Return the lines of a log, without time and service."""
    # gRPC's C core writes in a form of its own, here about the connections of the test's clients.
    own = [line for line in text.splitlines() if not re.match(r"[IWE]\d{4} ", line)]
    parsed = [json.loads(line) for line in own]
    return [
        {name: line[name] for name in line if name not in {"time", "service"}} for line in parsed
    ]


async def test_an_unexpected_message_is_logged_with_its_reason(
    capfd: pytest.CaptureFixture[str], stub: Stub
) -> None:
    """Who configures Envoy reads what is wrong with it, and of which request."""
    with worker_log(capfd) as read:
        await converse(stub, [request_headers(), response_headers()])
        await converse(stub, [response_headers(details=None)])
        assert lines(read()) == [
            {
                "event": "stream_aborted",
                "level": "error",
                "request_id": REQUEST_ID,
                "reason": "expected REQUEST_BODY, received RESPONSE_HEADERS",
            },
            {
                "event": "stream_aborted",
                "level": "error",
                "request_id": REQUEST_ID,
                "reason": "response.code_details is missing from response_attributes",
            },
        ]


async def test_a_fault_is_logged_with_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    """One line: which error, and where."""
    with worker_log(capfd) as read:
        broken = BrokenSealer(ValueError(OFFER))
        async with served(SDPFilter(broken, POLICIES)) as channel:  # type: ignore[arg-type]
            await converse(external_processor_pb2_grpc.ExternalProcessorStub(channel), CALL)
        (line,) = lines(read())
        assert (line["event"], line["level"], line["error"]) == (
            "stream_aborted",
            "error",
            "ValueError",
        )
        assert line["at"].startswith("test_service.py:")


async def test_a_client_that_goes_away_is_not_logged(
    capfd: pytest.CaptureFixture[str], stub: Stub
) -> None:
    """Envoy resets a stream whenever a downstream hangs up: no fault, at no moment."""
    with worker_log(capfd) as read:
        for number in range(120):
            call = stub.Process()
            for message in CALL[: number % 4]:
                await call.write(message)
                await call.read()
            if number % 3:
                await call.write(CALL[number % 4])
            for _ in range(number % 7):
                await asyncio.sleep(0)
            call.cancel()
        answers, _ = await converse(stub, CALL)
        assert len(answers) == 4
        assert lines(read()) == []


SECRETS = {
    "key": "sk-proj-0123456789abcdef",
    "password": "x4Kq7Lk0Vd8uQm2Zp1Rt6Ys3",
    "address": "198.51.100.23",
    "cookie": "session=5f2c7b",
    "host": "secret-resource.openai.azure.com",
}
PRIVATE_OFFER = OFFER.replace(
    b"a=mid:0",
    f"a=ice-pwd:{SECRETS['password']}\r\n"
    f"a=candidate:1 1 udp 2130706431 {SECRETS['address']} 9 typ host\r\na=mid:0".encode(),
)
PRIVATE_HEADERS = (
    ("authorization", f"Bearer {SECRETS['key']}".encode()),
    ("cookie", SECRETS["cookie"].encode()),
    (":authority", SECRETS["host"].encode()),
)


def leaks(text: str) -> set[str]:
    """Return which secrets are in a text, whole or nearly so."""
    return {name for name, value in SECRETS.items() if value in text or value[3:-3] in text}


async def test_nothing_of_a_request_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """No offer, key, cookie, address or host name gets into the log, whatever goes wrong."""
    with worker_log(capfd) as read:
        faults = [ValueError(PRIVATE_OFFER.decode()), RuntimeError(*SECRETS.values())]
        for fault in faults:
            async with served(SDPFilter(BrokenSealer(fault), POLICIES)) as channel:  # type: ignore[arg-type]
                stub = external_processor_pb2_grpc.ExternalProcessorStub(channel)
                head = request_headers((*SDP, *PRIVATE_HEADERS))
                created = response_headers((*CREATED, *PRIVATE_HEADERS))
                for messages in (
                    [head, request_body(PRIVATE_OFFER), created],
                    [head, request_body(PRIVATE_OFFER), response_body(PRIVATE_OFFER)],
                    [head, request_body(PRIVATE_OFFER[100:])],
                    [head, request_body(PRIVATE_OFFER, end=False)],
                    [head, head],
                    [request_headers((*SDP, *PRIVATE_HEADERS), consent=dict(SECRETS))],
                    [response_headers(PRIVATE_HEADERS, details=None)],
                ):
                    await converse(stub, messages)
                raw: Any = channel.stream_stream(METHOD)()
                await raw.write(b"\xff" + PRIVATE_OFFER)
                with pytest.raises(aio.AioRpcError):
                    await raw.read()
        written = read()
        assert len(lines(written)) == 2 * 7
        assert leaks(written) == set()


def test_the_search_for_secrets_can_fail(capfd: pytest.CaptureFixture[str]) -> None:
    """A log line with an error's text would be found, whoever writes it."""
    with worker_log(capfd) as read:
        logs.get_logger().error("failed", reason=str(ValueError(SECRETS["key"])))
        logging.getLogger("library").error("failed: %s", SECRETS["cookie"])
        print(PRIVATE_OFFER.decode(), file=sys.stderr)  # noqa: T201
        assert leaks(read()) == {"key", "cookie", "password", "address"}
