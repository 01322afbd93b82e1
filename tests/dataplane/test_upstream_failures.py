import asyncio
import json
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

import pytest

from helpers.dataplanes import DataPlane
from helpers.envoygateway.differences import LARGE_ANSWERS
from helpers.expect import check_readable, check_refusal
from helpers.gateway import Gateway
from helpers.gatewayfiles import AZURE_KEY, OPENAI_KEY
from helpers.http11 import Header, Message
from helpers.recording import (
    CALLS,
    CLIENT_SECRETS,
    JSON,
    SDP,
    SDP_ANSWER,
    Reply,
    call_reply,
    error_reply,
)

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

HTML: Final = b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
# What OpenAI says about a wrong key: it shows a part of it.
WRONG_KEY: Final = {
    "message": f"Incorrect API key provided: {OPENAI_KEY}. You can find your API key at ...",
    "type": "invalid_request_error",
    "param": None,
    "code": "invalid_api_key",
}
EMPTY_ERROR: Final = {"message": "", "type": "", "param": "", "code": ""}
RETRY_AFTER: Final = ("Retry-After", "7")


def html(status: int, *headers: Header) -> Reply:
    """Return a page of a proxy in front of the provider."""
    return Reply(status, (("Content-Type", "text/html"), *headers), HTML)


def minted(content: object) -> Reply:
    """Return a 200 with any JSON."""
    return Reply(200, (JSON,), json.dumps(content).encode())


def check_nothing_leaks(answer: Message) -> None:
    """Check that an answer holds nothing that only the provider and we should know."""
    for secret in (OPENAI_KEY, AZURE_KEY, "ek_upstream", "Incorrect API key", "cloudflare"):
        assert secret.encode() not in answer.raw


BOTH: Final = [
    # Realistic
    pytest.param(error_reply(403, WRONG_KEY), 502, "upstream_refused", id="403"),
    pytest.param(
        error_reply(429, {"message": "Rate limit", "code": "rate_limit_exceeded"}, RETRY_AFTER),
        429,
        "rate_limit_exceeded",
        id="429",
    ),
    pytest.param(html(429), 429, "upstream_refused_request", id="429-page"),
    pytest.param(error_reply(400, EMPTY_ERROR), 400, "upstream_refused_request", id="400-empty"),
    pytest.param(
        error_reply(400, {"message": "Offer did not have audio", "code": "invalid_offer"}),
        400,
        "invalid_offer",
        id="400",
    ),
    pytest.param(html(404), 404, "upstream_refused_request", id="404-page"),
    pytest.param(Reply(404), 404, "upstream_refused_request", id="404-nothing"),
    pytest.param(error_reply(500, {"message": "oops"}), 502, "upstream_failed", id="500"),
    pytest.param(html(502), 502, "upstream_failed", id="502-page"),
    pytest.param(html(503, RETRY_AFTER), 502, "upstream_failed", id="503"),
    pytest.param(html(504), 502, "upstream_failed", id="504"),
    # Synthetic
    pytest.param(
        Reply(307, (("Location", "https://evil.example/"),)), 502, "upstream_failed", id="307"
    ),
    pytest.param(Reply(400, (JSON,), b"{"), 400, "upstream_refused_request", id="400-cut-off"),
    pytest.param(
        error_reply(400, {"message": f"key {OPENAI_KEY} and ek_upstream_0000 in the text"}),
        400,
        "upstream_refused_request",
        id="400-with-secrets",
    ),
    pytest.param(Reply(408, (), b""), 504, "upstream_timeout", id="408"),
    # Pathological
    pytest.param(Reply(599, (JSON,), b"\xff" * 100), 502, "upstream_failed", id="599"),
    pytest.param(Reply(400, (JSON,), b"x" * 3_000_000), 502, None, id="400-of-3-MB"),
    pytest.param(Reply(hangs_up=True), 503, None, id="hangs-up"),
]


UNAUTHORIZED: Final = error_reply(401, WRONG_KEY)


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        *BOTH,
        # Realistic
        pytest.param(UNAUTHORIZED, 502, "upstream_refused", id="401"),
        pytest.param(html(200), 502, "upstream_failed", id="200-page"),
        pytest.param(minted({"object": "list"}), 502, "upstream_failed", id="200-without-value"),
        # Synthetic
        pytest.param(Reply(204), 502, "upstream_failed", id="204"),
        pytest.param(minted({"value": None}), 502, "upstream_failed", id="value-null"),
        pytest.param(minted({"value": ""}), 502, "upstream_failed", id="value-empty"),
        pytest.param(minted(["ek_upstream"]), 502, "upstream_failed", id="array"),
        pytest.param(
            minted({"value": "ek_upstream", "expires_at": 1}), 502, "upstream_failed", id="expired"
        ),
        # Pathological
        pytest.param(
            minted({"value": "ek_upstream\r\nx: y"}), 502, "upstream_failed", id="line-break"
        ),
        pytest.param(
            minted({"value": "ek_upstream" + "x" * 9000}), 502, "upstream_failed", id="9-kB"
        ),
        pytest.param(
            minted({"value": "ek_upstream", "session": "x" * 3_000_000}),
            502,
            "upstream_failed",
            id="3-MB",
        ),
    ],
)
async def test_failed_mint(gateway: Gateway, reply: Reply, status: int, code: str | None) -> None:
    """Each failure of a provider at mint has its status, and nothing of ours or theirs leaks."""
    gateway.openai.script[CLIENT_SECRETS] = reply
    answer = await gateway.mint()
    check_refusal(answer, status, code)
    check_nothing_leaks(answer)
    assert answer.header("retry-after") == expected_wait(reply, status)


@pytest.mark.dataplanes("envoy-gateway")
@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        *BOTH,
        # Realistic
        pytest.param(UNAUTHORIZED, 401, "token_refused_upstream", id="401"),
        pytest.param(html(200), 502, "sdp_invalid_answer", id="200-page"),
        pytest.param(Reply(201, (JSON,), b"{}"), 502, "sdp_invalid_answer", id="201-json"),
        pytest.param(Reply(201, (SDP,)), 502, "upstream_failed", id="201-nothing"),
        # Synthetic
        pytest.param(
            Reply(201, (SDP,), SDP_ANSWER[:500]), 502, "sdp_invalid_answer", id="201-half"
        ),
        pytest.param(
            Reply(201, (SDP,), SDP_ANSWER.replace(b"m=audio", b"m=video")),
            502,
            "sdp_section_mismatch",
            id="201-video",
        ),
        pytest.param(Reply(204), 502, "upstream_failed", id="204"),
        # Pathological
        pytest.param(
            Reply(201, (SDP,), b"v" * 3_000_000), 502, "upstream_failed", id="201-of-3-MB"
        ),
        pytest.param(Reply(201, (SDP,), b"\xff" * 2000), 502, "sdp_invalid_answer", id="201-bytes"),
    ],
)
async def test_failed_call(
    gateway: Gateway, dataplane: DataPlane, reply: Reply, status: int, code: str | None
) -> None:
    """Each failure of a provider at calls has its status, and nothing of ours or theirs leaks.

    A call is never sent twice.
    """
    token = await gateway.token()
    gateway.openai.script[CALLS] = reply
    answer = await gateway.call(token)
    if len(reply.body) > 2**20 and LARGE_ANSWERS in dataplane.differences:
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        check_readable(answer)
    else:
        check_refusal(answer, status, code)
    check_nothing_leaks(answer)
    assert answer.header("retry-after") == expected_wait(reply, status)
    assert len(gateway.openai.received_at(CALLS)) == 1


def expected_wait(reply: Reply, status: int) -> str | None:
    """Return what retry-after must say: the provider's word, else 1 s where we are at fault."""
    if RETRY_AFTER in reply.headers:
        return RETRY_AFTER[1]
    return "1" if status == 503 else None


@pytest.mark.parametrize("model", ["gone", "misnamed", "unknown-authority"])
async def test_unreachable_at_mint(gateway: Gateway, model: str) -> None:
    """Nobody there, another name in the certificate or an authority that nobody knows: 503.

    What these upstreams have received, which is nothing, is looked at when the gateway ends.
    """
    answer = await gateway.mint(model)
    check_refusal(answer, 503, "upstream_unreachable")
    assert answer.header("retry-after") == "1"
    check_nothing_leaks(answer)


@pytest.mark.parametrize("model", ["gone", "misnamed", "unknown-authority"])
async def test_unreachable_at_calls(gateway: Gateway, model: str) -> None:
    """An offer goes to nobody who cannot prove to be the deployment that minted."""
    token = gateway.seal(deployment=f"{model}-1", origin=gateway.origin_of(model), model=model)
    answer = await gateway.call(token)
    check_refusal(answer, 503, "unavailable")
    check_nothing_leaks(answer)


async def test_upstream_comes_back(gateway: Gateway) -> None:
    """While a provider is down calls get 503, and from its return on they work again."""
    token = await gateway.token()
    await gateway.openai.stop()
    try:
        check_refusal(await gateway.call(token), 503, "unavailable")
        check_refusal(await gateway.mint(), 503, "upstream_unreachable")
    finally:
        await gateway.openai.start()
    assert (await gateway.call(token)).status == 201
    assert (await gateway.mint()).status == 200


async def test_slow_upstreams_are_waited_for_and_hanging_ones_given_up(gateway: Gateway) -> None:
    """A provider may take 11 s for an answer; at 15 s a call ends with 504, a mint as set: at 2 s.

    At the same time, because it takes a while.
    """
    hanging, slow = await gateway.token("voice"), await gateway.token("voice-azure")
    gateway.openai.script |= {CLIENT_SECRETS: Reply(delay_s=60), CALLS: Reply(delay_s=60)}
    gateway.azure.script[CALLS] = replace(call_reply("rtc_slow"), delay_s=11)

    async def timed(request: Coroutine[Any, Any, Message]) -> tuple[Message, float]:
        begin = time.monotonic()
        return await request, time.monotonic() - begin

    (minted, mint_s), (called, call_s), (waited, _) = await asyncio.gather(
        timed(gateway.mint()), timed(gateway.call(hanging)), timed(gateway.call(slow))
    )
    check_refusal(minted, 504, "upstream_timeout")
    check_refusal(called, 504, "timeout")
    assert waited.status == 201
    assert 1.9 < mint_s < 5
    assert 14.5 < call_s < 18
    assert len(gateway.openai.received_at(CALLS)) == 1
