from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from helpers.dataplanes import DataPlane
from helpers.envoygateway.differences import HANDSHAKE_REFUSALS
from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, KEY, MASTER_KEY, OPENAI_KEY
from helpers.http11 import Header, Message
from helpers.recording import Reply, error_reply
from helpers.wsclient import ACCEPT, UPGRADE, converse, echoed, shake_hands
from helpers.wsserver import CLOSE

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

VOICE = "/v1/realtime?model=voice"
AZURE = "/v1/realtime?model=voice-azure"
PAGE: Header = ("origin", ORIGIN)
KEY_PROTOCOL = f"openai-insecure-api-key.{KEY}"
# Headers of a handshake upstream, besides those of the provider.
HANDSHAKE = {"host", "x-request-id", "user-agent", *(name for name, _ in UPGRADE)}


def offers(*names: str) -> Header:
    """Return the header that offers subprotocols."""
    return ("sec-websocket-protocol", ", ".join(names))


def check_open(answer: Message, subprotocol: str | None = None) -> None:
    """Check that an answer is a handshake and nothing more."""
    assert answer.status == 101, answer.raw
    names = {"upgrade", "connection", "sec-websocket-accept", "x-request-id", "server", "date"}
    if subprotocol is not None:
        names |= {"sec-websocket-protocol"}
    # A page cannot read headers of a handshake; those of CORS do no harm.
    cors = {"access-control-allow-origin", "access-control-expose-headers"}
    assert answer.names - cors == names
    assert answer.header("sec-websocket-accept") == ACCEPT
    assert answer.header("sec-websocket-protocol") == subprotocol


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize("prefix", ["/v1/realtime", "/realtime", "/openai/v1/realtime"])
@pytest.mark.parametrize(
    ("query", "target", "credentials"),
    [
        # Realistic
        (
            "model=voice",
            "/v1/realtime?model=gpt-realtime",
            {"authorization": f"Bearer {OPENAI_KEY}", "openai-organization": "org-of-the-operator"},
        ),
        ("model=voice-azure", "/openai/v1/realtime?model=rt-deployment", {"api-key": AZURE_KEY}),
        (
            "intent=transcription&model=voice",
            "/v1/realtime?intent=transcription",
            {"authorization": f"Bearer {OPENAI_KEY}", "openai-organization": "org-of-the-operator"},
        ),
        (
            "intent=transcription&model=voice-azure",
            "/openai/v1/realtime?intent=transcription",
            {"api-key": AZURE_KEY},
        ),
    ],
)
async def test_handshake_sends_exactly_this(
    gateway: Gateway, prefix: str, query: str, target: str, credentials: dict[str, str]
) -> None:
    """The provider gets its path, the standard key and the handshake; all else stays behind."""
    noise = [
        ("cookie", "a=b"),
        ("openai-beta", "realtime=v1"),
        ("x-stainless-os", "Linux"),
        ("openai-organization", "org-of-the-caller"),
        ("x-forwarded-for", "192.0.2.1"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        offers("realtime", KEY_PROTOCOL, "openai-beta.realtime-v1"),
    ]
    further = "api-version=2024-10-01-preview&deployment=x&user=ada&model_id=y"
    answer = await shake_hands(gateway, f"{prefix}?{query}&{further}", bearer(KEY), *noise)
    check_open(answer, "realtime")
    (request,) = gateway.received
    assert request.start_line == f"GET {target} HTTP/1.1"
    assert request.names == HANDSHAKE | credentials.keys()
    for name, value in (*UPGRADE, *credentials.items()):
        assert request.header(name) == value
    assert str(request.header("user-agent")).startswith("ringback/")


@pytest.mark.parametrize(
    "headers",
    [
        # Realistic
        pytest.param([bearer(KEY)], id="authorization"),
        pytest.param([("api-key", KEY)], id="api-key"),
        pytest.param([offers("realtime", KEY_PROTOCOL)], id="browser"),
        pytest.param([offers(KEY_PROTOCOL, "realtime")], id="key-first"),
        pytest.param(
            [offers("realtime", KEY_PROTOCOL, "openai-beta.realtime-v1")], id="old-browser"
        ),
        pytest.param([bearer(MASTER_KEY)], id="master"),
        # Synthetic
        pytest.param([("x-litellm-api-key", KEY)], id="litellm"),
        pytest.param(
            [bearer(KEY), offers("realtime", "openai-insecure-api-key.sk-x")], id="header-first"
        ),
        pytest.param([offers("realtime"), offers(KEY_PROTOCOL)], id="two-lines"),
        pytest.param([("authorization", ""), offers(KEY_PROTOCOL)], id="empty-header"),
    ],
)
async def test_key_may_be_in_each_place(gateway: Gateway, headers: list[Header]) -> None:
    """A key in a header or in a subprotocol opens a WebSocket; `realtime` alone is answered."""
    offered = ",".join(value for name, value in headers if name == "sec-websocket-protocol")
    answer = await shake_hands(gateway, VOICE, *headers)
    check_open(answer, "realtime" if "realtime" in offered.replace(" ", "").split(",") else None)
    (request,) = gateway.received
    assert request.header("authorization") == f"Bearer {OPENAI_KEY}"
    assert KEY not in request.raw.decode()


@pytest.mark.parametrize("query", ["", "?model=voice", "?model=voice&intent=transcription"])
@pytest.mark.parametrize(
    "place", [bearer, lambda t: offers("realtime", f"openai-insecure-api-key.{t}")]
)
async def test_token_opens_its_own_model(
    gateway: Gateway, place: Callable[[str], Header], query: str
) -> None:
    """With a token the ephemeral key goes upstream, to the deployment that minted it."""
    token = gateway.seal()
    answer = await shake_hands(gateway, f"/v1/realtime{query}", place(token))
    check_open(answer, "realtime" if place is not bearer else None)
    (request,) = gateway.received
    assert request.target == "/v1/realtime?model=gpt-realtime"
    assert request.header("authorization") == "Bearer ek_upstream_made_by_a_test"
    assert request.names == HANDSHAKE | {"authorization"}


async def test_token_of_azure_and_of_a_transcription(gateway: Gateway) -> None:
    """Azure gets the ephemeral key as a bearer token, and a transcription names no model."""
    token = await gateway.token("voice-azure")
    gateway.reset()
    check_open(await shake_hands(gateway, "/v1/realtime", bearer(token)))
    check_open(
        await shake_hands(
            gateway, "/v1/realtime", bearer(gateway.seal(session_type="transcription"))
        )
    )
    (azure,), (openai,) = gateway.azure.received, gateway.openai.received
    assert azure.target == "/openai/v1/realtime?model=rt-deployment"
    assert str(azure.header("authorization")).startswith("Bearer ek_upstream_")
    assert "api-key" not in azure.names
    assert openai.target == "/v1/realtime?intent=transcription"


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("target", [VOICE, AZURE])
async def test_messages_pass_both_ways(gateway: Gateway, target: str) -> None:
    """Text, binary, fragments, empty and large messages and pings pass as they are."""
    async with converse(gateway, target, [bearer(KEY)]) as connection:
        for message in ("hello", "", "\N{TELEPHONE RECEIVER}", b"", bytes(range(256)) * 2000):
            assert await echoed(connection, message) == message
        await connection.send(["in ", "three ", "parts"])
        assert await connection.recv() == "in three parts"
        await (await connection.ping(b"still there?"))
        for number in range(200):
            await connection.send(str(number))
        assert [await connection.recv() for _ in range(200)] == [str(n) for n in range(200)]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 3000, 4000, 4999])
async def test_close_codes_pass(gateway: Gateway, code: int) -> None:
    """The code with which the provider closes reaches the client, its reason too."""
    async with converse(gateway, VOICE, [bearer(KEY)]) as connection:
        await connection.send(f"{CLOSE}{code}")
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        assert (connection.close_code, connection.close_reason) == (code, "the upstream says so")


async def test_browser_library_is_answered_with_its_subprotocol(gateway: Gateway) -> None:
    """A client that insists on a subprotocol, as browsers do, gets `realtime`."""
    names = ["realtime", KEY_PROTOCOL]
    async with converse(gateway, VOICE, subprotocols=names, origin=ORIGIN) as connection:
        assert connection.subprotocol == "realtime"
        assert await echoed(connection, "hi") == "hi"


@pytest.mark.parametrize(
    ("headers", "target", "status", "code"),
    [
        # Realistic
        pytest.param([], VOICE, 401, "key_missing", id="no-key"),
        pytest.param([bearer("sk-nobody")], VOICE, 401, "key_unknown", id="unknown"),
        pytest.param([bearer("sk-key-that-is-blocked")], VOICE, 401, "key_blocked", id="blocked"),
        pytest.param([bearer("sk-key-that-expired")], VOICE, 401, "key_expired", id="expired"),
        pytest.param([bearer("sk-key-for-azure-alone")], VOICE, 403, "model_denied", id="denied"),
        pytest.param(
            [bearer(KEY)], "/v1/realtime?model=nope", 400, "model_unknown", id="unknown-model"
        ),
        pytest.param([bearer(KEY)], "/v1/realtime", 400, "model_required", id="no-model"),
        pytest.param([bearer("ek_x")], VOICE, 401, "token_invalid", id="no-token"),
        pytest.param(
            [bearer(KEY), ("origin", "https://evil.example")],
            VOICE,
            403,
            "origin_denied",
            id="evil",
        ),
        # Synthetic
        pytest.param([bearer(KEY), ("origin", "null")], VOICE, 403, "origin_denied", id="null"),
        pytest.param([bearer(KEY), ("origin", "")], VOICE, 403, "origin_denied", id="empty-origin"),
        pytest.param(
            [bearer(KEY), PAGE, ("origin", "https://evil.example")],
            VOICE,
            403,
            "origin_denied",
            id="two-origins",
        ),
        pytest.param(
            [offers(KEY_PROTOCOL, f"openai-insecure-api-key.{MASTER_KEY}")],
            VOICE,
            401,
            "key_malformed",
            id="two-keys",
        ),
        pytest.param(
            [bearer("sk-nobody"), offers(KEY_PROTOCOL)], VOICE, 401, "key_unknown", id="bad-first"
        ),
        pytest.param(
            [offers("openai-insecure-api-key.")], VOICE, 401, "key_malformed", id="empty-key"
        ),
        pytest.param(
            [offers(f"OpenAI-Insecure-API-Key.{KEY}")], VOICE, 401, "key_missing", id="case"
        ),
        pytest.param([offers(KEY)], VOICE, 401, "key_missing", id="bare-key"),
        pytest.param(
            [("cookie", f"key={KEY}")], f"{VOICE}&key={KEY}", 401, "key_missing", id="query"
        ),
    ],
)
async def test_handshake_is_refused(
    gateway: Gateway, headers: list[Header], target: str, status: int, code: str
) -> None:
    """Who may not gets JSON and a status, no WebSocket, and the upstream nothing."""
    answer = await shake_hands(gateway, target, *headers)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert gateway.received == []


@pytest.mark.parametrize(
    ("claims", "query", "status", "code"),
    [
        # Realistic
        pytest.param({"exp": 2}, "", 401, "token_invalid", id="expired"),
        pytest.param({}, "?model=voice-azure", 400, "query_invalid", id="other-model"),
        pytest.param({"deployment": "voice-0"}, "", 401, "deployment_gone", id="gone"),
        pytest.param({"origin": "https://old.example"}, "", 401, "deployment_gone", id="moved"),
        pytest.param({"key_hash": "nobody"}, "", 401, "token_invalid", id="key-gone"),
        pytest.param({"bound_origin": "https://a.example"}, "", 401, "token_invalid", id="bound"),
        # Synthetic
        pytest.param(
            {"secret": "the secret of another gateway"}, "", 401, "token_invalid", id="forged"
        ),
        pytest.param({"model": "voice-azure"}, "", 401, "deployment_gone", id="mixed"),
    ],
)
async def test_token_is_refused(
    gateway: Gateway, claims: dict[str, Any], query: str, status: int, code: str
) -> None:
    """A token that could not make a call opens no WebSocket, and none for another model."""
    issued: dict[str, Any] = {"iat": 1} if "exp" in claims else {}
    token = gateway.seal(**issued, **claims)
    answer = await shake_hands(gateway, f"/v1/realtime{query}", bearer(token))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert gateway.received == []


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        # Realistic
        pytest.param(error_reply(400, {"message": "x"}), 400, "upstream_refused_request", id="400"),
        pytest.param(error_reply(401, {"message": OPENAI_KEY}), 502, "upstream_refused", id="401"),
        pytest.param(error_reply(403, {"message": OPENAI_KEY}), 502, "upstream_refused", id="403"),
        pytest.param(error_reply(404, {"message": "x"}), 404, "call_id_not_found", id="404"),
        pytest.param(
            error_reply(429, {}, ("Retry-After", "7")), 429, "upstream_refused_request", id="429"
        ),
        pytest.param(error_reply(500, {"message": OPENAI_KEY}), 502, "upstream_failed", id="500"),
        pytest.param(error_reply(503, {}), 502, "upstream_failed", id="503"),
        # Synthetic
        pytest.param(Reply(200, body=b"hello"), 502, "upstream_failed", id="200"),
        pytest.param(
            Reply(302, (("Location", f"https://x/?{OPENAI_KEY}"),)),
            502,
            "upstream_failed",
            id="302",
        ),
        pytest.param(error_reply(426, {}), 502, "upstream_failed", id="426"),
        pytest.param(Reply(hangs_up=True), 503, "unavailable", id="hangs-up"),
        pytest.param(
            Reply(429, (("Retry-After", OPENAI_KEY),)),
            429,
            "upstream_refused_request",
            id="odd-retry",
        ),
    ],
)
async def test_refusal_of_the_provider_is_told_in_our_words(
    gateway: Gateway, dataplane: DataPlane, reply: Reply, status: int, code: str
) -> None:
    """A handshake that the provider refuses is JSON of ours, without anything of its answer."""
    reply = Reply(
        reply.status,
        (*reply.headers, ("X-Internal", OPENAI_KEY), ("Set-Cookie", "a=b")),
        reply.body,
        hangs_up=reply.hangs_up,
    )
    gateway.openai.script["realtime"] = reply
    answer = await shake_hands(gateway, VOICE, bearer(KEY), PAGE)
    differs = HANDSHAKE_REFUSALS in dataplane.differences
    if differs and reply.hangs_up:
        assert (answer.status, answer.error["code"]) == (status, code)
    else:
        check_refusal(answer, status, code)
    assert OPENAI_KEY not in answer.raw.decode()
    assert answer.header("set-cookie") is None
    if ("Retry-After", "7") in reply.headers and not differs:
        assert answer.header("retry-after") == "7"
    assert len(gateway.received) == 1


async def test_refusal_that_is_too_large_does_not_leave(gateway: Gateway) -> None:
    """A refusal of more than Envoy holds is 503, and a page may read that."""
    headers = (("X-Internal", OPENAI_KEY),)
    gateway.openai.script["realtime"] = Reply(401, headers, OPENAI_KEY.encode() * 10_000)
    answer = await shake_hands(gateway, VOICE, bearer(KEY), PAGE)
    assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert OPENAI_KEY not in answer.raw.decode()


async def test_provider_that_cannot_be_reached_is_503(gateway: Gateway) -> None:
    """Where nobody listens or TLS does not fit, the caller gets 503."""
    for model in ("gone", "misnamed", "unknown-authority"):
        answer = await shake_hands(gateway, f"/v1/realtime?model={model}", bearer(KEY), PAGE)
        check_refusal(answer, 503, "unavailable")


async def test_websockets_are_logged(gateway: Gateway) -> None:
    """The access log has a line for each, with who and where, and no key of any kind."""
    async with converse(gateway, f"{VOICE}&key={KEY}", [offers(KEY_PROTOCOL)]) as connection:
        request_id = connection.response.headers["x-request-id"] if connection.response else ""
    line = await gateway.logged(request_id)
    facts = {name: line.get(name) for name in ("status", "outcome", "route", "key_alias", "model")}
    assert facts == {
        "status": 101,
        "outcome": "websocket",
        "route": "upstream_websocket",
        "key_alias": "web-team",
        "model": "voice",
    }
    assert KEY not in str(line)
