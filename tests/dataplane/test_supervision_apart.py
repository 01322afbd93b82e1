"""Supervision where each service is on its own: over TCP, with certificates between all of them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.apart import Apart, envoy_tls, free_ports, places, server_tls
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import check_refusal
from helpers.gateway import CallerAt
from helpers.gatewayfiles import OPENAI_KEY, Files, openai_entry
from helpers.http11 import Message
from helpers.recording import RecordingUpstream
from helpers.secretscan import find_secrets
from helpers.svids import DOMAIN, GATEWAY, SERVICES, Authority, Identity
from helpers.waiting import until
from ringback.render.services import secret_files
from ringback.settings import load_settings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

HOST = "localhost"
OTHERS = f"{DOMAIN}/ns/other/sa/other"


@dataclass(slots=True)
class House:
    """An Envoy, three services, and a provider that callkeeper reaches by itself."""

    apart: Apart
    caller: CallerAt
    upstream: RecordingUpstream
    settings: Path

    def sidebands(self) -> list[Message]:
        """Return the requests for sidebands that the provider got."""
        return [message for message in self.upstream.received if "?call_id=" in message.target]

    async def ringback(self, *arguments: str) -> tuple[int | None, str]:
        """Run a command that asks callkeeper, with the certificate of the services."""
        command = (sys.executable, "-m", "ringback", *arguments, "--settings", str(self.settings))
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()


@asynccontextmanager
async def house(folder: Path, *peers: str) -> AsyncIterator[House]:
    """Run everything; each service lets in the gateway and these peers."""
    for name in ("files", "logs", "envoy"):
        (folder / name).mkdir()
    authority = Authority()
    envoy_side, service_side = Identity(folder / "envoy-side"), Identity(folder / "service-side")
    envoy_side.write(authority.issue(GATEWAY), authority)
    service_side.write(authority.issue(SERVICES, HOST), authority)
    files, ports = Files(folder / "files"), free_ports(callkeeper=1)
    async with RecordingUpstream() as upstream:
        files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
        files.write_keys()
        addresses = {name: [f"{HOST}:{port}" for port in ports[name]] for name in ports}
        files.write_settings(
            services={
                **places("127.0.0.1", ports),
                "tls": server_tls(service_side, GATEWAY, *peers),
                "envoy": envoy_tls(envoy_side, folder, SERVICES),
            },
            upstream={"egress": "direct"},
            supervision={
                "mode": "required",
                "callkeeper": addresses["callkeeper"],
                "extauthz": addresses["extauthz"],
            },
        )
        services = load_settings(files.settings).services
        for name, content in secret_files(services.envoy).items():
            (folder / name).write_text(json.dumps(content))
        async with (
            Apart(files, folder / "logs", ports) as apart,
            EnvoyProcess(local_bootstrap(services=services), folder / "envoy") as envoy,
        ):
            caller = CallerAt(envoy.port("ingress_http"))
            await caller.until_ready()
            yield House(apart, caller, upstream, files.settings)
        for name, log in apart.logs().items():
            # Where they listen.
            assert find_secrets(log, OPENAI_KEY) <= {"address"}, name


async def test_services_apart_keep_calls(tmp_path: Path) -> None:
    """A call is registered, listened to and ended without anything in the clear between them."""
    async with house(tmp_path, SERVICES) as apart:
        assert (await apart.caller.call(await apart.caller.token())).status == 201
        await until(lambda: bool(apart.apart.logged("callkeeper", "call_attached")))
        # The provider is told no more than by Envoy.
        sideband = apart.sidebands()[0]
        assert sideband.header("authorization") == f"Bearer {OPENAI_KEY}"
        assert not [name for name, _ in sideband.headers if name.startswith("x-ringback")]

        code, shown = await apart.ringback("calls", "list")
        assert (code, len(shown.splitlines())) == (0, 2), shown
        call: Any = shown.splitlines()[1].split()[0]
        assert (await apart.ringback("calls", "hangup", call))[0] == 0
        await until(lambda: bool(apart.upstream.received_at("hangup")))


async def test_a_service_that_nobody_lets_in_releases_no_call(tmp_path: Path) -> None:
    """Without its id on the list of the others, sdpfilter can register nothing: 503."""
    async with house(tmp_path, OTHERS) as apart:
        answer = await apart.caller.call(await apart.caller.token())
        check_refusal(answer, 503)
        assert answer.json()["error"]["code"] == "supervision_unavailable"
        assert apart.apart.logged("callkeeper", "peer_refused")
        assert apart.sidebands() == []
