"""The way to a provider without an Envoy in between."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from callkeeper.egress import Egress
from callkeeper.errors import UpstreamError
from callkeeper.reach import Reach
from callkeeper.way import AuthoritiesError, MeshEgressError, way_of
from helpers.svids import Authority
from ringback.secrets import Secret
from ringback.settings import Settings, UpstreamSettings

HOST = "localhost"
HEADERS = {"authorization": Secret("Bearer sk-standard")}


@dataclass
class Provider:
    """A provider with TLS, and what it was asked."""

    port: int = 0
    asked: list[web.Request] = field(default_factory=list)

    def reach(self) -> Reach:
        """Return how its call is reached."""
        return Reach(
            cluster="upstream_https_localhost",
            origin=f"https://{HOST}:{self.port}",
            authority=f"{HOST}:{self.port}",
            sideband_path="/v1/realtime?call_id=rtc_1",
            hangup_path="/v1/realtime/calls/rtc_1/hangup",
            headers=HEADERS,
            ephemeral_headers={},
        )


@asynccontextmanager
async def provider(folder: Path, pair: tuple[bytes, bytes]) -> AsyncIterator[Provider]:
    """Serve a call with a certificate and its key."""
    for name, content in zip(("crt", "key"), pair, strict=True):
        (folder / f"provider.{name}").write_bytes(content)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "provider.crt", folder / "provider.key")
    found = Provider()

    async def attach(request: web.Request) -> web.StreamResponse:
        found.asked.append(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("{}")
        await socket.close()
        return socket

    async def hang_up(request: web.Request) -> web.Response:
        found.asked.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/realtime", attach)
    app.router.add_post("/v1/realtime/calls/rtc_1/hangup", hang_up)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def settings(folder: Path, *authorities: Authority) -> Settings:
    """Return settings that go directly, and believe these."""
    file = folder / "ca.pem"
    file.write_bytes(b"".join(authority.pem for authority in authorities))
    return Settings(upstream=UpstreamSettings(egress="direct", ca_file=file))


async def test_a_provider_is_reached_over_tls(tmp_path: Path) -> None:
    """Sideband and hangup, with the credential and without headers of ours."""
    authority = Authority()
    egress = Egress(way_of(settings(tmp_path, authority)))
    egress.start()
    async with provider(tmp_path, authority.issue(HOST)) as found:
        socket = await egress.attach(found.reach())
        assert (await socket.receive()).data == "{}"
        await socket.close()
        await egress.hang_up(found.reach())
        assert [request.method for request in found.asked] == ["GET", "POST"]
        for request in found.asked:
            assert request.headers["authorization"] == "Bearer sk-standard"
            assert not [name for name in request.headers if name.lower().startswith("x-ringback")]
    await egress.stop()


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_nobody_else_is_shown_the_credential(tmp_path: Path, wrong: str) -> None:
    """A certificate of a stranger, or for another name: nothing is sent."""
    authority = Authority()
    signer = Authority() if wrong == "authority" else authority
    egress = Egress(way_of(settings(tmp_path, authority)))
    egress.start()
    name = HOST if wrong == "authority" else "other.test"
    async with provider(tmp_path, signer.issue(name)) as found:
        with pytest.raises(UpstreamError):
            await egress.attach(found.reach())
        with pytest.raises(UpstreamError):
            await egress.hang_up(found.reach())
        assert found.asked == []
    await egress.stop()


def test_what_cannot_be_checked_stops_the_start(tmp_path: Path) -> None:
    """No authorities, or a way that callkeeper does not know: it says what to do."""
    upstream = UpstreamSettings(egress="direct", ca_file=tmp_path / "missing.pem")
    with pytest.raises(AuthoritiesError, match=r"upstream\.ca_file: .*missing\.pem"):
        way_of(Settings(upstream=upstream))
    with pytest.raises(MeshEgressError, match=r"upstream\.egress"):
        way_of(Settings(upstream=UpstreamSettings(egress="mesh")))
