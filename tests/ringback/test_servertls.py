import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from pydantic import ValidationError
from structlog.testing import capture_logs

from helpers.svids import DOMAIN, GATEWAY, SERVICES, Authority, Identity
from helpers.waiting import until
from ringback.grpcserver import PlaintextError, serve
from ringback.servertls import CertificateError, ServerTls
from ringback.settings import ServiceSettings
from ringback.settings.services import ServerTlsSettings

NAME: Final = "test.Echo"
PAST: Final = timedelta(days=-1)


class Echo:
    """Answers what it is asked, in each of the shapes that our services have."""

    names: tuple[str, ...] = (NAME,)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def register(self, server: aio.Server) -> None:
        """Serve two methods."""
        methods: dict[str, Any] = {
            "Once": grpc.unary_unary_rpc_method_handler(self._once),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAME, methods)])

    async def start(self) -> None:
        """Be ready at once."""

    async def drain(self) -> None:
        """End nothing."""

    async def stop(self) -> None:
        """Release nothing."""

    async def _once(self, request: bytes, _context: object) -> bytes:
        self.asked.append("Once")
        return request

    async def _stream(self, _requests: object, context: Any) -> None:
        self.asked.append("Stream")
        while (message := await context.read()) is not aio.EOF:
            await context.write(message)


@dataclass(slots=True)
class Served:
    """A server with TLS, and what belongs to it."""

    echo: Echo
    address: str
    authority: Authority
    identity: Identity
    log: list[Any]

    def pair(self, *names: str, **options: Any) -> tuple[bytes, bytes]:
        """Return a certificate for names, and its key."""
        return self.authority.issue(*names, **options)

    def channel(
        self, pair: tuple[bytes, bytes] | None, trusted: Authority | None = None
    ) -> aio.Channel:
        """Return a connection of its own, with a certificate and its key, if any."""
        certificate, key = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(
            (trusted or self.authority).pem, key, certificate
        )
        options = [
            ("grpc.ssl_target_name_override", "services.test"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        return aio.secure_channel(self.address, credentials, options)

    async def status(
        self, pair: tuple[bytes, bytes] | None, trusted: Authority | None = None
    ) -> StatusCode:
        """Return how a request ends that a peer sends."""
        async with self.channel(pair, trusted) as channel:
            return await status_of(once(channel))

    async def change(self, pair: tuple[bytes, bytes], *authorities: Authority) -> None:
        """Write other files, and wait until they have been looked at."""
        before = len(self.events())
        self.identity.write(pair, *authorities)
        await until(lambda: len(self.events()) > before)

    def events(self) -> list[Any]:
        """Return what has been logged of certificates."""
        return [line for line in self.log if line["event"].startswith("certificates_")]


def once(channel: aio.Channel) -> Any:
    """Ask for one answer."""
    method: Any = channel.unary_unary(f"/{NAME}/Once")
    return method(b"hello", timeout=5)


async def status_of(call: Any) -> StatusCode:
    """Return how a request ends."""
    try:
        await call
    except aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


def free_address(host: str = "127.0.0.1") -> str:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"


@asynccontextmanager
async def serving(echo: Echo, address: str, settings: ServiceSettings) -> AsyncIterator[None]:
    """Serve until the end of the block."""
    host, _, port = address.rpartition(":")
    task = asyncio.create_task(serve(echo, address, settings=settings))

    def listens() -> bool:
        with socket.socket() as probe:
            return task.done() or probe.connect_ex((host, int(port))) == 0

    await until(listens)
    try:
        yield
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await task


def tls_settings(identity: Identity, *peers: str) -> ServiceSettings:
    """Return settings with the files of an identity."""
    return ServiceSettings(
        tls=ServerTlsSettings(
            certificate_file=identity.certificate,
            key_file=identity.key,
            client_ca_file=identity.authorities,
            allowed_peers=peers or (GATEWAY, f"{DOMAIN}/ns/tools/*"),
        )
    )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A server that lets in the gateway, and whoever is in the namespace `tools`."""
    authority, identity = Authority(), Identity(tmp_path / "tls")
    identity.write(authority.issue(SERVICES, "services.test"), authority)
    echo, address = Echo(), free_address()
    with capture_logs() as log:
        async with serving(echo, address, tls_settings(identity)):
            yield Served(echo, address, authority, identity, log)


@pytest.mark.parametrize("peer", [GATEWAY, f"{DOMAIN}/ns/tools/sa/probe"])
async def test_allowed_peers_are_served(served: Served, peer: str) -> None:
    """Whoever is on the list gets answers of every kind, the health service's too."""
    async with served.channel(served.pair(peer)) as channel:
        assert await once(channel) == b"hello"
        method: Any = channel.stream_stream(f"/{NAME}/Stream")
        stream = method(timeout=5)
        for word in (b"one", b"two"):
            await stream.write(word)
            assert await stream.read() == word
        await stream.done_writing()
        assert await stream.code() == StatusCode.OK
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=NAME), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"{DOMAIN}/ns/edge/sa/other"], id="other-account"),
        pytest.param(["spiffe://other.test/ns/edge/sa/gateway"], id="other-domain"),
        pytest.param(["gateway.test"], id="host-name"),
        pytest.param([], id="no-name"),
        pytest.param([GATEWAY, f"{DOMAIN}/ns/edge/sa/other"], id="two-ids"),
        pytest.param([GATEWAY, "https://mesh.test/"], id="id-and-url"),
        pytest.param(["https://mesh.test/ns/edge/sa/gateway"], id="url"),
    ],
)
async def test_other_peers_are_refused(served: Served, names: list[str]) -> None:
    """A certificate of the authority is not enough: no handler is reached, not even of health."""
    before = REGISTRY.get_sample_value("ringback_peers_refused_total") or 0
    async with served.channel(served.pair(*names)) as channel:
        assert await status_of(once(channel)) == StatusCode.PERMISSION_DENIED
        method: Any = channel.stream_stream(f"/{NAME}/Stream")
        stream = method(timeout=5)
        assert await stream.code() == StatusCode.PERMISSION_DENIED
        health: Any = health_pb2_grpc.HealthStub(channel)
        check = health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert await status_of(check) == StatusCode.PERMISSION_DENIED
    assert served.echo.asked == []
    assert REGISTRY.get_sample_value("ringback_peers_refused_total") == before + 3
    is_id = len(names) == 1 and names[0].startswith("spiffe://")
    (line,) = [line for line in served.log if line["event"] == "peer_refused"]
    assert line["peer"] == (names[0] if is_id else None)


async def test_whoever_proves_nothing_is_not_connected_to(served: Served) -> None:
    """Without a certificate, with an expired one, or one of another authority nothing is heard."""
    stranger = Authority()
    for pair in (None, served.pair(GATEWAY, lifetime=PAST), stranger.issue(GATEWAY)):
        assert await served.status(pair) == StatusCode.UNAVAILABLE
    async with aio.insecure_channel(served.address) as channel:
        assert await status_of(once(channel)) == StatusCode.UNAVAILABLE
    assert served.echo.asked == []
    assert await served.status(served.pair(GATEWAY)) == StatusCode.OK


async def test_certificates_change_while_running(served: Served) -> None:
    """Authorities are replaced in three steps, as a mesh does; connections live through it."""
    new = Authority()
    old_peer, new_peer = served.pair(GATEWAY), new.issue(GATEWAY)
    async with served.channel(old_peer) as kept:
        assert await status_of(once(kept)) == StatusCode.OK
        assert await served.status(new_peer) == StatusCode.UNAVAILABLE

        await served.change(served.pair("services.test"), served.authority, new)
        assert await served.status(old_peer) == StatusCode.OK
        assert await served.status(new_peer) == StatusCode.OK

        await served.change(new.issue("services.test"), served.authority, new)
        assert await served.status(old_peer, trusted=new) == StatusCode.OK
        assert await served.status(old_peer) == StatusCode.UNAVAILABLE

        await served.change(new.issue("services.test"), new)
        assert await served.status(old_peer, trusted=new) == StatusCode.UNAVAILABLE
        assert await served.status(new_peer, trusted=new) == StatusCode.OK
        assert await status_of(once(kept)) == StatusCode.OK
    assert [line["event"] for line in served.events()] == ["certificates_changed"] * 3


async def test_a_connection_has_to_be_proven_again(tmp_path: Path) -> None:
    """After its time a connection is made anew, by what holds then, and no request is lost."""
    authority, identity, new = Authority(), Identity(tmp_path / "tls"), Authority()
    identity.write(authority.issue("services.test"), authority)
    settings = tls_settings(identity)
    tls = settings.tls.model_copy(update={"max_connection_age_s": 1})
    echo, address = Echo(), free_address()
    with capture_logs() as log:
        async with serving(echo, address, settings.model_copy(update={"tls": tls})):
            served = Served(echo, address, authority, identity, log)
            async with served.channel(served.pair(GATEWAY)) as channel:
                end = asyncio.get_running_loop().time() + 3
                while asyncio.get_running_loop().time() < end:
                    assert await status_of(once(channel)) == StatusCode.OK
                await served.change(served.pair("services.test"), new)
                async with asyncio.timeout(5):
                    while await status_of(once(channel)) == StatusCode.OK:  # noqa: ASYNC110  no event
                        await asyncio.sleep(0.01)


async def test_changes_that_cannot_be_used_are_refused(served: Served) -> None:
    """Files that do not belong together, or hold nothing, leave those of before in force."""
    good, other = served.pair("services.test"), served.pair("services.test")
    for pair, authorities in (
        ((good[0], other[1]), [served.authority]),
        ((b"", good[1]), [served.authority]),
        (good, []),
    ):
        await served.change(pair, *authorities)
        assert served.events()[-1]["event"] == "certificates_refused"
        assert b"PRIVATE" not in repr(served.events()).encode()
        assert await served.status(served.pair(GATEWAY)) == StatusCode.OK
    await served.change(other, served.authority)
    assert served.events()[-1]["event"] == "certificates_changed"
    assert await served.status(served.pair(GATEWAY)) == StatusCode.OK


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    """What is missing or does not fit is named with its setting, all of it at once."""
    authority, identity = Authority(), Identity(tmp_path)
    tls = tls_settings(identity).tls
    with pytest.raises(CertificateError) as caught:
        ServerTls(tls)
    assert [line.split(": ")[0] for line in caught.value.problems] == [
        "services.tls.certificate_file",
        "services.tls.key_file",
        "services.tls.client_ca_file",
    ]
    (certificate, _), (_, key) = authority.issue(SERVICES), authority.issue(SERVICES)
    identity.write((certificate, key))
    with pytest.raises(CertificateError) as caught:
        ServerTls(tls)
    fit = "is not the key of certificate_file, unencrypted and in PEM"
    assert str(caught.value).splitlines() == [
        f"services.tls.key_file: {identity.key}: {fit}",
        f"services.tls.client_ca_file: {identity.authorities}: has no certificate in PEM",
    ]


@pytest.mark.parametrize(
    ("host", "plaintext", "is_served"),
    [
        pytest.param("127.0.0.1", False, True, id="loopback"),
        pytest.param("127.9.9.9", False, True, id="all-of-loopback"),
        pytest.param("0.0.0.0", False, False, id="everywhere"),
        pytest.param("0.0.0.0", True, True, id="a-mesh-does-it"),
    ],
)
async def test_plaintext_is_for_loopback(host: str, plaintext: bool, is_served: bool) -> None:
    """An address that others can reach is refused without TLS, unless the settings say so."""
    settings = ServiceSettings(plaintext=plaintext)
    address = free_address(host)
    if not is_served:
        with pytest.raises(PlaintextError, match=r"services\.tls.*services\.plaintext: true"):
            await serve(Echo(), address, settings=settings)
        return
    async with serving(Echo(), address, settings), aio.insecure_channel(address) as channel:
        assert await once(channel) == b"hello"


@pytest.mark.parametrize("address", [":9001", "[::]:9001", "services.test:9001", "192.0.2.1:9001"])
async def test_what_may_be_reached_is_refused(address: str) -> None:
    """A name counts as an address that others can reach, and so does none at all."""
    with pytest.raises(PlaintextError):
        await serve(Echo(), address)


async def test_sockets_need_no_certificate(tmp_path: Path) -> None:
    """With TLS for TCP, a Unix socket is served without; whoever may open it is let in."""
    authority, identity = Authority(), Identity(tmp_path / "tls")
    identity.write(authority.issue(SERVICES), authority)
    address = f"unix:{tmp_path}/s"
    task = asyncio.create_task(serve(Echo(), address, settings=tls_settings(identity)))
    await until((tmp_path / "s").exists)
    async with aio.insecure_channel(address) as channel:
        assert await once(channel) == b"hello"
    os.kill(os.getpid(), signal.SIGTERM)
    await task


@pytest.mark.parametrize(
    "given",
    [
        {"certificate_file": "a"},
        {"certificate_file": "a", "key_file": "b", "client_ca_file": "c"},
        {"allowed_peers": [GATEWAY]},
    ],
)
def test_half_of_the_settings_is_a_mistake(given: dict[str, Any]) -> None:
    """A certificate without a list of peers would let in the whole mesh."""
    with pytest.raises(ValidationError, match="allowed_peers together"):
        ServerTlsSettings(**given)
