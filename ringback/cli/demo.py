"""What ``ringback up`` serves without a configuration: the emulator, as OpenAI and as Azure."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from ringback.errors import StartError
from ringback.render.bootstrap import Address
from ringback.secrets import Secret

MODELS: Final = ("gpt-realtime", "azure-realtime")
_KEY_ALIAS: Final = "demo"
_RANDOM_BYTES: Final = 24
# What the emulator needs beyond our own dependencies: the extra of the same name.
_EMULATOR_MODULES: Final = ("aiohttp", "aiortc", "numpy")

_CONFIG: Final = """\
# Written by `ringback up` at each start: both models are the emulator. Only the first is marked as
# a realtime model: it serves callers who name none, such as the playground with an empty field.
model_list:
- model_name: gpt-realtime
  litellm_params:
    model: openai/gpt-realtime
    api_base: http://{emulator}/v1
    api_key: os.environ/EMULATOR_API_KEY
  model_info: {{mode: realtime}}
- model_name: azure-realtime
  litellm_params:
    model: azure/voice
    api_base: http://{emulator}
    api_key: os.environ/EMULATOR_API_KEY
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""


class MissingEmulatorError(StartError):
    """The emulator's dependencies are not installed."""

    def __str__(self) -> str:
        return (
            "Without --config, an emulator takes the place of OpenAI and Azure, and it is not "
            "installed. Install it with `pip install 'ringback[emulator]'`, or give --config."
        )


@dataclass(frozen=True, slots=True)
class Demo:
    """Files and secrets of one start.

    Attributes:
        config: LiteLLM's configuration.
        keys: The key file; it holds the hash of the demo key.
        key: The demo key.
        environ: What extauthz needs in its environment.
    """

    config: Path
    keys: Path
    key: Secret
    environ: Mapping[str, Secret]


def check_emulator() -> None:
    """Check that the emulator can be started.

    Raises:
        MissingEmulatorError: If something that it imports is not installed.
    """
    if not all(find_spec(name) for name in _EMULATOR_MODULES):
        raise MissingEmulatorError


def write_demo(folder: Path, emulator: Address) -> Demo:
    """Write the files of a demonstration, with secrets of its own.

    Args:
        folder: Where to.
        emulator: Where the emulator will listen.
    """
    config, keys = folder / "litellm.yaml", folder / "keys.yaml"
    key = random_key()
    config.write_text(_CONFIG.format(emulator=emulator), encoding="utf-8")
    save_keys(keys, [VirtualKey(hash_key(key), alias=_KEY_ALIAS)])
    environ = {"EMULATOR_API_KEY": random_key(), "LITELLM_MASTER_KEY": random_key()}
    return Demo(config, keys, key, environ)


def random_key() -> Secret:
    """Return a fresh key in the shape of an API key."""
    return Secret(f"sk-{secrets.token_urlsafe(_RANDOM_BYTES)}")
