import json
from collections.abc import Iterable
from typing import Final

import pytest

from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Header

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
BEARER: Final = bearer(KEY)


@pytest.mark.parametrize(
    ("path", "headers", "body", "refusal"),
    [
        pytest.param(MINT, [], b"{}", (401, "key_missing"), id="no-key"),
        pytest.param(MINT, [BEARER], b"[", (400, "invalid_body"), id="bad-json"),
        pytest.param(MINT, [BEARER], b" " * 70000, (413, "body_too_large"), id="too-large"),
        pytest.param(CALLS, [SDP_TYPE], OFFER, (401, "token_invalid"), id="no-token-at-calls"),
        pytest.param("/nothing", [], b"", (404, "not_found"), id="no-path"),
        pytest.param("/v1/../v1/realtime/callsx", [], b"", (404, "not_found"), id="dots"),
    ],
)
async def test_http2_is_refused_alike(
    gateway: Gateway, path: str, headers: Iterable[Header], body: bytes, refusal: tuple[int, str]
) -> None:
    """Over HTTP/2 a refusal is what it is over HTTP/1.1."""
    lines = [("origin", ORIGIN), *headers]
    answer = await send_h2(gateway.port, "POST", path, lines, body)
    check_refusal(answer, *refusal)
    assert gateway.received == []


async def test_http2_makes_calls(gateway: Gateway) -> None:
    """A client may mint and call over HTTP/2."""
    body = json.dumps({"session": {"type": "realtime", "model": "voice"}}).encode()
    minted = await send_h2(gateway.port, "POST", MINT, [("origin", ORIGIN), BEARER], body)
    assert minted.status == 200
    lines = [("origin", ORIGIN), bearer(minted.json()["value"]), SDP_TYPE]
    called = await send_h2(gateway.port, "POST", CALLS, lines, OFFER)
    assert called.status == 201
    check_readable(called)
    assert [request.body for request in gateway.received][1] == OFFER


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        pytest.param("POST", [("X-Upper", "case")], id="upper-case"),
        pytest.param("POST", [("connection", "keep-alive")], id="connection"),
        pytest.param("POST", [("x-note", "a\r\nb: c")], id="line-break"),
        pytest.param("POST", [("x_y", "underscore")], id="underscore"),
        pytest.param("CONNECT", [(":protocol", "websocket")], id="websocket"),
    ],
)
async def test_http2_that_is_no_proper_request(
    gateway: Gateway, method: str, headers: Iterable[Header]
) -> None:
    """What no HTTP/2 client may send is reset or refused, and the upstream gets nothing."""
    try:
        answer = await send_h2(gateway.port, method, MINT, [*headers, BEARER])
    except ResetError:
        pass
    else:
        assert answer.status == 400
    assert gateway.received == []
