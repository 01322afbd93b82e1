"""Headers by which the gateway speaks to itself, and those by which proxies speak to each other."""

from typing import Final

import pytest

from helpers.attacks import ENDPOINTS, check_answer, check_received, good, shoot
from helpers.envoygateway.differences import ALIVE_TO_ALL
from helpers.gateway import Gateway
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Header

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# What would hurt if it were believed. `{evil}` is the cluster of a provider that nobody asks for.
SPOOFED: Final[dict[str, list[Header]]] = {
    # Realistic: sent by clients behind other proxies
    "forwarded": [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/evil"),
        ("x-forwarded-client-cert", "By=spiffe://a;Hash=b;Subject=c"),
        ("forwarded", "for=127.0.0.1;host=evil.example;proto=https"),
        ("x-real-ip", "127.0.0.1"),
        ("true-client-ip", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("via", "1.1 evil"),
    ],
    "traces": [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("b3", "1"),
        ("x-request-id", "00000000-0000-0000-0000-000000000000"),
        ("x-client-trace-id", "evil"),
        ("x-ot-span-context", "evil"),
        ("grpc-timeout", "1n"),
    ],
    # Synthetic: our own
    "cluster": [("x-ringback-cluster", "{evil}")],
    "cluster-in-capitals": [("X-RINGBACK-CLUSTER", "{evil}")],
    "cluster-twice": [("x-ringback-cluster", "{evil}"), ("x-ringback-cluster", "extauthz")],
    "cluster-and-route": [("x-ringback-cluster", "{evil}"), ("x-ringback-route", "websocket")],
    "services": [("x-ringback-cluster", "extauthz"), ("x-ringback-egress", "UF")],
    "every-internal": [
        (f"x-ringback-{name}", "true")
        for name in ("checked", "details", "outcome", "key-hash", "model", "sdp-policy", "token")
    ],
    # Synthetic: Envoy's
    "envoy-routing": [
        ("x-envoy-original-path", "/v1/secrets"),
        ("x-envoy-original-host", "evil.example"),
        ("x-envoy-decorator-operation", "evil"),
        ("x-envoy-original-dst-host", "127.0.0.1:1"),
        ("x-envoy-orig-path", "/x"),
        ("x-envoy-hedge-on-per-try-timeout", "true"),
    ],
    "envoy-timeouts": [
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
        ("x-envoy-expected-rq-timeout-ms", "1"),
        ("x-envoy-max-retries", "100"),
        ("x-envoy-retry-on", "5xx,4xx,retriable-4xx"),
        ("x-envoy-retry-grpc-on", "unavailable"),
        ("x-envoy-is-timeout-retry", "true"),
        ("x-envoy-attempt-count", "1"),
        ("x-envoy-upstream-stream-duration-ms", "1"),
        ("x-envoy-upstream-alt-stat-name", "evil"),
    ],
    "envoy-faults": [
        ("x-envoy-fault-abort-request", "503"),
        ("x-envoy-fault-abort-grpc-request", "1"),
        ("x-envoy-fault-delay-request", "20000"),
        ("x-envoy-fault-throughput-response", "1"),
    ],
    "envoy-trust": [
        ("x-envoy-internal", "true"),
        ("x-envoy-external-address", "127.0.0.1"),
        ("x-envoy-downstream-service-cluster", "ringback"),
        ("x-envoy-peer-metadata", "evil"),
        ("x-envoy-auth-partial-body", "true"),
        ("x-envoy-ip-tags", "internal"),
        ("x-envoy-force-trace", "true"),
    ],
    # Synthetic: other products'
    "overrides": [
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-original-url", "/v1/secrets"),
        ("x-rewrite-url", "/v1/secrets"),
        ("x-host", "evil.example"),
        ("x-original-host", "evil.example"),
        ("x-url-scheme", "https"),
        ("destination", "http://evil.example/"),
        ("range", "bytes=0-1"),
        ("if-none-match", "*"),
        ("prefer", "respond-async"),
        ("early-data", "1"),
    ],
    "providers": [
        ("openai-organization", "org-evil"),
        ("openai-project", "proj-evil"),
        ("openai-beta", "realtime=v1"),
        ("api-version", "1999-01-01"),
        ("x-ms-client-request-id", "evil"),
        ("x-litellm-tags", "evil"),
        ("x-litellm-timeout", "0"),
        ("x-litellm-end-user-id", "evil"),
    ],
    "expectations": [("expect", "100-continue"), ("te", "trailers"), ("trailer", "authorization")],
}


def lines_of(gateway: Gateway, name: str) -> list[Header]:
    """Return the headers with the cluster of the provider that is not to be reached."""
    evil = f"upstream_http_127_0_0_1_{gateway.azure.port}"
    return [(header, value.replace("{evil}", evil)) for header, value in SPOOFED[name]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("name", SPOOFED)
async def test_spoofed_headers_do_nothing(gateway: Gateway, endpoint: str, name: str) -> None:
    """A good request is answered as without them, and nothing of them arrives anywhere."""
    await check_nothing_done(gateway, endpoint, name)


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_spoofed_headers_one_after_the_other(gateway: Gateway, endpoint: str) -> None:
    """Nor do they for the requests that follow on theirs."""
    for name in SPOOFED:
        gateway.reset()
        await check_nothing_done(gateway, endpoint, name)


async def check_nothing_done(gateway: Gateway, endpoint: str, name: str) -> None:
    """Check that headers change neither an answer nor what arrives upstream."""
    shot = good(gateway, endpoint)
    answer = await shoot(gateway, shot.with_(*lines_of(gateway, name)))
    assert answer.status == shot.status, (name, answer.raw)
    assert answer.header("x-request-id") != "00000000-0000-0000-0000-000000000000"
    for request in gateway.received:
        assert b"evil" not in request.raw
        assert request.header("x-request-id") in {None, answer.header("x-request-id")}


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("name", SPOOFED)
async def test_spoofed_headers_open_nothing(gateway: Gateway, name: str) -> None:
    """Without a credential they open no endpoint, whatever they claim."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint).with_(*lines_of(gateway, name))
        lines = [line for line in shot.lines() if line[0] != "authorization"]
        bare = type(shot)(shot.method, shot.target, None, tuple(lines[1:]), shot.body)
        assert (await shoot(gateway, bare)).status == 401
    for path in ("/", "/v1/models", "/readyz", "/healthz", "/v1/secrets"):
        if path == "/healthz" and ALIVE_TO_ALL in gateway.dataplane.differences:
            continue
        answer = await gateway.post(path, lines_of(gateway, name), b"")
        check_answer(answer)
        assert answer.status == 404
    assert gateway.received == []


@pytest.mark.dataplanes("istio", "envoy-gateway")
@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if e not in {"websocket", "sideband"}])
async def test_spoofed_headers_over_http2(gateway: Gateway, endpoint: str) -> None:
    """Over HTTP/2 they do nothing, either."""
    for name in SPOOFED:
        gateway.reset()
        shot = good(gateway, endpoint)
        lines = [(n.lower(), v) for n, v in (*shot.lines(), *lines_of(gateway, name))]
        try:
            answer = await send_h2(gateway.port, shot.method, shot.target, lines, shot.body)
        except ResetError:
            raise AssertionError(name) from None
        assert answer.status == shot.status, (name, answer.raw)
        check_received(gateway)
