import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import trustme
from prometheus_client import REGISTRY

from extauthz.deployments import Origin
from extauthz.egress import Egress, UpstreamAnswer
from extauthz.egressway import mesh_port, way_of
from extauthz.errors import ConfigError
from extauthz.providers.base import USER_AGENT, UpstreamRequest
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, Reply
from ringback import tracing
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings import Settings, TracingSettings, UpstreamSettings
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError, UpstreamUnreachableError

Egresses = Literal["mesh", "direct"]
HOST: Final = "res.azure.test"
PATH: Final = "/v1/realtime/client_secrets"
HEADERS: Final = {
    "authorization": Secret("Bearer sk-upstream"),
    "content-type": Secret("application/json"),
}
PAST: Final = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name of .test be this machine, as a resolver of the operator's might."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **named: Any) -> Any:
        return resolve("127.0.0.1" if host.endswith(".test") else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """Return the authority that upstreams are checked by."""
    return trustme.CA()


@asynccontextmanager
async def client(
    egress: Egresses, ca: trustme.CA, folder: Path, *, to_upstream: bool = False, **upstream: Any
) -> AsyncIterator[Egress]:
    """Return the client that settings describe."""
    ca.cert_pem.write_to_path(folder / "ca.pem")
    settings = Settings(
        upstream=UpstreamSettings(egress=egress, ca_file=folder / "ca.pem", **upstream),
        tracing=TracingSettings(to_upstream=to_upstream),
    )
    running = Egress(way_of(settings))
    try:
        yield running
    finally:
        await running.close()


def server(certificate: trustme.LeafCert) -> RecordingUpstream:
    """Return an upstream that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return RecordingUpstream(tls=context)


async def mint(egress: Egress, origin: Origin, timeout_s: float = 5) -> UpstreamAnswer:
    """Send what a mint sends."""
    request = UpstreamRequest(origin, PATH, HEADERS)
    return await egress.post(request, b"{}", timeout_s=timeout_s)


def on_the_wire(authority: str) -> list[tuple[str, str]]:
    """Return the headers that an upstream gets, by name."""
    return [
        ("accept", "*/*"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer sk-upstream"),
        ("connection", "keep-alive"),
        ("content-length", "2"),
        ("content-type", "application/json"),
        ("host", authority),
        ("user-agent", USER_AGENT),
    ]


async def test_direct_does_tls(ca: trustme.CA, tmp_path: Path) -> None:
    """The origin itself gets the request over TLS, on one connection, and no header of ours."""
    async with (
        server(ca.issue_cert(HOST)) as upstream,
        client("direct", ca, tmp_path) as egress,
    ):
        origin = Origin("https", HOST, upstream.port)
        for _ in range(3):
            assert (await mint(egress, origin)).status == 200
        assert upstream.connections == 1
        message = upstream.received[0]
        assert message.start_line == f"POST {PATH} HTTP/1.1"
        assert sorted(message.headers) == on_the_wire(f"{HOST}:{upstream.port}")


async def test_direct_speaks_plain_http_where_the_origin_does(
    ca: trustme.CA, tmp_path: Path
) -> None:
    """An origin with http, a LiteLLM proxy next door for example, is asked so."""
    async with RecordingUpstream() as upstream, client("direct", ca, tmp_path) as egress:
        assert (await mint(egress, Origin("http", "127.0.0.1", upstream.port))).status == 200


@pytest.mark.parametrize(
    ("host", "names", "others", "is_good"),
    [
        # Realistic
        pytest.param(HOST, [HOST], {}, True, id="its-name"),
        pytest.param(HOST, ["*.azure.test"], {}, True, id="wildcard"),
        pytest.param("127.0.0.1", ["127.0.0.1"], {}, True, id="its-address"),
        pytest.param(HOST, ["other.azure.test"], {}, False, id="other-name"),
        pytest.param(HOST, [HOST], {"not_after": PAST}, False, id="expired"),
        # Synthetic
        pytest.param("two.labels.azure.test", ["*.azure.test"], {}, False, id="two-labels"),
        pytest.param("127.0.0.1", ["localhost"], {}, False, id="name-for-address"),
        pytest.param(HOST, ["other.test"], {"common_name": HOST}, False, id="common-name"),
    ],
)
async def test_direct_checks_certificates(  # noqa: PLR0917  a table's columns
    ca: trustme.CA,
    tmp_path: Path,
    host: str,
    names: list[str],
    others: dict[str, Any],
    is_good: bool,
) -> None:
    """Only a certificate for the origin, and in its time, opens a connection.

    The upstream receives nothing otherwise, and callers are told that it cannot be reached.
    """
    async with (
        server(ca.issue_cert(*names, **others)) as upstream,
        client("direct", ca, tmp_path) as egress,
    ):
        origin = Origin("https", host, upstream.port)
        if is_good:
            assert (await mint(egress, origin)).status == 200
        else:
            with pytest.raises(UpstreamUnreachableError):
                await mint(egress, origin)
            assert upstream.received == []


async def test_direct_trusts_its_authorities_alone(ca: trustme.CA, tmp_path: Path) -> None:
    """A certificate of any other authority opens nothing."""
    async with (
        server(trustme.CA().issue_cert(HOST)) as upstream,
        client("direct", ca, tmp_path) as egress,
    ):
        with pytest.raises(UpstreamUnreachableError):
            await mint(egress, Origin("https", HOST, upstream.port))
        assert upstream.received == []


async def test_direct_needs_authorities(tmp_path: Path) -> None:
    """Without a file of authorities that can be read there is no start."""
    for file, why in ((tmp_path / "none", "No such file"), (tmp_path / "empty", "certificate")):
        if file.name == "empty":
            file.write_text("no certificate")
        settings = Settings(upstream=UpstreamSettings(egress="direct", ca_file=file))
        with pytest.raises(ConfigError, match=rf"upstream\.ca_file: .*{why}"):
            way_of(settings)


async def test_the_mesh_gets_plain_http(ca: trustme.CA, tmp_path: Path) -> None:
    """A host on 443 is asked in plain HTTP at the port of the mesh, by its own name."""
    async with (
        RecordingUpstream() as sidecar,
        client("mesh", ca, tmp_path, mesh_port=sidecar.port) as egress,
    ):
        for _ in range(3):
            assert (await mint(egress, Origin("https", HOST, 443))).status == 200
        assert sidecar.connections == 1
        assert sorted(sidecar.received[0].headers) == on_the_wire(HOST)


def test_ports_of_the_mesh() -> None:
    """The port of the mesh stands for 443 with TLS; all others stand for themselves."""
    upstream = UpstreamSettings(egress="mesh", mesh_port=8080)
    origins = {
        Origin("https", HOST, 443): 8080,
        Origin("https", HOST, 8443): 8443,
        Origin("http", HOST, 80): 80,
        Origin("http", HOST, 443): 443,
    }
    assert {origin: mesh_port(origin, upstream) for origin in origins} == origins


@pytest.mark.parametrize("egress", ["mesh", "direct"])
async def test_nobody_marks_answers_there(ca: trustme.CA, tmp_path: Path, egress: Egresses) -> None:
    """Without our Envoy in between, its mark on an answer is anybody's and means nothing."""
    async with RecordingUpstream() as upstream, client(egress, ca, tmp_path) as asking:
        upstream.script[CLIENT_SECRETS] = Reply(200, (("x-ringback-egress", "UF"),), b"{}")
        assert (await mint(asking, Origin("http", "127.0.0.1", upstream.port))).status == 200


@pytest.mark.parametrize("egress", ["mesh", "direct"])
@pytest.mark.parametrize("to_upstream", [True, False])
async def test_traces_leave_only_if_they_may(
    ca: trustme.CA, tmp_path: Path, egress: Egresses, to_upstream: bool
) -> None:
    """A provider learns of a trace only by `tracing.to_upstream`."""
    above = "00-11111111111111111111111111111111-2222222222222222-01"
    tracing.start(TracingSettings(endpoint="http://127.0.0.1:9"), "test")
    try:
        async with (
            RecordingUpstream() as upstream,
            client(egress, ca, tmp_path, to_upstream=to_upstream) as asking,
        ):
            with tracing.served("test", lambda: [("traceparent", above)]):
                await mint(asking, Origin("http", "127.0.0.1", upstream.port))
            assert (upstream.received[0].header("traceparent") is not None) == to_upstream
    finally:
        tracing.stop()


@pytest.mark.parametrize("egress", ["mesh", "direct"])
async def test_who_takes_no_connection_is_given_up(
    ca: trustme.CA, tmp_path: Path, egress: Egresses
) -> None:
    """A host that is silent costs the time for a connection once, not that of the whole mint."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        # Who waits in its queue keeps others from connecting.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        async with client(egress, ca, tmp_path, connect_timeout_s=0.3) as asking:
            began = time.monotonic()
            with pytest.raises(UpstreamUnreachableError):
                await mint(asking, Origin("http", "127.0.0.1", port))
            assert 0.25 < time.monotonic() - began < 0.6
        for one in waiting:
            one.close()


@pytest.mark.parametrize("egress", ["mesh", "direct"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply(delay_s=5), UpstreamTimeoutError, id="slow"),
        pytest.param(Reply(hangs_up=True), UpstreamUnreachableError, id="hangs-up"),
        pytest.param(Reply(body=b"x" * 1_100_000), UpstreamFailedError, id="too-long"),
    ],
)
async def test_failures_are_told_apart(
    ca: trustme.CA, tmp_path: Path, egress: Egresses, reply: Reply, kind: type[ApiError]
) -> None:
    """What fails behind a connection is told as it is behind the listener, and counted."""
    async with RecordingUpstream() as upstream, client(egress, ca, tmp_path) as asking:
        upstream.script[CLIENT_SECRETS] = reply
        origin = Origin("http", "127.0.0.1", upstream.port)
        with pytest.raises(kind):
            await mint(asking, origin, timeout_s=0.5)
        labels = {"cluster": origin.cluster, "error": kind.code}
        assert REGISTRY.get_sample_value("ringback_upstream_errors_total", labels) == 1
