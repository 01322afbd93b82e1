import asyncio
import contextlib

import pytest

from helpers.expect import ORIGIN
from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, OPENAI_KEY
from helpers.handles import sealed
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Client, Header, request_bytes, send
from helpers.recording import error_reply
from helpers.wsclient import UPGRADE, shake_hands

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

VOICE = "/v1/realtime?model=voice"
HANDSHAKE = dict(UPGRADE)


def handshake(**changes: str | None) -> list[Header]:
    """Return the lines of a handshake with some changed, or None, left out."""
    lines = HANDSHAKE | {name.replace("_", "-"): value for name, value in changes.items()}
    return [(name, value) for name, value in lines.items() if value is not None]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        # Realistic
        ("model=voice&model=voice-azure", "model"),
        ("call_id={}&model=voice", "call_id"),
        ("call_id={}&intent=transcription", "call_id"),
        ("model=voice&intent=translation", "intent"),
        # Synthetic
        ("call_id={}&call_id={}", "call_id"),
        ("model=voice&intent=transcription&intent=transcription", "intent"),
        ("call_id={}&call%5Fid={}", "call_id"),
        ("call_id=", "call_id"),
        ("model=", "model"),
        ("model=voice%0d%0aX-Injected:%20yes", "model"),
        ("model=voice%00", "model"),
        ("model=%ff%fe", "model"),
        ("model=%20voice", "model"),
    ],
)
async def test_query_that_makes_no_sense_is_refused(
    gateway: Gateway, query: str, param: str
) -> None:
    """What is there twice, or cannot be a model or a handle, is 400; nothing goes upstream."""
    answer = await shake_hands(
        gateway, f"/v1/realtime?{query.format(sealed(), sealed())}", bearer(KEY)
    )
    assert (answer.status, answer.error["code"]) == (400, "query_invalid")
    assert answer.error["param"] == param
    assert gateway.received == []


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("model=voice&Model=voice-azure", "/v1/realtime?model=gpt-realtime"),
        ("m%6fdel=voice", "/v1/realtime?model=gpt-realtime"),
        ("model=voice;call_id=x&a=%0d%0a", None),
        ("model=voice#x", None),
        ("model=voice&&&=&x", "/v1/realtime?model=gpt-realtime"),
        (f"model=voice&{'x=y&' * 3000}", "/v1/realtime?model=gpt-realtime"),
    ],
)
async def test_odd_query_means_what_it_says_or_nothing(
    gateway: Gateway, query: str, target: str | None
) -> None:
    """The query upstream is made here: nothing of the caller's is in it."""
    answer = await shake_hands(gateway, f"/v1/realtime?{query}", bearer(KEY))
    assert answer.status == (101 if target else 400)
    assert [request.target for request in gateway.received] == ([target] if target else [])


@pytest.mark.parametrize(
    ("method", "target", "lines", "refusal"),
    [
        # Realistic
        pytest.param("GET", VOICE, [], (426, "upgrade_required"), id="no-upgrade"),
        pytest.param(
            "GET", VOICE, handshake(connection="keep-alive"), (426, "upgrade_required"), id="half"
        ),
        pytest.param(
            "GET", VOICE, handshake(upgrade=None), (426, "upgrade_required"), id="other-half"
        ),
        pytest.param("POST", VOICE, [], (405, "method_not_allowed"), id="post"),
        pytest.param("GET", "/v1/realtime/", handshake(), (400, "upgrade_refused"), id="slash"),
        pytest.param("GET", "/v1/realtime/x", handshake(), (400, "upgrade_refused"), id="path"),
        # Synthetic
        pytest.param("POST", VOICE, handshake(), (400, "upgrade_refused"), id="post-upgrade"),
        pytest.param("GET", VOICE, handshake(upgrade="h2c"), (426, "upgrade_required"), id="h2c"),
        pytest.param("GET", VOICE, handshake(upgrade="tcp"), (400, "upgrade_refused"), id="tcp"),
        pytest.param(
            "GET", "/v1/realtime", handshake(upgrade="connect-udp"), (404, "not_found"), id="udp"
        ),
        pytest.param(
            "GET", VOICE, handshake(upgrade="websocket, tcp"), (400, "upgrade_refused"), id="both"
        ),
        pytest.param(
            "GET", "/v1/realtime/calls", handshake(), (400, "upgrade_refused"), id="at-calls"
        ),
        pytest.param(
            "POST",
            "/v1/realtime/calls/x/hangup",
            handshake(),
            (400, "upgrade_refused"),
            id="at-control",
        ),
        pytest.param("GET", "/readyz", handshake(), (400, "upgrade_refused"), id="at-ready"),
        pytest.param("GET", "/V1/REALTIME", handshake(), (400, "upgrade_refused"), id="case"),
        pytest.param("GET", "/v1%2frealtime", handshake(), (400, "bad_request"), id="escaped"),
    ],
)
async def test_other_upgrades_are_refused(
    gateway: Gateway, method: str, target: str, lines: list[Header], refusal: tuple[int, str]
) -> None:
    """Only GET of the three paths, as WebSocket in every respect, is one."""
    answer = await send(gateway.port, request_bytes(method, target, [bearer(KEY), *lines]))
    assert (answer.status, answer.error["code"]) == refusal
    assert gateway.received == []


async def test_internal_headers_open_nothing(gateway: Gateway) -> None:
    """Headers by which extauthz speaks to Envoy's routes do nothing from outside."""
    origin = gateway.openai.url().replace("://", "_").replace(":", "_").replace(".", "_")
    inner = [("x-ringback-cluster", f"upstream_{origin}"), ("x-ringback-route", "websocket")]
    answer = await shake_hands(gateway, VOICE, *inner)
    assert (answer.status, answer.error["code"]) == (401, "key_missing")
    # With a token, an offer goes to sdpfilter all the same.
    lines = [bearer(gateway.seal()), SDP_TYPE, *inner]
    refused = await gateway.post("/v1/realtime/calls", lines, b"not an offer")
    assert refused.status == 400
    assert gateway.received == []
    called = await gateway.post("/v1/realtime/calls", lines, OFFER)
    assert called.status == 201
    assert not [name for name in gateway.received[0].names if name.startswith("x-ringback")]


@pytest.mark.parametrize(
    "further",
    [
        pytest.param([], id="nothing"),
        pytest.param([("content-length", "1000")], id="length"),
        pytest.param([("transfer-encoding", "chunked")], id="chunked"),
    ],
)
async def test_what_follows_a_handshake_is_no_request(
    gateway: Gateway, further: list[Header]
) -> None:
    """Bytes sent before the provider has agreed never become a request of theirs or ours."""
    gateway.openai.script["realtime"] = error_reply(404, {"message": "not live"})
    smuggled = request_bytes("GET", "/v1/secrets", [("authorization", "Bearer x")], host="x")
    data = request_bytes("GET", VOICE, [bearer(KEY), *UPGRADE, *further]) + smuggled
    async with Client(gateway.port) as client:
        await client.write(data)
        answer = await client.read()
        assert answer.status in {400, 404}
        with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError):
            second = await client.read(timeout_s=0.5)
            assert second.status in {400, 404}
    assert [r.target for r in gateway.received] in ([], ["/v1/realtime?model=gpt-realtime"])
    # The connection upstream was not left with bytes on it that the next request would follow.
    gateway.reset()
    assert (await shake_hands(gateway, VOICE, bearer(KEY))).status == 101
    assert [r.target for r in gateway.received] == ["/v1/realtime?model=gpt-realtime"]


@pytest.mark.parametrize(
    ("value", "leaves"),
    [
        # Realistic
        pytest.param("permessage-deflate; client_max_window_bits", True, id="compression"),
        # Synthetic
        pytest.param("x" * 20000, True, id="long"),
    ],
)
async def test_extensions_are_between_the_ends(gateway: Gateway, value: str, leaves: bool) -> None:
    """Extensions change frames, which nobody reads on the way, so they are left to both ends."""
    lines = [bearer(KEY), ("sec-websocket-extensions", value)]
    await shake_hands(gateway, VOICE, *lines)
    (request,) = gateway.received
    assert (request.header("sec-websocket-extensions") == value) is leaves


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Realistic
        ("openai-beta", "realtime=v1"),
        ("OpenAI-Beta", "realtime=v1"),
        # Synthetic
        ("sec-websocket-protocol", f"realtime,openai-insecure-api-key.{KEY}"),
        ("sec-websocket-protocol", "realtime\t,\topenai-beta.realtime-v1,,x"),
        ("connection", "upgrade, authorization"),
        ("connection", "upgrade, sec-websocket-key"),
        ("proxy-authorization", f"Bearer {KEY}"),
        ("x-api-key", KEY),
        ("x-original-url", "/v1/models"),
    ],
)
async def test_headers_do_not_leave(gateway: Gateway, name: str, value: str) -> None:
    """Whatever else is in a handshake stays behind, and what is needed arrives."""
    lines = [line for line in UPGRADE if line[0] != name]
    answer = await send(
        gateway.port, request_bytes("GET", VOICE, [*lines, bearer(KEY), (name, value)])
    )
    assert answer.status in {101, 400}, answer.raw
    for request in gateway.received:
        assert request.header("authorization") == f"Bearer {OPENAI_KEY}"
        assert request.header("upgrade") == "websocket"
        assert KEY not in request.raw.decode()
        assert "beta" not in request.raw.decode().lower()
        assert name == "connection" or name.lower() not in request.names


@pytest.mark.parametrize("path", ["/v1/realtime?model=voice", "/v1/realtime?call_id=x"])
async def test_extended_connect_is_refused(gateway: Gateway, path: str) -> None:
    """WebSockets over HTTP/2 (RFC 8441) are not served, and nothing goes upstream."""
    headers = [(":protocol", "websocket"), ("sec-websocket-version", "13"), bearer(KEY)]
    try:
        answer = await send_h2(gateway.port, "CONNECT", path, [*headers, ("origin", ORIGIN)])
    except ResetError:
        pass
    else:
        assert answer.status >= 400
    assert gateway.received == []
