"""openai-node as it is published, through the gateway."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.descriptions import OFFERS
from helpers.programs import Node
from helpers.sdkgateway import Provided
from helpers.voiceclient import VoiceClient

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"].decode()
EVERY_MODEL = pytest.mark.parametrize("model", ["gpt-realtime", "azure-realtime"])
LOCATION: Final = re.compile(r"/v1/realtime/calls/rtc_[\w.~-]+")


class Flow:
    """Runs scenarios of ``flow.mjs``."""

    def __init__(self, node: Node, gateway: Provided) -> None:
        self.gateway = gateway
        self._node = node

    async def run(self, scenario: str, *, tls: bool = False, **given: Any) -> Any:
        """Return what a scenario says."""
        url = self._node.https if tls else self.gateway.url
        arguments = {"scenario": scenario, "url": url, "key": self.gateway.key, **given}
        return json.loads(await self._node.run("flow.mjs", stdin=json.dumps(arguments)))


@pytest.fixture
def flow(node: Node, gateway: Provided) -> Flow:
    """What somebody's backend does."""
    return Flow(node, gateway)


async def test_the_packages_are_pinned() -> None:
    """Versions are exact, and the lock file names no registry: npm's own setting does."""
    folder = Path(__file__).parent / "node"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text())["packages"]
    locked = {name: lock[f"node_modules/{name}"]["version"] for name in wanted}
    assert wanted == locked
    assert not [name for name, package in lock.items() if "resolved" in package]


@EVERY_MODEL
async def test_a_backend_mints_and_a_client_calls(flow: Flow, model: str) -> None:
    """clientSecrets.create with the key, calls.create with the token; Location has the id."""
    answer = await flow.run("mintAndCall", model=model, offer=OFFER)
    assert answer["value"].startswith("ek_")
    assert answer["status"] == 201
    assert LOCATION.fullmatch(answer["location"])
    assert answer["sdp"].startswith("v=0\r\n")
    assert "\r\nm=audio " in answer["sdp"]


@EVERY_MODEL
async def test_a_backend_relays_an_offer(flow: Flow, model: str) -> None:
    """calls.create with an offer, a session and the key: the unified interface."""
    answer = await flow.run("unified", model=model, offer=OFFER)
    assert answer["status"] == 201
    assert LOCATION.fullmatch(answer["location"])
    assert "\r\nm=audio " in answer["sdp"]


async def test_azures_client_mints(flow: Flow) -> None:
    """AzureOpenAI shows the key as api-key, and adds an api-version."""
    answer = await flow.run("azure", model="azure-realtime", offer=OFFER)
    assert (answer["status"], answer["value"][:3]) == (201, "ek_")


async def test_refusals_are_the_sdks_errors(flow: Flow) -> None:
    """A wrong key is an error with the gateway's status, code and words."""
    refused = await flow.run("wrongKey", model="gpt-realtime")
    assert refused["status"] == 401
    assert refused["code"] == "key_unknown"
    assert "This API key is not known" in refused["message"]


@EVERY_MODEL
async def test_a_websocket_converses(flow: Flow, model: str) -> None:
    """OpenAIRealtimeWS takes the key, and events come back."""
    types = (await flow.run("socket", tls=True, model=model))["types"]
    assert types[0] == "session.created"
    assert "response.output_text.done" in types


@EVERY_MODEL
async def test_a_backend_joins_and_ends_the_call_of_a_client(flow: Flow, model: str) -> None:
    """A sideband with the id from Location steers the call, hangup ends it, but no other's."""
    async with VoiceClient() as voice:
        call_id = await flow.gateway.call(voice, model)
        answer = await flow.run("sideband", tls=True, callId=call_id)
        assert answer["instructions"] == "Whisper."
        assert (await voice.wait_for("session.updated"))["session"]["instructions"] == "Whisper."
        refused = await flow.run("hangUp", callId=call_id)
        await voice.is_closed.wait()
    assert (refused["status"], refused["code"]) == (404, "call_id_not_found")
