import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from ringback.cli import probe
from ringback.cli.ports import Wanted, take_ports
from ringback.render.bootstrap import Address


@asynccontextmanager
async def answering(raw: bytes, requests: list[str] | None = None) -> AsyncIterator[Address]:
    """A server that answers every request with the same bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if requests is not None:
                requests.append(head.decode().partition(" HTTP/")[0])
            writer.write(raw)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


def http(body: str, status: int = 200) -> bytes:
    """Return an answer."""
    head = f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


@pytest.fixture
def nobody() -> Address:
    """An address where nobody listens."""
    return take_ports(Wanted("--port", "127.0.0.1", 0))[0]


@pytest.mark.parametrize(
    ("raw", "is_ready"),
    [
        # Realistic
        pytest.param(http('{"status":"ready"}'), True, id="ready"),
        pytest.param(http("{}", 503), False, id="a-service-is-missing"),
        # Pathological
        pytest.param(b"", False, id="nothing"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", False, id="no-http"),
        pytest.param(http("", 204), False, id="another-success"),
    ],
)
async def test_ready_is_status_200_of_the_readiness_path(raw: bytes, is_ready: bool) -> None:
    """Only 200 counts; whatever else answers, or does not, is not ready."""
    requests: list[str] = []
    async with answering(raw, requests) as address:
        assert await probe.is_ready(address) is is_ready

    assert requests == ["GET /readyz"]


async def test_nobody_is_not_ready(nobody: Address) -> None:
    """A refused connection is an answer like any other."""
    assert not await probe.is_ready(nobody)
    assert not await probe.is_listening(nobody)
    assert await probe.count_requests(nobody) == 0
    assert await probe.envoy_version(nobody) == ""


async def test_listening_is_a_connection() -> None:
    """A port that accepts a connection counts, without a word."""
    async with answering(b"") as address:
        assert await probe.is_listening(address)


async def test_draining_fails_health_checks_first() -> None:
    """Load balancers are told to look elsewhere, then no connection is accepted."""
    requests: list[str] = []
    async with answering(http("OK\n"), requests) as address:
        await probe.drain(address)

    assert requests == ["POST /healthcheck/fail", "POST /drain_listeners?inboundonly"]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        # Realistic
        pytest.param("http.ingress_http.downstream_rq_active: 3\n", 3, id="three"),
        pytest.param("http.ingress_http.downstream_rq_active: 0\n", 0, id="none"),
        # Pathological
        pytest.param("", 0, id="no-such-stat"),
        pytest.param("nonsense: many\n", 0, id="nonsense"),
    ],
)
async def test_active_requests_are_counted(body: str, count: int) -> None:
    """The count is Envoy's own, and nothing if Envoy does not know."""
    async with answering(http(body)) as address:
        assert await probe.count_requests(address) == count


@pytest.mark.parametrize(
    ("body", "version"),
    [
        # Realistic
        pytest.param('{"version": "9e55/1.40.0/Clean/RELEASE/BoringSSL"}', "1.40.0", id="release"),
        pytest.param('{"version": "0/1.41.0-dev/Modified/DEBUG/X"}', "1.41.0-dev", id="dev"),
        # Pathological
        pytest.param('{"version": "1.40.0"}', "", id="other-shape"),
        pytest.param("{}", "", id="no-version"),
        pytest.param("not JSON", "", id="no-json"),
    ],
)
async def test_the_version_is_what_envoy_says(body: str, version: str) -> None:
    """The version is read from Envoy's own description, and is empty if that cannot be read."""
    async with answering(http(body)) as address:
        assert await probe.envoy_version(address) == version
