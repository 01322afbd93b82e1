"""The files of a gateway under test: LiteLLM's configuration, a key file and our settings."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from ringback.cli.plan import StackOptions
from ringback.secrets import Secret

TOKEN_SECRET: Final = "a secret that seals what the tests mint"
OPENAI_KEY: Final = "sk-upstream-openai-standard-key"
AZURE_KEY: Final = "0123456789abcdef-azure-standard-key"
MASTER_KEY: Final = "sk-master-of-all-the-tests"
# Keys of callers, by what is special about them.
KEYS: Final[dict[str, VirtualKey]] = {
    "sk-team-key-for-everything": VirtualKey("", alias="web-team", team="web", user="ada"),
    "sk-other-key-of-the-team": VirtualKey("", alias="web-other", team="web", user="bob"),
    "sk-key-for-azure-alone": VirtualKey("", alias="azure-only", models=("voice-azure",)),
    "sk-key-that-is-blocked": VirtualKey("", alias="blocked", blocked=True),
    "sk-key-that-expired": VirtualKey("", alias="old", expires=datetime(2020, 1, 31, tzinfo=UTC)),
    "sk-key-to-be-blocked-later": VirtualKey("", alias="doomed"),
}
KEY: Final = "sk-team-key-for-everything"
# All processes of a stack start within this time, on a busy machine, too.
READY_S: Final = 60.0


def openai_entry(group: str, base: str, **info: str) -> dict[str, Any]:
    """Return an entry of ``model_list`` for OpenAI at a base URL."""
    return {
        "model_name": group,
        "litellm_params": {
            "model": "openai/gpt-realtime",
            "api_base": base,
            "api_key": OPENAI_KEY,
            "organization": "org-of-the-operator",
        },
        "model_info": {"id": f"{group}-1", **info},
    }


def azure_entry(group: str, base: str) -> dict[str, Any]:
    """Return an entry of ``model_list`` for an Azure resource."""
    params = {"model": "azure/rt-deployment", "api_base": base, "api_key": AZURE_KEY}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": f"{group}-1"}}


@dataclass(frozen=True, slots=True)
class Files:
    """The configuration of one gateway, in a folder of its own."""

    folder: Path

    @property
    def config(self) -> Path:
        """LiteLLM's file."""
        return self.folder / "litellm.yaml"

    @property
    def keys(self) -> Path:
        """The key file."""
        return self.folder / "keys.yaml"

    @property
    def settings(self) -> Path:
        """Our own settings."""
        return self.folder / "ringback.yaml"

    def write_config(self, entries: Iterable[Mapping[str, Any]], **sections: Any) -> None:
        """Write LiteLLM's file, in one step as editors do."""
        general = {"master_key": MASTER_KEY}
        content = {"model_list": list(entries), "general_settings": general, **sections}
        temporary = self.config.with_suffix(".new")
        temporary.write_text(json.dumps(content))
        temporary.replace(self.config)

    def write_keys(self, **changes: dict[str, Any]) -> None:
        """Write the key file.

        Args:
            changes: By alias, fields of a key that differ from `KEYS`.
        """
        keys = [
            replace(key, hash=hash_key(Secret(raw)), **changes.get(str(key.alias), {}))
            for raw, key in KEYS.items()
        ]
        save_keys(self.keys, keys)

    def write_settings(self, **settings: object) -> None:
        """Write ringback.yaml."""
        self.settings.write_text(json.dumps({"token": {"secret": TOKEN_SECRET}, **settings}))

    def options(self, *, workers: int = 1) -> StackOptions:
        """Return what starts a stack with these files."""
        return StackOptions(
            config=self.config,
            settings=self.settings,
            keys=self.keys,
            port=0,
            egress_port=0,
            admin_port=0,
            workers=workers,
            concurrency=1,
            ready_timeout_s=READY_S,
        )
