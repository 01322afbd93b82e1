import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import JSON_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import Client, Header, request_bytes, send
from helpers.recording import JSON, RecordingUpstream, Reply
from helpers.wsclient import shake_hands
from ringback.cli.stack import Stack

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

CHAT: Final = "/v1/chat/completions"
LITELLM_KEY: Final = "sk-only-litellm-knows-this-one"


@dataclass(slots=True)
class Stream:
    """A server that sends the second half of its answer when it is told to."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await self.go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()


@dataclass(frozen=True, slots=True)
class Both:
    """A gateway, and the LiteLLM behind it."""

    gateway: Gateway
    litellm: RecordingUpstream

    @property
    def port(self) -> int:
        """Where downstreams connect."""
        return self.gateway.port


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def only_both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    """Give a gateway with passthrough for the whole module."""
    files = Files(tmp_path_factory.mktemp("passthrough"))
    async with RecordingUpstream() as openai, RecordingUpstream() as litellm:
        files.write_config([openai_entry("voice", openai.url())])
        files.write_keys()
        files.write_settings(passthrough={"url": litellm.url(), "timeout_s": 60})
        async with Stack(files.options()) as stack:
            yield Both(Gateway(stack, files, openai, openai), litellm)


@pytest.fixture
def both(only_both: Both) -> Both:
    """Give it with upstreams that have received nothing."""
    only_both.gateway.reset()
    only_both.litellm.reset()
    return only_both


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        # Realistic
        ("GET", "/v1/models?return_wildcard_routes=true", b""),
        ("POST", CHAT, b'{"model":"gpt-5","messages":[]}'),
        ("POST", "/v1/audio/transcriptions", bytes(range(256)) * 4000),
        ("GET", "/", b""),
        ("DELETE", "/v1/files/file-1", b""),
        ("OPTIONS", CHAT, b""),
        ("GET", "/health/readiness", b""),
        # Synthetic
        ("POST", "/readyz", b""),
        ("GET", "/v1/realtim", b""),
    ],
)
async def test_all_else_arrives_untouched(
    both: Both, method: str, target: str, body: bytes
) -> None:
    """Method, path, query, body of any size and headers are the caller's; none is asked for."""
    both.litellm.script[target.partition("?")[0].rpartition("/")[2]] = Reply(
        207, (JSON, ("X-LiteLLM-Version", "1"), ("Access-Control-Allow-Origin", "*")), b'{"a":1}'
    )
    lines: list[Header] = [
        bearer(LITELLM_KEY),
        ("origin", "https://elsewhere.example"),
        ("access-control-request-method", "POST"),
        ("cookie", "a=b"),
        ("x-ringback-cluster", "upstream_x"),
        ("x-ringback-route", "websocket"),
    ]
    answer = await send(both.port, request_bytes(method, target, lines, body, host="ai.example"))
    assert (answer.status, answer.body) == (207, b'{"a":1}')
    assert answer.header("x-litellm-version") == "1"
    assert answer.header("access-control-allow-origin") == "*"
    assert "access-control-expose-headers" not in answer.names
    (request,) = both.litellm.received
    assert (request.method, request.target, request.body) == (method, target, body)
    assert request.header("authorization") == f"Bearer {LITELLM_KEY}"
    assert request.header("cookie") == "a=b"
    assert request.header("host") == "ai.example"
    assert not [name for name in request.names if name.startswith(("x-ringback-", "x-envoy-"))]
    assert both.gateway.received == []


@pytest.mark.parametrize(
    ("target", "status"),
    [
        # Realistic
        ("/v1/realtime/client_secrets", 401),
        ("/v1/realtime/calls", 401),
        ("/v1/realtime/calls/rtc_x/hangup", 401),
        ("/v1/realtime", 405),
        ("/v1/realtime/sessions", 404),
        ("/v1/realtime/translations/client_secrets", 404),
        ("/openai/realtime/client_secrets", 404),
        ("/azure/openai/realtimeapi/sessions", 404),
        ("/litellm/v1/realtime/calls", 404),
        # Synthetic
        ("/v1//realtime/sessions", 404),
        ("/x/../v1/realtime/sessions", 404),
        ("/v1/./realtime/sessions", 404),
        ("/V1/Realtime/Client_Secrets", 404),
        ("/v1/realtime;x=1/calls", 404),
        ("/v1/%72ealtime/sessions", 404),
        ("/v1/r%65altime/calls/", 404),
        ("/openai/v1/%2572ealtime/client_secrets", 404),
        ("/openai/v1/%25%37%32ealtime/client_secrets", 404),
        ("/openai/v1/%252572ealtime/client_secrets", 404),
        ("/openai/v1%252Frealtime/client_secrets", 404),
        ("/v1%2frealtime/calls", 400),
        ("/v1/realtime%2fcalls", 400),
        ("/v1/realtime%5ccalls", 400),
        ("/v1\\realtime\\calls", 401),
    ],
)
async def test_realtime_never_goes_there(both: Both, target: str, status: int) -> None:
    """Nothing that LiteLLM could take for realtime gets past extauthz."""
    answer = await send(both.port, request_bytes("POST", target, [("origin", ORIGIN)]))
    assert answer.status == status, answer.raw
    assert both.litellm.received == []


async def test_other_endpoints_stay_here(both: Both) -> None:
    """Readiness, WebSockets and calls are ours."""
    for path, status in (("/readyz", 200), ("/healthz", 200), ("/v1/realtime", 426)):
        assert (await send(both.port, request_bytes("GET", path))).status == status
    assert (await both.gateway.call(await both.gateway.token())).status == 201
    # Of the one model that there is, with a key.
    assert (await both.gateway.call(KEY)).status == 201
    target = "/v1/realtime?model=voice"
    assert (await shake_hands(both.gateway, target, bearer(KEY))).status == 101
    answer = await shake_hands(both.gateway, CHAT, bearer(LITELLM_KEY))
    assert (answer.status, answer.error["code"]) == (400, "upgrade_refused")
    assert both.litellm.received == []


async def test_large_bodies_of_ours_are_refused_all_the_same(both: Both) -> None:
    """The limit of the realtime endpoints stays."""
    answer = await both.gateway.post("/v1/realtime/client_secrets", [JSON_TYPE], b" " * 70000)
    check_refusal(answer, 413, "body_too_large")


async def test_answers_stream(tmp_path: Path) -> None:
    """What the proxy has sent arrives before it sends more."""
    stream = Stream()
    server = await asyncio.start_server(stream.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    files = Files(tmp_path)
    files.write_config([openai_entry("voice", "http://127.0.0.1:9")])
    files.write_keys()
    files.write_settings(passthrough={"url": f"http://127.0.0.1:{port}"})
    async with server, Stack(files.options()) as stack:
        gateway = Gateway(stack, files, RecordingUpstream(), RecordingUpstream())
        # LiteLLM does not need our services, nor has their end to do with it.
        await gateway.stop("extauthz-0", "sdpfilter-0")
        async with Client(gateway.port) as client:
            await client.write(request_bytes("GET", CHAT))
            head = await client._reader.readuntil(b"first\r\n")
            assert b" 200 " in head
            stream.go_on.set()
            assert await client._reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
        server.close()
        answer = await send(gateway.port, request_bytes("GET", CHAT, [("origin", ORIGIN)]))
        assert (answer.status, answer.error["code"]) == (503, "unavailable")
