from pathlib import Path
from typing import Final

import pytest

from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import ORIGIN, check_readable, check_refusal
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY
from helpers.handles import sealed
from helpers.http11 import Client, request_bytes, send
from ringback.envoylint.parts import manager

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
BEARER: Final = bearer(KEY)
METHODS: Final = ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
# What paths take.
TAKEN: Final = {
    MINT: ("POST",),
    CALLS: ("GET", "POST"),
    "/realtime/calls?x=y": ("GET", "POST"),
    f"{CALLS}/rtc_x": ("GET",),
    f"{CALLS}/rtc_x/hangup": ("POST",),
}


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize(
    ("method", "path"),
    [(method, path) for path, taken in TAKEN.items() for method in METHODS if method not in taken],
)
async def test_method_is_refused(gateway: Gateway, method: str, path: str) -> None:
    """Another method is answered with 405 and those that the path takes."""
    lines = [("origin", ORIGIN), BEARER]
    answer = await send(gateway.port, request_bytes(method, path, lines))
    assert answer.status == 405
    assert answer.header("allow") == ", ".join((*TAKEN[path], "OPTIONS"))
    check_readable(answer)
    if method != "HEAD":
        check_refusal(answer, 405, "method_not_allowed")
    assert gateway.received == []


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("path", [CALLS, "/realtime/calls", f"{CALLS}/{sealed()}"])
async def test_calls_that_nobody_supervises_are_not_known(gateway: Gateway, path: str) -> None:
    """404 for everybody, by extauthz."""
    for lines in ([], [BEARER]):
        request = request_bytes("GET", path, [("origin", ORIGIN), *lines])
        answer = await send(gateway.port, request)
        check_refusal(answer, 404, "not_found")
        assert answer.error["message"] == "There is nothing at this path."
    assert gateway.received == []


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize(
    "path",
    [
        # Realistic
        "/",
        "/v1/models",
        "/v1/realtime/sessions",
        "/v1/realtime/translations/client_secrets",
        "/v1/realtime/translations/calls",
        "/v1/realtime/calls/",
        "/playground",
        # Synthetic
        "/v1/realtime/Calls",
        "/v1/realtime/calls;x=1",
        "/v1/realtime/callsx",
        "/v1/realtime/calls/../../calls",
        "/x/v1/realtime/calls",
        "/healthz/",
        "/readyz/../readyzz",
    ],
)
async def test_path_is_refused(gateway: Gateway, path: str) -> None:
    """Everything else is answered with 404, also to those who have a key."""
    for body in (b"", b"x" * 70000):
        answer = await gateway.post(path, [BEARER], body)
        check_refusal(answer, 404, "not_found")
    assert gateway.received == []


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        # Realistic
        pytest.param(
            request_bytes("POST", MINT, [BEARER, ("x-large", "y" * 33000)]),
            431,
            "headers_too_large",
            id="headers-of-33-kB",
        ),
        pytest.param(
            request_bytes("POST", MINT, [BEARER, *((f"x-{n}", "y") for n in range(70))]),
            431,
            "headers_too_large",
            id="70-headers",
        ),
        pytest.param(b"POST " + MINT.encode() + b" HTTP/1.0\r\n\r\n", 426, None, id="http-1.0"),
        # Synthetic
        pytest.param(
            request_bytes("POST", MINT, [BEARER, ("x_ringback_cluster", "x")]),
            400,
            "bad_request",
            id="underscore",
        ),
        pytest.param(
            request_bytes("POST", "/v1%2frealtime/calls", [BEARER]), 400, "bad_request", id="slash"
        ),
        pytest.param(
            request_bytes("POST", "/v1/realtime%5Ccalls", [BEARER]), 400, "bad_request", id="back"
        ),
        pytest.param(request_bytes("POST", f"{CALLS}#x", [BEARER]), 400, None, id="fragment"),
        pytest.param(b"POST /x HTTP/1.1\r\n\r\n", 400, "bad_request", id="no-host"),
        # Pathological
        pytest.param(
            request_bytes(
                "POST",
                MINT,
                [BEARER, ("content-length", "2"), ("transfer-encoding", "chunked")],
                b"0\r\n\r\n",
            ),
            400,
            "bad_request",
            id="length-and-chunks",
        ),
        pytest.param(
            request_bytes(
                "POST", MINT, [BEARER, ("content-length", "2"), ("content-length", "3")], b"{}x"
            ),
            400,
            "bad_request",
            id="two-lengths",
        ),
        pytest.param(
            request_bytes("POST", MINT, [BEARER, ("transfer-encoding", "gzip, chunked")]),
            400,
            "bad_request",
            id="unknown-coding",
        ),
        pytest.param(
            request_bytes("POST", MINT, [BEARER, ("x-note", "a\0b")]), 400, "bad_request", id="nul"
        ),
        pytest.param(request_bytes("BREW", MINT, [BEARER]), 400, "bad_request", id="no-method"),
        pytest.param(request_bytes("POST", "/v1/\xe9", [BEARER]), 400, "bad_request", id="latin-1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "bad_request", id="tls-hello"),
    ],
)
async def test_no_proper_request(
    gateway: Gateway, data: bytes, status: int, code: str | None
) -> None:
    """What Envoy's codec refuses is answered in JSON and then hung up on.

    NOTE: These answers come before there is a filter or an id: neither CORS headers nor
    x-request-id can be on them. No browser can send such a request.
    """
    answer = await send(gateway.port, data)
    assert answer.status == status
    assert answer.header("content-type") == "application/json"
    assert code in {None, answer.error["code"]}
    assert answer.header("connection") == "close"
    assert gateway.received == []


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            request_bytes(
                "GET",
                f"{path}?model=voice",
                [
                    BEARER,
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ],
            ),
            id=f"websocket-{name}",
        )
        for name, path in (("calls", CALLS), ("nothing", "/x"))
    ]
    + [
        pytest.param(
            request_bytes("POST", CALLS, [BEARER, ("connection", "upgrade"), ("upgrade", "x")]),
            id="post",
        ),
        pytest.param(request_bytes("CONNECT", "api.openai.com:443", [BEARER]), id="connect"),
    ],
)
async def test_tunnel_is_refused(gateway: Gateway, data: bytes) -> None:
    """Upgrades and CONNECT are refused at once; NOTE: before there is a filter for CORS."""
    answer = await send(gateway.port, data, timeout_s=10)
    assert answer.status == 400
    assert answer.error["code"] == "upgrade_refused"
    assert answer.header("x-request-id")
    assert gateway.received == []


async def test_upgrade_that_nobody_needs_is_ignored(gateway: Gateway) -> None:
    """A client that would rather speak h2c gets its answer in HTTP/1.1."""
    headers = [("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]
    answer = await gateway.call(await gateway.token(), headers=[*headers, ("http2-settings", "AA")])
    assert answer.status == 201


async def test_slow_headers_are_cut_off(gateway: Gateway) -> None:
    """Headers that do not end within 3 s are answered with 408."""
    async with Client(gateway.port) as client:
        await client.write(b"POST " + CALLS.encode() + b" HTTP/1.1\r\nhost: x\r\nx-slow: ")
        answer = await client.read(timeout_s=6)
    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"


async def test_slow_bodies_are_cut_off(tmp_path: Path) -> None:
    """A body that does not arrive within the request timeout, here 1 s, is answered with 408."""
    nobody = {"extauthz": ["127.0.0.1:9"], "sdpfilter": ["127.0.0.1:9"]}
    bootstrap = local_bootstrap(endpoints=nobody, upstreams=[])
    manager(bootstrap)["request_timeout"] = "1s"
    headers = [("origin", ORIGIN), SDP_TYPE, ("content-length", "4000")]
    async with (
        EnvoyProcess(bootstrap, tmp_path) as envoy,
        Client(envoy.port("ingress_http")) as client,
    ):
        await client.write(request_bytes("POST", CALLS, headers, OFFER[:100]))
        check_refusal(await client.read(timeout_s=5), 408, "request_timeout")


async def test_refusals_do_not_end_the_connection(gateway: Gateway) -> None:
    """A client goes on with the same connection after it was refused."""
    token = await gateway.token()
    refused = request_bytes("POST", CALLS, [bearer("ek_wrong"), SDP_TYPE], OFFER)
    good = request_bytes("POST", CALLS, [bearer(token), SDP_TYPE], OFFER)
    async with Client(gateway.port) as client:
        for data, status in ((refused, 401), (good, 201), (refused, 401), (good, 201)):
            await client.write(data)
            assert (await client.read()).status == status


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """A second request behind the first in one packet is checked for itself."""
    token = await gateway.token()
    good = request_bytes("POST", CALLS, [bearer(token), SDP_TYPE], OFFER)
    refused = request_bytes("POST", CALLS, [SDP_TYPE], OFFER)
    async with Client(gateway.port) as client:
        await client.write(good + refused + good)
        statuses = [(await client.read()).status for _ in range(3)]
    assert statuses == [201, 401, 201]
