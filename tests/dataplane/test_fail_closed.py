import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from helpers.dataplanes import UNREACHED_MINT, DataPlane
from helpers.envoygateway.differences import BARE_REFUSALS
from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import OFFER, OPENAI, SDP_TYPE, Gateway, bearer
from helpers.http11 import Message, request_bytes, send
from helpers.kept import pour
from helpers.load import flood as flood_mixed

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

WORKERS = {
    "extauthz": ("extauthz-0", "extauthz-1"),
    "sdpfilter": ("sdpfilter-0", "sdpfilter-1"),
}
SERVICES = pytest.mark.parametrize("service", WORKERS)
# How many connections send at a time, and how many where each request waits for a timeout.
AT_ONCE = 25
SLOW_AT_ONCE = 2000


def call_bytes(token: str) -> bytes:
    """Return a call with a token."""
    lines = [("origin", ORIGIN), bearer(token), SDP_TYPE]
    return request_bytes("POST", f"{OPENAI}/calls", lines, OFFER)


def refused(counts: Counter[int], dataplane: DataPlane) -> Callable[[Message], None]:
    """Return a check that an answer is a refusal that a page can read and that blames nobody else.

    Args:
        counts: Learns the statuses.
        dataplane: Which may have refusals without a body.
    """

    def check(answer: Message) -> None:
        if BARE_REFUSALS in dataplane.differences and not answer.body:
            assert answer.status in {503, 504}
        else:
            check_refusal(answer, answer.status)
        counts[answer.status] += 1

    return check


async def probe(pair: Gateway, path: str) -> int:
    """Return the status of a health endpoint."""
    return (await send(pair.port, request_bytes("GET", path))).status


@pytest.mark.dataplanes("istio", "envoy-gateway")
@SERVICES
async def test_stopped_service_sends_nothing_upstream(
    pair: Gateway, dataplane: DataPlane, flood: int, service: str
) -> None:
    """Without one of the services every call ends with 503, at once, until it is back."""
    token = await pair.token()
    pair.reset()
    statuses: Counter[int] = Counter()
    children = await pair.stop(*WORKERS[service])
    begin = time.monotonic()
    try:
        await pour(pair.port, call_bytes(token), flood, AT_ONCE, refused(statuses, dataplane))
        took_s = time.monotonic() - begin
        if service == "extauthz":
            for answer in await flood_mixed(pair.mint, 20):
                check_refusal(answer, 503)
        ready, alive = await probe(pair, "/readyz"), await probe(pair, "/healthz")
    finally:
        await pair.start(children)
    assert statuses.keys() <= {503, 504}
    assert pair.received == []
    # If each waited for a timeout of sdpfilter's messages, that would be 2 s for each round of 25.
    assert took_s < max(flood / AT_ONCE, 15)
    assert (ready, alive) == (503, 200)
    assert await probe(pair, "/readyz") == 200
    assert (await pair.call(token)).status == 201


@SERVICES
async def test_killed_service_lets_nothing_slip(pair: Gateway, service: str) -> None:
    """While all workers are killed and come back, nothing goes upstream but what is answered."""
    token = await pair.token()
    pair.reset()
    for name in WORKERS[service]:
        pair.signal(name, signal.SIGKILL)
    answers = await flood_mixed(lambda: pair.call(token), 300, at_once=10)
    called = [answer for answer in answers if answer.status == 201]
    others = [answer for answer in answers if answer.status != 201]
    assert others
    for answer in others:
        check_refusal(answer, 503)
    assert len(pair.received) == len(called)


@pytest.mark.dataplanes("istio", "envoy-gateway", only=("sdpfilter",))
@SERVICES
async def test_hanging_service_sends_nothing_upstream(
    pair: Gateway, dataplane: DataPlane, flood: int, service: str
) -> None:
    """If all workers of a service hang, every call ends within 16 s with 503 or 504."""
    token = await pair.token()
    pair.reset()
    statuses: Counter[int] = Counter()
    begin = time.monotonic()
    try:
        for name in WORKERS[service]:
            pair.signal(name, signal.SIGSTOP)
        await pour(pair.port, call_bytes(token), flood, SLOW_AT_ONCE, refused(statuses, dataplane))
        took_s = time.monotonic() - begin
        received = list(pair.received)
    finally:
        for name in WORKERS[service]:
            pair.signal(name, signal.SIGCONT)
    assert statuses.keys() <= {503, 504}
    assert received == []
    assert took_s < 18 * -(-flood // SLOW_AT_ONCE)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("model", ["gone", "misnamed", "unknown-authority", "expired", "plain"])
async def test_unproven_upstream_gets_nothing(
    gateway: Gateway, dataplane: DataPlane, flood: int, model: str
) -> None:
    """A wrong certificate, or none: every call ends with 503 or 504 before anything was sent.

    The fixture looks at what these upstreams have received when all tests are over: nothing.
    """
    origin, end = gateway.origin_of(model), int(time.time()) + 7200
    token = gateway.seal(deployment=f"{model}-1", origin=origin, model=model, exp=end)
    statuses: Counter[int] = Counter()
    # Who does not answer TLS keeps each call waiting until the connection's time is over.
    at_once = SLOW_AT_ONCE if model == "plain" else AT_ONCE
    await pour(gateway.port, call_bytes(token), flood, at_once, refused(statuses, dataplane))
    # Of a connection that stays mute on a busy machine, whichever timeout comes first.
    assert statuses.keys() <= ({503, 504} if model == "plain" else {503})
    assert gateway.received == []
    for answer in await flood_mixed(lambda: gateway.mint(model), 5):
        check_refusal(answer, answer.status)
        assert answer.status in {502 if UNREACHED_MINT in dataplane.differences else 503, 504}
