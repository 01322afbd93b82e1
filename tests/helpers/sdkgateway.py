"""The whole gateway in front of an emulator that is every provider at once."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from emulator.options import Options
from emulator.server import Emulator
from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.appbackend import STANDARD, AppBackend
from helpers.gatewayfiles import READY_S
from helpers.voiceclient import VoiceClient
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack
from ringback.secrets import Secret

# What `AppBackend` shows.
KEY: Final = STANDARD["Authorization"].removeprefix("Bearer ")


@dataclass(frozen=True, slots=True)
class Provided:
    """What the SDKs are pointed at.

    Attributes:
        url: The gateway, without a path.
        key: A LiteLLM key.
        port: Of the gateway.
        app: Somebody's backend, which speaks HTTP itself.
        provider: The emulator.
    """

    url: str
    key: str
    port: int
    app: AppBackend
    provider: AppBackend

    async def call(self, voice: VoiceClient, model: str) -> str:
        """Return the id of a call that is live."""
        token = await self.app.mint({"type": "realtime", "model": model})
        call_id = await self.app.call(voice, key=token)
        await voice.wait_for("session.created")
        return call_id

    async def sockets(self) -> list[dict[str, Any]]:
        """Return the emulator's view of WebSocket sessions."""
        async with self.provider.http.get(f"{self.provider.url}/emulator/calls") as response:
            sockets: list[dict[str, Any]] = (await response.json())["sockets"]
        return sockets


def _entry(
    group: str, model: str, base: str, own: dict[str, Any] | None = None, **params: str | None
) -> dict[str, Any]:
    given = {"model": model, "api_base": base, "api_key": "sk-of-the-provider", **params}
    return {
        "model_name": group,
        "litellm_params": {name: value for name, value in given.items() if value is not None},
        "model_info": {"ringback": own or {}},
    }


def _entries(emulator: Emulator) -> list[dict[str, Any]]:
    """Return a deployment of each dialect, and one that logs in as a managed identity."""
    preview = {"dialect": "azure-preview", "calls_base": emulator.url}
    identity = {"credential": "managed_identity"}
    return [
        _entry("gpt-realtime", "openai/gpt-realtime", emulator.openai_url),
        _entry("azure-realtime", "azure/voice", emulator.url),
        _entry("azure-dated", "azure/voice", emulator.url, api_version="2025-04-01-preview"),
        _entry("azure-preview", "azure/voice", emulator.url, preview),
        _entry("transcriber", "openai/gpt-4o-transcribe", emulator.openai_url),
        _entry("azure-entra", "azure/voice", emulator.url, identity, api_key=None),
    ]


@asynccontextmanager
async def sdk_gateway(folder: Path) -> AsyncIterator[Provided]:
    """Run Envoy and both services, with a deployment of each dialect.

    Args:
        folder: For the configuration.
    """
    async with Emulator(Options(entra=True)) as emulator, aiohttp.ClientSession() as http:
        config, keys = folder / "litellm.yaml", folder / "keys.yaml"
        master = {"general_settings": {"master_key": "sk-master-of-the-sdk-tests"}}
        config.write_text(json.dumps({"model_list": _entries(emulator), **master}))
        save_keys(keys, [VirtualKey(hash_key(Secret(KEY)), alias="sdk")])
        options = StackOptions(
            config=config,
            keys=keys,
            port=0,
            egress_port=0,
            admin_port=0,
            workers=1,
            concurrency=1,
            ready_timeout_s=READY_S,
            # Where azure-identity asks for the tokens of a managed identity.
            environ={"AZURE_POD_IDENTITY_AUTHORITY_HOST": emulator.url},
        )
        async with Stack(options) as stack:
            port = int(stack.url.rpartition(":")[2])
            app, provider = AppBackend(http, stack.url), AppBackend(http, emulator.url)
            yield Provided(stack.url, KEY, port, app, provider)
