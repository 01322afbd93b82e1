import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from extauthz.deployments import Origin
from extauthz.egress import MAX_ANSWER_BYTES, Egress, UpstreamAnswer
from extauthz.providers.base import USER_AGENT, UpstreamRequest
from helpers.http11 import Header
from helpers.listener import Listener, Turn, listening
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError, UpstreamUnreachableError

REQUEST = UpstreamRequest(
    Origin("https", "api.openai.com", 443),
    "/v1/realtime/client_secrets",
    {
        "accept": Secret("application/json"),
        "content-type": Secret("application/json"),
        "authorization": Secret("Bearer sk-upstream"),
    },
)
# Start line, header lines in any order, body.
ON_THE_WIRE = (
    "POST /v1/realtime/client_secrets HTTP/1.1",
    [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer sk-upstream"),
        ("connection", "keep-alive"),
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("host", "api.openai.com"),
        ("user-agent", USER_AGENT),
        ("x-ringback-cluster", "upstream_https_api_openai_com_443"),
    ],
    b"{}",
)


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """Run what stands in for Envoy's egress listener."""
    async with listening() as running:
        yield running


@pytest.fixture
async def egress(listener: Listener) -> AsyncIterator[Egress]:
    """Return the client of that listener."""
    client = Egress.through(listener.url)
    yield client
    await client.close()


def sent(listener: Listener) -> list[tuple[str, list[Header], bytes]]:
    """Return what the listener received."""
    return [
        (request.start_line, sorted(request.headers), request.body) for request in listener.requests
    ]


async def post(egress: Egress, timeout_s: float = 5) -> UpstreamAnswer:
    """Send the request of this module."""
    return await egress.post(REQUEST, b"{}", timeout_s=timeout_s)


async def test_a_request_is_exact(egress: Egress, listener: Listener) -> None:
    """These headers go to the listener and no others; its answer comes back whole."""
    listener.reply(201, b'{"a":1}', ("X-Request-Id", "r1"))
    answer = await post(egress)
    assert sent(listener) == [ON_THE_WIRE]
    assert answer == UpstreamAnswer(
        201,
        {"content-type": "application/json", "x-request-id": "r1", "content-length": "7"},
        b'{"a":1}',
    )


async def test_a_service_is_asked_as_exactly(egress: Egress, listener: Listener) -> None:
    """A request without a body says nothing of one; what its query escapes stays escaped."""
    listener.reply(404, b"{}")
    answer = await egress.send(
        "GET",
        Origin("http", "litellm.internal", 4000),
        "/key/info?key=a%26b",
        {"authorization": Secret("Bearer sk-admin")},
        timeout_s=5,
    )
    assert answer.status == 404
    assert sent(listener) == [
        (
            "GET /key/info?key=a%26b HTTP/1.1",
            [
                ("accept", "*/*"),
                ("accept-encoding", "identity"),
                ("authorization", "Bearer sk-admin"),
                ("connection", "keep-alive"),
                ("host", "litellm.internal:4000"),
                ("user-agent", USER_AGENT),
                ("x-ringback-cluster", "upstream_http_litellm_internal_4000"),
            ],
            b"",
        )
    ]


async def test_a_connection_is_used_again(egress: Egress, listener: Listener) -> None:
    """Requests follow each other on one connection, whatever upstream they are for."""
    for _ in range(3):
        listener.reply(200, b"{}")
        await post(egress)
    assert (listener.connections, len(listener.requests)) == (1, 3)


async def test_cookies_never_come_back(egress: Egress, listener: Listener) -> None:
    """What one upstream stores in a cookie is sent to none."""
    cookie = ("Set-Cookie", "__cf_bm=marker; Path=/; Domain=127.0.0.1; Max-Age=3600")
    for headers in ((cookie, ("Set-Cookie", "second=marker")), (), ()):
        listener.reply(200, b"{}", *headers)
        await post(egress)
    assert sent(listener) == [ON_THE_WIRE] * 3


async def test_no_proxy_of_the_environment_is_used(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, credentials and certificates of the environment change nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/does/not/exist")
    egress = Egress.through(listener.url)
    listener.reply(200, b"{}")
    await post(egress)
    await egress.close()
    assert sent(listener) == [ON_THE_WIRE]


async def test_a_redirect_is_an_answer(egress: Egress, listener: Listener) -> None:
    """Nothing is sent where an upstream points to."""
    listener.reply(307, b"", ("Location", f"{listener.url}/elsewhere"))
    assert (await post(egress)).status == 307
    assert len(listener.requests) == 1


async def test_a_body_stays_compressed(egress: Egress, listener: Listener) -> None:
    """An upstream that compresses without being asked is not decompressed: no bomb goes off."""
    listener.reply(200, b"\x1f\x8b\x08not really", ("Content-Encoding", "gzip"))
    assert (await post(egress)).body == b"\x1f\x8b\x08not really"


OK = Turn(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("end", [Turn(then="close"), Turn(then="reset")], ids=["close", "reset"])
async def test_a_dead_connection_is_replaced_once(
    egress: Egress, listener: Listener, end: Turn
) -> None:
    """A kept connection that ends without a word is replaced, and the request sent again."""
    listener.turns += [OK, end, OK]
    await post(egress)
    answer = await post(egress)
    assert answer.status == 200
    assert sent(listener) == [ON_THE_WIRE] * 3
    assert listener.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_not_used(
    egress: Egress, listener: Listener
) -> None:
    """A connection that the listener closed between requests costs no second request."""
    listener.turns += [Turn(OK.data, "close"), OK]
    await post(egress)
    await asyncio.sleep(0.05)
    await post(egress)
    assert (listener.connections, len(listener.requests)) == (2, 2)


async def test_a_request_is_sent_twice_at_most(egress: Egress, listener: Listener) -> None:
    """If nothing comes back the second time either, the upstream is unreachable: 503."""
    listener.turns += [Turn(then="close")] * 5
    with pytest.raises(UpstreamUnreachableError) as failed:
        await post(egress)
    assert failed.value.http_status == 503
    assert len(listener.requests) == 2


@pytest.mark.parametrize("end", [Turn(then="close"), Turn(then="reset")], ids=["close", "reset"])
async def test_what_may_not_happen_twice_is_sent_once(
    egress: Egress, listener: Listener, end: Turn
) -> None:
    """If nobody can tell whether a request was obeyed, it is not sent again: 503."""
    listener.turns += [OK, end, OK]
    await post(egress)
    with pytest.raises(UpstreamUnreachableError):
        await egress.post(REQUEST, b"{}", timeout_s=5, is_repeatable=False)
    assert len(listener.requests) == 2


async def test_nothing_listens(egress: Egress, listener: Listener) -> None:
    """Without a listener an upstream is unreachable, at once."""
    await egress.close()
    unused = Egress.through("http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(UpstreamUnreachableError):
        await post(unused)
    assert time.monotonic() - started < 3
    await unused.close()
    assert listener.requests == []


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(Turn(HEAD + b'Content-Length: 9\r\n\r\n{"a', "close"), id="cut-body"),
        pytest.param(Turn(HEAD + b"Content-Length: 9\r\n\r\n", "reset"), id="reset-body"),
        pytest.param(Turn(CHUNKED + b"5\r\n{", "close"), id="cut-chunk"),
        pytest.param(Turn(CHUNKED + b"zz\r\n", "hang"), id="bad-chunk"),
        pytest.param(Turn(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "hang"), id="no-http"),
        pytest.param(Turn(HEAD + b"Content-Length: two\r\n\r\n{}", "hang"), id="bad-length"),
        pytest.param(Turn(HEAD + b"x-big: " + b"x" * 70_000 + b"\r\n\r\n", "hang"), id="big-head"),
    ],
)
async def test_an_answer_that_began_is_never_asked_for_again(
    egress: Egress, listener: Listener, turn: Turn
) -> None:
    """An answer that is cut off or no HTTP is the upstream's failure, after one request: 502."""
    listener.turns += [turn, OK]
    with pytest.raises(UpstreamFailedError) as failed:
        await post(egress)
    assert failed.value.http_status == 502
    assert len(listener.requests) == 1


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(Turn(then="hang"), id="no-answer"),
        pytest.param(Turn(HEAD + b"Content-Length: 9\r\n\r\n{", "hang"), id="half-an-answer"),
        pytest.param(Turn(OK.data, delay_s=2), id="late-answer"),
    ],
)
async def test_time_is_limited(egress: Egress, listener: Listener, turn: Turn) -> None:
    """The deadline is for everything up to the last byte: 504, and no second request."""
    listener.turns.append(turn)
    started = time.monotonic()
    with pytest.raises(UpstreamTimeoutError) as failed:
        await post(egress, timeout_s=0.5)
    assert failed.value.http_status == 504
    assert 0.4 < time.monotonic() - started < 3
    assert len(listener.requests) == 1


async def test_the_deadline_counts_both_attempts(egress: Egress, listener: Listener) -> None:
    """A second attempt has only what the first one left of the time."""
    listener.turns += [Turn(then="close", delay_s=0.15), Turn(OK.data, delay_s=0.15)]
    with pytest.raises(UpstreamTimeoutError):
        await post(egress, timeout_s=0.2)


async def test_a_connection_is_not_used_after_a_timeout(egress: Egress, listener: Listener) -> None:
    """A late answer never becomes the answer to the next request."""
    listener.turns += [Turn(OK.data.replace(b"{}", b"[]"), delay_s=0.6), OK]
    with pytest.raises(UpstreamTimeoutError):
        await post(egress, timeout_s=0.4)
    assert (await post(egress)).body == b"{}"
    assert listener.connections == 2


async def test_the_size_is_limited(egress: Egress, listener: Listener) -> None:
    """An answer of the largest size is read, one byte more is refused: 502."""
    listener.reply(200, b"x" * MAX_ANSWER_BYTES)
    assert len((await post(egress)).body) == MAX_ANSWER_BYTES
    listener.reply(200, b"x" * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(UpstreamFailedError):
        await post(egress)


async def test_an_endless_answer_ends_at_the_limit(egress: Egress, listener: Listener) -> None:
    """An answer that does not say how long it is ends when it is too long; then nothing hangs."""
    data = CHUNKED + b"10000\r\n%s\r\n" % (b"x" * 65536) * 20
    listener.turns += [Turn(data, "hang"), OK]
    started = time.monotonic()
    with pytest.raises(UpstreamFailedError):
        await post(egress)
    assert (await post(egress)).body == b"{}"
    assert time.monotonic() - started < 4


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(503, UpstreamUnreachableError, id="connect-failure"),
        pytest.param(502, UpstreamUnreachableError, id="protocol-error"),
        pytest.param(404, UpstreamUnreachableError, id="no-route"),
        pytest.param(504, UpstreamTimeoutError, id="timeout"),
    ],
)
async def test_envoys_own_answer_is_told_from_an_upstreams(
    egress: Egress, listener: Listener, status: int, kind: type[ApiError]
) -> None:
    """What Envoy says because it got no answer is 503 or 504; an upstream's same status passes.

    Either is counted as a failure of the upstream, a status below 500 from it is not.
    """
    before = failures(kind.code), failures("upstream_failed")
    listener.reply(status, b"no healthy upstream", ("x-ringback-egress", "UF"))
    with pytest.raises(kind):
        await post(egress)
    listener.reply(status, b"{}")
    assert (await post(egress)).status == status
    after = failures(kind.code), failures("upstream_failed")
    assert (after[0] - before[0], after[1] - before[1]) == (1, int(status >= 500))


def failures(code: str) -> float:
    """Return how many requests to the upstream have failed so."""
    labels = {"cluster": REQUEST.origin.cluster, "error": code}
    return REGISTRY.get_sample_value("ringback_upstream_errors_total", labels) or 0


async def test_a_cancelled_request_frees_its_connection(egress: Egress, listener: Listener) -> None:
    """If the downstream goes, its request ends; the next one is not disturbed."""
    listener.turns += [Turn(then="hang"), OK]
    task = asyncio.create_task(post(egress))
    await listener.received.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await post(egress)).status == 200
