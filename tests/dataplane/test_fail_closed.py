import signal
import time
from collections.abc import Sequence

import pytest

from helpers.expect import check_refusal
from helpers.gateway import Gateway
from helpers.http11 import Message, request_bytes, send
from helpers.load import flood

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

WORKERS = {
    "extauthz": ("extauthz-0", "extauthz-1"),
    "sdpfilter": ("sdpfilter-0", "sdpfilter-1"),
}
SERVICES = pytest.mark.parametrize("service", WORKERS)


async def probe(pair: Gateway, path: str) -> int:
    """Return the status of a health endpoint."""
    return (await send(pair.port, request_bytes("GET", path))).status


def check_all_refused(answers: Sequence[Message]) -> None:
    """Check that every answer is a refusal that a page can read and that blames nobody else."""
    assert len(answers) >= 200
    for answer in answers:
        check_refusal(answer, answer.status)
        assert answer.status in {503, 504}


@SERVICES
async def test_stopped_service_sends_nothing_upstream(pair: Gateway, service: str) -> None:
    """Without one of the services 200 of 200 calls end with 503, at once, until it is back."""
    token = await pair.token()
    pair.reset()
    children = await pair.stop(*WORKERS[service])
    begin = time.monotonic()
    try:
        answers = await flood(lambda: pair.call(token))
        took_s = time.monotonic() - begin
        if service == "extauthz":
            answers += await flood(pair.mint, 20)
        ready, alive = await probe(pair, "/readyz"), await probe(pair, "/healthz")
    finally:
        await pair.start(children)
    check_all_refused(answers)
    assert pair.received == []
    # In 8 rounds; if each waited for a timeout of sdpfilter's messages that would be 16 s.
    assert took_s < 15
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
    answers = await flood(lambda: pair.call(token), 300, at_once=10)
    called = [answer for answer in answers if answer.status == 201]
    refused = [answer for answer in answers if answer.status != 201]
    assert refused
    for answer in refused:
        check_refusal(answer, 503)
    assert len(pair.received) == len(called)


@SERVICES
async def test_hanging_service_sends_nothing_upstream(pair: Gateway, service: str) -> None:
    """If all workers of a service hang, 200 of 200 calls end within 16 s with 503 or 504."""
    token = await pair.token()
    pair.reset()
    begin = time.monotonic()
    try:
        for name in WORKERS[service]:
            pair.signal(name, signal.SIGSTOP)
        answers = await flood(lambda: pair.call(token), at_once=200)
        took_s = time.monotonic() - begin
        received = list(pair.received)
    finally:
        for name in WORKERS[service]:
            pair.signal(name, signal.SIGCONT)
    check_all_refused(answers)
    assert received == []
    assert took_s < 18
