import time
from typing import Final
from urllib.parse import urlsplit

import pytest

from helpers.expect import ORIGIN, check_readable
from helpers.gateway import AZURE, OFFER, OPENAI, SDP_TYPE, SHORT, Gateway, bearer
from helpers.gatewayfiles import AZURE_KEY, OPENAI_KEY, TOKEN_SECRET
from helpers.http11 import Header, Message, request_bytes, send
from helpers.recording import CALLS, CLIENT_SECRETS, SDP_ANSWER, Reply, call_reply, minted_reply
from ringback import __version__
from ringback.contract import CALL_LOCATION_PREFIX
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.handles import open_handle

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PREFIXES: Final = pytest.mark.parametrize(
    "prefix", [OPENAI, SHORT, AZURE], ids=["openai", "short", "azure"]
)
MODELS: Final = pytest.mark.parametrize("model", ["voice", "voice-azure"], ids=["openai", "azure"])
USER_AGENT: Final = ("user-agent", f"ringback/{__version__}")

# What browsers, SDKs, proxies and people with bad intentions send along.
NOISE: Final[tuple[Header, ...]] = (
    ("cookie", "session=private-cookie"),
    ("user-agent", "Mozilla/5.0 private-agent"),
    ("accept", "*/*"),
    ("accept-language", "private-language"),
    ("accept-encoding", "gzip, br"),
    ("referer", "https://app.example/private-page"),
    ("sec-fetch-site", "cross-site"),
    ("x-openai-agents-sdk", "openai-agents-sdk.0.20.0"),
    ("x-stainless-lang", "private-language"),
    ("x-stainless-retry-count", "7"),
    ("openai-organization", "org-private"),
    ("openai-project", "proj-private"),
    ("openai-beta", "realtime=v1"),
    ("api-key", "private-api-key"),
    ("x-api-key", "private-api-key"),
    ("x-goog-api-key", "private-api-key"),
    ("ocp-apim-subscription-key", "private-subscription"),
    ("proxy-authorization", "Basic private"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("x-forwarded-host", "private.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "443"),
    ("forwarded", "for=203.0.113.9"),
    ("via", "1.1 private-proxy"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "private=1"),
    ("baggage", "private=1"),
    ("x-b3-traceid", "0af7651916cd43dd8448eb211c80319c"),
    ("x-client-trace-id", "private-trace"),
    ("x-request-id", "11111111-2222-4333-8444-555555555555"),
    ("x-custom", "private-value"),
    ("x-ringback-cluster", "upstream_http_127_0_0_1_9"),
    ("x-ringback-egress", "private"),
    ("x-envoy-original-path", "/private"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-force-trace", "true"),
    ("x-envoy-internal", "true"),
    ("x-original-url", "/private"),
    ("x-http-method-override", "DELETE"),
    ("te", "trailers"),
)
# What providers answer along, and nobody downstream needs to know.
CHATTER: Final[tuple[Header, ...]] = (
    ("Set-Cookie", "__cf_bm=private; Path=/; HttpOnly"),
    ("Set-Cookie", "_cfuvid=private; Path=/"),
    ("OpenAI-Organization", "org-of-the-operator"),
    ("OpenAI-Processing-Ms", "123"),
    ("OpenAI-Version", "2020-10-01"),
    ("X-Request-Id", "req_of_the_provider"),
    ("X-RateLimit-Limit-Requests", "100"),
    ("Access-Control-Allow-Origin", "https://private.example"),
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Expose-Headers", "X-Private"),
    ("Server", "cloudflare"),
    ("CF-RAY", "private-FRA"),
    ("Alt-Svc", 'h3=":443"; ma=86400'),
    ("Strict-Transport-Security", "max-age=31536000"),
    ("X-Envoy-Upstream-Service-Time", "12"),
    ("X-Ringback-Cluster", "private"),
    ("X-Private", "private"),
    ("Via", "1.1 private"),
    ("Vary", "private"),
    ("WWW-Authenticate", "private"),
    ("apim-request-id", "private"),
    ("x-ms-region", "private"),
)
ANSWER_HEADERS: Final = {
    "content-type",
    "content-length",
    "date",
    "server",
    "x-request-id",
    "access-control-allow-origin",
    "access-control-expose-headers",
}


def host_of(gateway: Gateway, model: str) -> str:
    """Return what ``Host`` must say."""
    return urlsplit(gateway.origin_of(model)).netloc


def expected_mint(gateway: Gateway, model: str) -> tuple[str, list[Header], bytes]:
    """Return start line, headers and body of the mint request that an upstream must receive."""
    common = [
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        USER_AGENT,
    ]
    if model == "voice":
        body = b'{"session":{"type":"realtime","model":"gpt-realtime"}}'
        own = [
            ("host", host_of(gateway, model)),
            ("authorization", f"Bearer {OPENAI_KEY}"),
            ("openai-organization", "org-of-the-operator"),
        ]
        path = "/v1/realtime/client_secrets"
    else:
        body = b'{"session":{"type":"realtime","model":"rt-deployment"}}'
        own = [("host", host_of(gateway, model)), ("api-key", AZURE_KEY)]
        path = "/openai/v1/realtime/client_secrets"
    headers = sorted([*common, *own, ("content-length", str(len(body)))])
    return f"POST {path} HTTP/1.1", headers, body


def expected_call(
    gateway: Gateway, model: str, ephemeral_key: str, request_id: str
) -> tuple[str, list[Header], bytes]:
    """Return start line, headers and body of the call that an upstream must receive."""
    path = "/v1/realtime/calls" if model == "voice" else "/openai/v1/realtime/calls"
    headers = [
        ("host", host_of(gateway, model)),
        ("authorization", f"Bearer {ephemeral_key}"),
        ("accept", "application/sdp"),
        ("content-type", "application/sdp"),
        ("content-length", str(len(OFFER))),
        ("x-request-id", request_id),
        USER_AGENT,
    ]
    return f"POST {path} HTTP/1.1", sorted(headers), OFFER


def only_request(gateway: Gateway, model: str) -> tuple[str, list[Header], bytes]:
    """Return the one request that any upstream received, which is the model's."""
    (request,) = gateway.received
    assert request in (gateway.openai if model == "voice" else gateway.azure).received
    # Framed by content-length, so that nothing but head and body is there.
    head = request.raw.removesuffix(request.body)
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n") == len(request.headers) + 2
    return request.start_line, sorted(request.headers), request.body


@pytest.mark.dataplanes("istio")
@PREFIXES
@MODELS
async def test_mint_sends_exactly_this(gateway: Gateway, model: str, prefix: str) -> None:
    """Whatever the path, the upstream gets its own path, the operator's key and nothing else."""
    answer = await gateway.mint(model, prefix=prefix)
    assert answer.status == 200
    assert only_request(gateway, model) == expected_mint(gateway, model)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@PREFIXES
@MODELS
async def test_call_sends_exactly_this(gateway: Gateway, model: str, prefix: str) -> None:
    """The upstream gets the offer byte for byte, the ephemeral key and nothing else."""
    upstream = gateway.openai if model == "voice" else gateway.azure
    upstream.script[CLIENT_SECRETS] = minted_reply("ek_upstream_of_this_test")
    token = await gateway.token(model)
    gateway.reset()
    answer = await gateway.call(token, prefix=prefix)
    assert answer.status == 201
    request_id = answer.header("x-request-id") or ""
    assert only_request(gateway, model) == expected_call(
        gateway, model, "ek_upstream_of_this_test", request_id
    )


@pytest.mark.dataplanes("istio")
@MODELS
async def test_noise_of_clients_does_not_leave_with_a_mint(gateway: Gateway, model: str) -> None:
    """No header of a client reaches the provider with a mint."""
    answer = await gateway.mint(model, headers=NOISE)
    assert answer.status == 200
    assert only_request(gateway, model) == expected_mint(gateway, model)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@MODELS
async def test_noise_of_clients_does_not_leave_with_a_call(gateway: Gateway, model: str) -> None:
    """No header of a client reaches the provider with a call, and none changes its way."""
    upstream = gateway.openai if model == "voice" else gateway.azure
    upstream.script[CLIENT_SECRETS] = minted_reply("ek_upstream_of_this_test")
    token = await gateway.token(model)
    gateway.reset()
    answer = await gateway.call(token, headers=[*NOISE, ("x-litellm-api-key", "private-key")])
    assert answer.status == 201
    request_id = answer.header("x-request-id") or ""
    assert request_id not in dict(NOISE).values()
    assert only_request(gateway, model) == expected_call(
        gateway, model, "ek_upstream_of_this_test", request_id
    )


async def test_noise_is_noticed_where_it_leaves(gateway: Gateway) -> None:
    """The comparison of the tests above fails if a single header more had arrived."""
    await gateway.mint("voice")
    line, headers, body = only_request(gateway, "voice")
    assert (line, sorted([*headers, NOISE[0]]), body) != expected_mint(gateway, "voice")


async def test_safety_identifier_leaves(gateway: Gateway) -> None:
    """The one header that a caller may send to the provider arrives, with mint and call."""
    identifier = ("openai-safety-identifier", "a-stable-hash")
    minted = await gateway.mint("voice", headers=[identifier])
    called = await gateway.call(minted.json()["value"], headers=[identifier])
    assert (minted.status, called.status) == (200, 201)
    assert all(request.header(identifier[0]) == identifier[1] for request in gateway.received)
    assert len(gateway.received) == 2


@pytest.mark.parametrize(
    "target",
    [
        # Realistic
        pytest.param("/v1/realtime/calls?model=voice", id="query-of-the-beta"),
        pytest.param("/v1//realtime/calls", id="double-slash"),
        # Synthetic
        pytest.param("/v1/realtime/../realtime/calls", id="dots"),
        pytest.param("/v1/x/%2e%2e/realtime/calls", id="escaped-dots"),
        # Pathological
        pytest.param(
            "/openai/../v1/realtime/calls?path=/x&cluster=upstream_x", id="dots-and-query"
        ),
    ],
)
async def test_path_upstream_is_canonical(gateway: Gateway, target: str) -> None:
    """However a path is written, the upstream sees the one of the token, without a query."""
    lines = [bearer(await gateway.token("voice")), SDP_TYPE]
    gateway.reset()
    answer = await gateway.post(target, lines, OFFER)
    assert answer.status == 201
    (request,) = gateway.received
    assert request.target == "/v1/realtime/calls"


@pytest.mark.dataplanes("istio")
async def test_chunked_offer_arrives_with_its_length(gateway: Gateway) -> None:
    """However a client frames the offer, the provider gets it with content-length."""
    token = await gateway.token("voice")
    gateway.reset()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (OFFER[:700], OFFER[700:], b"")
    )
    lines = [bearer(token), SDP_TYPE, ("transfer-encoding", "chunked")]
    answer = await gateway.post("/v1/realtime/calls", lines, chunks)
    assert answer.status == 201
    (request,) = gateway.received
    assert request.body == OFFER
    assert request.header("content-length") == str(len(OFFER))
    assert "transfer-encoding" not in request.names


async def test_expectation_is_met_here(gateway: Gateway) -> None:
    """A client that waits for 100 Continue gets it from Envoy; the provider is not asked."""
    token = await gateway.token("voice")
    gateway.reset()
    answer = await gateway.call(token, headers=[("expect", "100-continue")])
    assert answer.status == 201
    (request,) = gateway.received
    assert "expect" not in request.names


@pytest.mark.dataplanes("istio")
@MODELS
async def test_mint_answer_is_ours(gateway: Gateway, model: str) -> None:
    """The caller gets the provider's fields with a token in place of the key, and our headers."""
    upstream = gateway.openai if model == "voice" else gateway.azure
    upstream.script[CLIENT_SECRETS] = minted_reply("ek_upstream_of_this_test", *CHATTER)
    answer = await gateway.mint(model)
    assert answer.status == 200
    check_readable(answer)
    assert answer.names == ANSWER_HEADERS | {"cache-control"}
    assert b"ek_upstream_of_this_test" not in answer.raw
    content = answer.json()
    assert content["value"].startswith("ek_ey")
    assert content["client_secret"] == {
        "value": content["value"],
        "expires_at": content["expires_at"],
    }
    assert content["session"]["object"] == "realtime.session"


@pytest.mark.dataplanes("istio")
@MODELS
async def test_call_answer_is_ours(gateway: Gateway, model: str) -> None:
    """The caller gets the answer byte for byte, a sealed Location, and no other header."""
    upstream = gateway.openai if model == "voice" else gateway.azure
    token = await gateway.token(model)
    upstream.script[CALLS] = call_reply("rtc_u1_of_this_test", *CHATTER)
    answer = await gateway.call(token)
    assert answer.status == 201
    check_readable(answer)
    assert answer.names == ANSWER_HEADERS | {"location"}
    assert answer.header("content-type") == "application/sdp"
    assert answer.body == SDP_ANSWER
    assert b"rtc_u1_of_this_test" not in answer.raw
    location = answer.header("location") or ""
    assert location.startswith(CALL_LOCATION_PREFIX + "rtc_")
    sealer = handle_sealer(TokenSettings(secret=Secret(TOKEN_SECRET)), {})
    handle = open_handle(location.removeprefix(CALL_LOCATION_PREFIX), sealer, time.time())
    assert (handle.deployment, handle.call_id) == (f"{model}-1", "rtc_u1_of_this_test")


@pytest.mark.parametrize(
    "location",
    [
        # Realistic
        pytest.param("https://api.openai.com/v1/realtime/calls/rtc_u1_x?y=1", id="absolute"),
        pytest.param("/v1/realtime/calls/rtc_u1_x", id="relative"),
        # Pathological
        pytest.param("https://evil.example/", id="elsewhere"),
        pytest.param("javascript:alert(1)", id="script"),
        pytest.param("", id="empty"),
        pytest.param("/v1/realtime/calls/" + "x" * 5000, id="long"),
    ],
)
async def test_location_is_sealed_or_gone(gateway: Gateway, location: str) -> None:
    """No Location of a provider leaves as it was."""
    token = await gateway.token("voice")
    headers = (("Content-Type", "application/sdp"), ("Location", location))
    gateway.openai.script[CALLS] = Reply(201, headers, SDP_ANSWER)
    answer = await gateway.call(token)
    assert answer.status == 201
    found = answer.header("location")
    assert (found is not None) == ("rtc_u1_x" in location)
    assert found is None or found.startswith(CALL_LOCATION_PREFIX + "rtc_ey")


@pytest.mark.dataplanes("istio")
async def test_request_id_is_one_everywhere(gateway: Gateway) -> None:
    """The id that the client sees is the one upstream and the one in the access log."""
    minted = await gateway.mint("voice")
    called = await gateway.call(minted.json()["value"])
    refused = await gateway.call("ek_wrong")
    ids = [answer.header("x-request-id") or "" for answer in (minted, called, refused)]
    assert len(set(ids)) == 3
    for request_id, status in zip(ids, (200, 201, 401), strict=True):
        entry = await gateway.logged(request_id)
        assert entry["status"] == status
    assert gateway.received[1].header("x-request-id") == ids[1]


async def test_other_hosts_and_names_make_no_difference(gateway: Gateway) -> None:
    """Whatever Host a downstream names, the request goes where the token says."""
    token = await gateway.token("voice")
    gateway.reset()
    lines = [
        ("host", "api.openai.com"),
        ("origin", ORIGIN),
        ("authorization", f"bEaReR {token}"),
        ("content-type", "application/sdp"),
    ]
    answer = await send(
        gateway.port, request_bytes("POST", "http://evil.example/v1/realtime/calls", lines, OFFER)
    )
    assert answer.status == 201
    (request,) = gateway.received
    assert request.header("host") == f"127.0.0.1:{gateway.openai.port}"


async def test_egress_sends_only_where_extauthz_says(gateway: Gateway) -> None:
    """The egress listener has no way for a request without a cluster of ours."""
    for headers in (
        [],
        [("x-ringback-cluster", "extauthz")],
        [("x-ringback-cluster", "upstream_")],
    ):
        answer: Message = await send(
            gateway.egress_port, request_bytes("POST", "/v1/realtime/calls", headers, b"x")
        )
        assert answer.status in {404, 503}
        assert answer.header("x-ringback-egress")
    assert gateway.received == []
