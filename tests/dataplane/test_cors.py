import json
from typing import Final

import pytest

from helpers.expect import ORIGIN, check_readable
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY
from helpers.http11 import Message, request_bytes, send
from helpers.recording import error_reply

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
BEARER: Final = bearer(KEY)


def preflight(path: str, origin: str, method: str = "POST") -> bytes:
    """Return what a browser asks before it sends the offer of an SDK."""
    headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type,x-openai-agents-sdk"),
    ]
    return request_bytes("OPTIONS", path, headers)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize(
    "path", [MINT, CALLS, f"{CALLS}/rtc_x", "/realtime/calls", "/openai/v1/realtime/calls"]
)
async def test_preflight_is_answered(gateway: Gateway, path: str) -> None:
    """A page of an allowed origin may call, without any credential in its preflight."""
    answer = await send(gateway.port, preflight(path, ORIGIN))
    assert answer.status == 200
    assert answer.body == b""
    check_readable(answer)
    methods = str(answer.header("access-control-allow-methods")).split(", ")
    assert {"GET", "POST"} <= set(methods)
    allowed = str(answer.header("access-control-allow-headers")).split(", ")
    assert {"content-type", "x-openai-agents-sdk", "openai-safety-identifier"} <= set(allowed)
    assert {"authorization", "x-litellm-api-key", "api-key", "x-api-key"} <= set(allowed)
    assert "access-control-allow-credentials" not in answer.names
    assert gateway.received == []


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize(
    "origin",
    [
        # Realistic
        pytest.param("https://evil.example", id="another-site"),
        pytest.param("null", id="null"),
        pytest.param("http://localhost.evil.example:3000", id="longer-name"),
        # Synthetic
        pytest.param("https://localhost:3000", id="another-scheme"),
        pytest.param("http://localhost:3000.evil.example", id="longer-port"),
        pytest.param("http://evil.example/http://localhost:3000", id="path"),
        # Pathological
        pytest.param("http://127a0b0c1:3000", id="any-for-dots"),
        pytest.param("http://localhost:3000, https://evil.example", id="two"),
        pytest.param("", id="empty"),
    ],
)
async def test_other_origins_read_nothing(gateway: Gateway, origin: str) -> None:
    """A page of another origin gets no consent: in its preflight, in answers and in refusals."""
    token = await gateway.token()
    sdp = [bearer(token), SDP_TYPE]
    # The refusal of a provider takes another way out than ours.
    gateway.openai.script["calls"] = error_reply(429, {"message": "slow down"})
    answers: list[Message] = [
        await send(gateway.port, preflight(CALLS, origin)),
        await gateway.post(
            MINT, [BEARER, JSON_TYPE], json.dumps({"model": "voice"}).encode(), origin=origin
        ),
        await gateway.post(MINT, [], b"{}", origin=origin),
        await gateway.post(CALLS, sdp, OFFER, origin=origin),
        await gateway.post("/nothing", [], b"", origin=origin),
    ]
    # Without any text in it, an Origin makes no preflight.
    assert [answer.status for answer in answers] == [200 if origin else 405, 200, 401, 429, 404]
    for answer in answers:
        assert "access-control-allow-origin" not in answer.names
