import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import pytest
import pytest_asyncio

from helpers.apart import Apart, envoy_tls, places, server_tls
from helpers.chromium import ALLOW_MICROPHONE, chromium, find_chromium
from helpers.envoyproc import local_bootstrap
from helpers.expect import check_refusal
from helpers.gateway import CallerAt
from helpers.gatewayfiles import KEY, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET, Files, openai_entry
from helpers.http11 import Message
from helpers.load import Load, flood
from helpers.netns import Host, Network, Wire
from helpers.playground import visit
from helpers.secretscan import find_secrets
from helpers.svids import GATEWAY, SERVICES, Authority, Identity
from helpers.voiceclient import VoiceClient
from ringback.paths import envoy_dir, find_envoy
from ringback.processes import Child
from ringback.render.bootstrap import Address
from ringback.render.services import secret_files
from ringback.settings import load_settings
from ringback.supervisor import Supervisor

T = TypeVar("T")

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PORT: Final = 4000
PROVIDER_PORT: Final = 8090
PORTS: Final = {"extauthz": [9001], "sdpfilter": [9002]}
COOLDOWN_S: Final = 3
ALLOWED_FAILS: Final = 1
LINES: Final = 4
# How long a call may take, and 60 requests to what is not there; how soon all is well again.
CALL_S: Final = 15
LONGEST_S: Final = 20
RECOVERY_S: Final = 5
SETTLED_S: Final = 30


@dataclass(frozen=True, slots=True)
class Mesh:
    """Browser, gateway, services and provider, each on a host of its own.

    Attributes:
        network: The four hosts.
        to_gateway: The wire that leads to Envoy.
        to_services: The wire that leads to both services.
        apart: The services.
        folder: Of Envoy's and the emulator's logs.
    """

    network: Network
    to_gateway: Wire
    to_services: Wire
    apart: Apart
    folder: Path

    @property
    def caller(self) -> CallerAt:
        """Somebody who knows where Envoy is."""
        return CallerAt(PORT, self.network["gateway"].address)

    async def at_browser(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something on the browser's host."""
        return await self.network["browser"].run(work)

    async def until_mints(self) -> float:
        """Wait until a mint succeeds, and return how long that took, in seconds."""
        begin = time.monotonic()

        async def ask() -> None:
            async with asyncio.timeout(SETTLED_S):
                while (await self.caller.mint()).status != 200:  # noqa: ASYNC110  nothing tells
                    await asyncio.sleep(0.05)

        await self.at_browser(ask)
        return time.monotonic() - begin

    async def calls(self) -> list[dict[str, Any]]:
        """Return what the provider knows of calls."""
        url = f"http://{self.network['provider'].address}:{PROVIDER_PORT}/emulator/calls"

        async def ask() -> Any:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(url)).json()["calls"]

        found: list[dict[str, Any]] = await self.network["provider"].run(ask)
        return found

    def logs(self) -> dict[str, str]:
        """Return what Envoy and the services have logged."""
        return self.apart.logs() | {"envoy": (self.folder / "envoy.log").read_text()}


def write_files(files: Files, folder: Path, network: Network) -> Authority:
    """Write the configuration of everything, with certificates for both sides."""
    authority = Authority()
    envoy_side, service_side = Identity(folder / "envoy-side"), Identity(folder / "service-side")
    envoy_side.write(authority.issue(GATEWAY), authority)
    service_side.write(authority.issue(SERVICES), authority)
    provider = f"http://{network['provider'].address}:{PROVIDER_PORT}/v1"
    router = {"cooldown_time": COOLDOWN_S, "allowed_fails": ALLOWED_FAILS}
    files.write_config([openai_entry("voice", provider)], router_settings=router)
    files.write_keys()
    files.write_settings(
        services={
            **places(network["services"].address, PORTS),
            "tls": server_tls(service_side, GATEWAY),
            "envoy": envoy_tls(envoy_side, folder, SERVICES),
        },
        upstream={"egress": "direct", "mint_timeout_s": 4},
    )
    return authority


def children(files: Files, folder: Path, network: Network) -> list[Child]:
    """Return Envoy and the emulator, each on its host."""
    settings = load_settings(files.settings)
    for name, content in secret_files(settings.services.envoy).items():
        (folder / name).write_text(json.dumps(content))
    gateway, provider = network["gateway"], network["provider"]
    bootstrap = local_bootstrap(
        services=settings.services,
        ingress=Address(gateway.address, PORT),
        cors_origins=settings.cors_origins,
        playground=envoy_dir() / "playground.html",
    )
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap))
    envoy = [str(find_envoy()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1"]
    at = ["--host", provider.address, "--port", str(PROVIDER_PORT)]
    environ = {"PATH": os.environ["PATH"]}
    return [
        Child("envoy", [*gateway.program, *envoy], environ, folder / "envoy.log"),
        Child(
            "provider",
            [*provider.program, sys.executable, "-m", "emulator", *at],
            environ,
            folder / "provider.log",
        ),
    ]


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Give the one of this file; use `mesh`."""
    folder = tmp_path_factory.mktemp("hosts")
    files = Files(folder)
    to_gateway, to_services = Wire(), Wire()
    hosts = {"browser": None, "gateway": to_gateway, "services": to_services, "provider": None}
    supervisor = Supervisor(lambda _line: None)
    supervisor.restarts = False
    async with Network(hosts) as network:
        write_files(files, folder, network)
        services = network["services"]
        apart = Apart(files, folder, PORTS, host=services.address, program=services.program)
        mesh = Mesh(network, to_gateway, to_services, apart, folder)
        try:
            for child in children(files, folder, network):
                await supervisor.start(child)
            async with apart:
                await mesh.at_browser(mesh.caller.until_ready)
                await mesh.until_mints()
                yield mesh
        finally:
            supervisor.kill()
            await supervisor.stop(supervisor.names)


@pytest_asyncio.fixture(loop_scope="session")
async def mesh(shared_mesh: Mesh) -> AsyncIterator[Mesh]:
    """Four hosts with good links, and the same again after the test."""
    yield shared_mesh
    for wire in (shared_mesh.to_gateway, shared_mesh.to_services):
        wire.delay_s, wire.loss, wire.is_cut = 0, 0, False
    shared_mesh.network.set_link("provider", "up")
    await shared_mesh.until_mints()


async def talk(caller: CallerAt) -> None:
    """Have a conversation from the first request to the end."""
    async with VoiceClient() as client:
        offer = await client.offer()
        answer = await caller.call(await caller.token(), offer=offer.encode())
        assert answer.status == 201, answer.raw
        await client.accept(answer.body.decode())
        async with asyncio.timeout(30):
            await client.is_connected.wait()
            await client.hears_something.wait()
        await client.wait_for("session.created")
        ended = await caller.hang_up(str(answer.header("location")))
        assert ended.status == 200, ended.raw
        async with asyncio.timeout(30):
            await client.is_closed.wait()


async def test_a_call_crosses_four_hosts(mesh: Mesh) -> None:
    """Mint, call, media in both directions, hangup; nothing of it can be read on the way inside."""
    mesh.to_services.frames.clear()
    mesh.to_services.record = True
    await mesh.at_browser(lambda: talk(mesh.caller))
    mesh.to_services.record = False
    inside = between(mesh.to_services.frames, mesh.network["gateway"], mesh.network["services"])
    assert len(inside) > 10_000
    for secret in (KEY, OPENAI_KEY, "Bearer", "a=candidate", "ice-pwd", "extauthz", "voice"):
        assert secret.encode() not in inside


async def test_without_a_link_to_the_services_nothing_passes(mesh: Mesh) -> None:
    """Packets between Envoy and the services vanish: callers are refused, and soon served again."""

    async def refused() -> None:
        token = await mesh.caller.token()
        mesh.to_services.is_cut = True
        async with asyncio.timeout(SETTLED_S):
            # What waits for sdpfilter is given up after 2 s, what waits for extauthz is asked of
            # it over new connections; then nothing is asked any more.
            while (await mesh.caller.call(token)).status == 201:
                pass
        before = await mesh.calls()
        begin = time.monotonic()
        answers = await flood(lambda: mesh.caller.call(token), 40)
        answers += await flood(mesh.caller.mint, 20)
        assert time.monotonic() - begin < LONGEST_S
        for answer in answers:
            check_refusal(answer, 503)
        assert await mesh.calls() == before

    await mesh.at_browser(refused)
    mesh.to_services.is_cut = False
    assert await mesh.until_mints() < RECOVERY_S
    await mesh.at_browser(lambda: talk(mesh.caller))


async def test_a_short_cut_costs_what_sdpfilter_was_at(mesh: Mesh) -> None:
    """Of requests that arrive within 2 s without a link all others wait, and succeed."""
    seen: list[Message] = []

    async def load() -> None:
        async with Load(await mesh.caller.mixed(), LINES) as running:
            await running.more(20)
            mesh.to_services.is_cut = True
            await asyncio.sleep(2)
            mesh.to_services.is_cut = False
            await running.more(40)
        assert running.failures == []
        seen.extend(running.answers)

    await mesh.at_browser(load)
    others = [answer for answer in seen if answer.status not in {200, 201}]
    assert len(others) <= LINES
    for answer in others:
        check_refusal(answer, answer.status)
        assert answer.status in {503, 504}


async def test_a_bad_link_costs_time_alone(mesh: Mesh) -> None:
    """Over 100 ms there and back and a loss of 2 % all succeeds: mints, calls, a conversation."""
    mesh.to_services.delay_s, mesh.to_services.loss = 0.05, 0.02
    answers: list[Message] = []

    async def load() -> None:
        begin = time.monotonic()
        answers.extend(await flood(await mesh.caller.mixed(), 80, 8))
        assert time.monotonic() - begin < LONGEST_S
        await talk(mesh.caller)

    await mesh.at_browser(load)
    assert {answer.status for answer in answers} == {200, 201}


async def test_a_lost_provider_is_told(mesh: Mesh) -> None:
    """Its packets vanish: 504 within the deadlines, then it is left alone, and soon used again."""

    async def mint_until_cooling() -> list[Message]:
        answers = [await mesh.caller.mint()]
        while answers[-1].error["code"] != "deployments_cooling":
            answers.append(await mesh.caller.mint())
        return answers

    async def lose() -> None:
        token = await mesh.caller.token()
        mesh.network.set_link("provider", "down")
        begin = time.monotonic()
        called, minted = await asyncio.gather(mesh.caller.call(token), mint_until_cooling())
        check_refusal(called, 504, "timeout")
        assert time.monotonic() - begin < CALL_S + 1
        *failed, cooling = minted
        check_refusal(cooling, 503, "deployments_cooling")
        assert cooling.header("retry-after")
        # Over connections that were there, and over new ones.
        told = {504: "upstream_timeout", 503: "upstream_unreachable"}
        for answer in failed:
            check_refusal(answer, answer.status, told[answer.status])
        assert len(failed) == ALLOWED_FAILS + 1

    await mesh.at_browser(lose)
    mesh.network.set_link("provider", "up")
    assert await mesh.until_mints() < COOLDOWN_S + RECOVERY_S
    await mesh.at_browser(lambda: talk(mesh.caller))


@pytest.mark.browser
async def test_a_browser_talks_across_hosts(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium on its host loads the page from Envoy, and hears the provider from another one."""
    program = tmp_path / "chromium"
    command = (*mesh.network["browser"].program, find_chromium())
    program.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("CHROMIUM", str(program))
    url = f"http://{mesh.caller.host}:{PORT}"
    # A microphone needs a page over TLS, or this word.
    trusted = f"--unsafely-treat-insecure-origin-as-secure={url}"
    async with (
        chromium(ALLOW_MICROPHONE, trusted) as browser,
        visit(browser, f"{url}/playground") as person,
    ):
        await person.connect(key=KEY, model="voice")
        await person.page.locator("#turns").get_by_text("emulator").first.wait_for()
        async with person.page.expect_response("**/hangup") as answered:
            await person.page.locator("#hangup").click()
        assert (await answered.value).status == 200


async def test_logs_hold_no_secret(mesh: Mesh) -> None:
    """No log of Envoy or a service has a key, a token, SDP or a caller's address."""
    for name, text in mesh.logs().items():
        found = find_secrets(text, KEY, MASTER_KEY, OPENAI_KEY, TOKEN_SECRET)
        # Where a worker listens is in its log; where callers are is not.
        assert found <= {"address"}, name
        assert mesh.network["browser"].address not in text, name


def between(frames: list[bytes], one: Host, other: Host) -> bytes:
    """Return what two hosts told each other."""
    pair = {bytes(map(int, host.address.split("."))) for host in (one, other)}
    # Ethernet has 14 bytes; source and destination are the last 8 of the 20 of IPv4.
    return b"".join(frame for frame in frames if {frame[26:30], frame[30:34]} == pair)
