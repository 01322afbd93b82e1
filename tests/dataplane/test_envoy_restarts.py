import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from envoyapi.service.auth.v3.external_auth_pb2 import CheckResponse
from helpers.callers import LINES, Callers
from helpers.door import CALL, consent_to, door_changes, origin_of, process_honestly
from helpers.envoyproc import EnvoyProcess, Json
from helpers.gateway import Gateway
from helpers.gatewayfiles import Files, openai_entry
from helpers.http11 import Client, request_bytes, send
from helpers.recording import CALLS, RecordingUpstream, Reply, call_reply
from helpers.stubservices import RawContext, StubService, serving
from ringback.cli.ports import Wanted, take_ports
from ringback.cli.stack import Stack
from ringback.paths import find_envoy
from ringback.render.bootstrap import Address, own_bootstrap

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

ROOT: Final = Path(__file__).parents[2]
READY: Final = request_bytes("GET", "/readyz")


def slow_reply(seconds: float) -> Reply:
    """Return an answer that keeps several calls in flight at any time."""
    reply = call_reply("rtc_upstream_0001")
    return Reply(201, reply.headers, reply.body, delay_s=seconds)


@asynccontextmanager
async def behind(folder: Path) -> AsyncIterator[tuple[Json, dict[str, Address]]]:
    """Give a bootstrap with working services and a slow upstream, and where it listens."""
    service = StubService()
    async with RecordingUpstream() as upstream, serving(service) as address:
        consent: CheckResponse = consent_to(origin_of(upstream.port))

        async def check(_request: bytes, _context: RawContext) -> bytes:
            return consent.SerializeToString()

        service.check, service.process = check, process_honestly
        upstream.script[CALLS] = slow_reply(0.2)
        # A second Envoy takes over what it finds under the same address: no port 0.
        names = ("ingress", "egress", "admin")
        free = take_ports(*(Wanted(name, "127.0.0.1", 0) for name in names))
        ports = dict(zip(names, free, strict=True))
        places = {"extauthz": address, "sdpfilter": address}
        folder.mkdir()  # noqa: ASYNC240  at once
        ingress, egress, admin = free
        changes = door_changes(places, upstream.port, ingress=ingress, egress=egress, admin=admin)
        yield own_bootstrap(changes), ports


async def test_envoy_in_a_container_drains_before_it_ends(tmp_path: Path) -> None:
    """SIGTERM, as containers are stopped, costs no request that was sent; new ones are refused."""
    async with behind(tmp_path / "envoy") as (bootstrap, ports):
        envoy = EnvoyProcess(
            bootstrap,
            tmp_path / "envoy",
            program=["bash", str(ROOT / "deploy/envoy/run-and-drain.sh")],
            env={**os.environ, "ENVOY": str(find_envoy()), "ENVOY_ADMIN": str(ports["admin"])},
        )
        port = ports["ingress"].port
        async with envoy, Callers(port, CALL, stay_away=True) as callers:
            await callers.more(2 * LINES)
            async with asyncio.timeout(15):
                await envoy.terminate()
        with pytest.raises(ConnectionRefusedError):
            await send(port, CALL)
    assert callers.lost == 0
    assert set(callers.statuses) == {201}


async def test_a_stack_drains_before_it_ends(tmp_path: Path) -> None:
    """As `ringback up` does it: each request that was sent is answered, and `/readyz` says no."""
    files = Files(tmp_path)
    async with RecordingUpstream() as upstream:
        files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
        files.write_keys()
        files.write_settings()
        async with Stack(files.options()) as stack:
            gateway = Gateway(stack, files, upstream, upstream)
            token = await gateway.token()
            upstream.script[CALLS] = slow_reply(0.2)
            lines = [("authorization", f"Bearer {token}"), ("content-type", "application/sdp")]
            _, _, offer = CALL.partition(b"\r\n\r\n")
            call = request_bytes("POST", "/v1/realtime/calls", lines, offer)
            async with Client(gateway.port) as kept, Callers(gateway.port, call, True) as callers:
                await kept.write(READY)
                assert (await kept.read()).status == 200
                await callers.more(2 * LINES)
                assert await stack.drain() == 0
                await kept.write(READY)
                answer = await kept.read()
                assert (answer.status, answer.error["code"]) == (503, "unavailable")
    assert callers.lost == 0
    assert set(callers.statuses) == {201}


async def test_hot_restart_costs_nothing(tmp_path: Path) -> None:
    """A second Envoy takes the sockets over while the first one answers what it has begun.

    Clients that come back at once, whichever answers them, notice nothing.
    """
    times = ["--drain-time-s", "1", "--drain-strategy", "immediate", "--parent-shutdown-time-s"]
    async with behind(tmp_path / "old") as (bootstrap, ports):
        id_file = tmp_path / "base-id"
        (tmp_path / "new").mkdir()
        old = EnvoyProcess(
            bootstrap,
            tmp_path / "old",
            options=["--use-dynamic-base-id", "--base-id-path", str(id_file), *times, "3"],
        )
        async with old, Callers(ports["ingress"].port, CALL, stay_away=False) as callers:
            await callers.more(2 * LINES)
            new = EnvoyProcess(
                bootstrap,
                tmp_path / "new",
                options=["--restart-epoch", "1", "--base-id", id_file.read_text(), *times, "3"],
            )
            async with new:
                await callers.more(2 * LINES)
                await old.ended()
                await callers.more(2 * LINES)
                await callers.end()
    assert callers.lost == 0
    assert set(callers.statuses) == {201}
