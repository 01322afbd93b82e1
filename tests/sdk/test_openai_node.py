"""openai-node as it is published, through the gateway."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import trustme

from helpers.descriptions import OFFERS
from helpers.npm import find_node, install
from helpers.sdkgateway import Provided
from helpers.tlsrelay import tls_relay
from helpers.voiceclient import VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"].decode()
EVERY_MODEL = pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
LOCATION: Final = re.compile(r"/v1/realtime/calls/rtc_[\w.~-]+")


class Node:
    """Runs scenarios of ``flow.mjs``.

    Args:
        script: Beside its packages.
        gateway: What it calls.
        https: The same, where the client insists on TLS.
        authority: A PEM file with the authority that vouches for it.
    """

    def __init__(self, script: Path, gateway: Provided, https: str, authority: Path) -> None:
        self.gateway = gateway
        self._script = script
        self._https = https
        self._authority = authority

    async def run(self, scenario: str, *, tls: bool = False, **given: Any) -> Any:
        """Return what a scenario says."""
        url = self._https if tls else self.gateway.url
        arguments = {"scenario": scenario, "url": url, "key": self.gateway.key, **given}
        process = await asyncio.create_subprocess_exec(
            find_node(),
            self._script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"NODE_EXTRA_CA_CERTS": str(self._authority)},
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(json.dumps(arguments).encode())
        assert process.returncode == 0, err.decode()
        return json.loads(out)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(
    gateway: Provided, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    """Node.js with the SDK, and TLS in front of the gateway for its WebSockets."""
    copy = install(Path(__file__).parent / "node", pytestconfig.cache)
    authority, pem = trustme.CA(), tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with tls_relay(context, gateway.port) as port:
        yield Node(copy / "flow.mjs", gateway, f"https://localhost:{port}", pem)


@EVERY_MODEL
async def test_a_backend_mints_and_a_client_calls(node: Node, model: str) -> None:
    """clientSecrets.create with the key, calls.create with the token; Location has the id."""
    answer = await node.run("mintAndCall", model=model, offer=OFFER)
    assert answer["value"].startswith("ek_")
    assert answer["status"] == 201
    assert LOCATION.fullmatch(answer["location"])
    assert answer["sdp"].startswith("v=0\r\n")
    assert "\r\nm=audio " in answer["sdp"]


@EVERY_MODEL
async def test_a_backend_relays_an_offer(node: Node, model: str) -> None:
    """calls.create with an offer, a session and the key: the unified interface."""
    answer = await node.run("unified", model=model, offer=OFFER)
    assert answer["status"] == 201
    assert LOCATION.fullmatch(answer["location"])
    assert "\r\nm=audio " in answer["sdp"]


async def test_azures_client_mints(node: Node) -> None:
    """AzureOpenAI shows the key as api-key, and adds an api-version."""
    answer = await node.run("azure", model="azure-realtime", offer=OFFER)
    assert (answer["status"], answer["value"][:3]) == (201, "ek_")


async def test_refusals_are_the_sdks_errors(node: Node) -> None:
    """A wrong key is an error with the gateway's status, code and words."""
    refused = await node.run("wrongKey", model="gpt-realtime")
    assert refused["status"] == 401
    assert refused["code"] == "key_unknown"
    assert "This API key is not known" in refused["message"]


@EVERY_MODEL
async def test_a_websocket_converses(node: Node, model: str) -> None:
    """OpenAIRealtimeWS takes the key, and events come back."""
    types = (await node.run("socket", tls=True, model=model))["types"]
    assert types[0] == "session.created"
    assert "response.output_text.done" in types


@EVERY_MODEL
async def test_a_backend_joins_and_ends_the_call_of_a_client(node: Node, model: str) -> None:
    """A sideband with the id from Location steers the call, hangup ends it, but no other's."""
    async with VoiceClient() as voice:
        call_id = await node.gateway.call(voice, model)
        answer = await node.run("sideband", tls=True, callId=call_id)
        assert answer["instructions"] == "Whisper."
        assert (await voice.wait_for("session.updated"))["session"]["instructions"] == "Whisper."
        refused = await node.run("hangUp", callId=call_id)
        await voice.is_closed.wait()
    assert (refused["status"], refused["code"]) == (404, "call_id_not_found")
