"""What `ringback render istio` writes, as plain data."""

import json
from pathlib import Path
from typing import Any, Final

from helpers.manifests import Manifest
from ringback.render import istio
from ringback.render.inputs import load_inputs
from ringback.render.values import parse_values

OPENAI: Final = "https://api.openai.com/v1"


def render(
    folder: Path, *bases: str, values: tuple[str, ...] = (), **settings: Any
) -> list[Manifest]:
    """Return the manifests for deployments at these bases."""
    config, ours = folder / "litellm.yaml", folder / "ringback.yaml"
    entries = [
        {
            "model_name": f"voice-{index}",
            "litellm_params": {
                "model": "openai/gpt-realtime",
                "api_base": base,
                "api_key": "os.environ/OPENAI_API_KEY",
            },
        }
        for index, base in enumerate(bases)
    ]
    config.write_text(json.dumps({"model_list": entries}))
    ours.write_text(json.dumps(settings))
    inputs = load_inputs(config, ours, {})
    files = istio.render(inputs, parse_values(istio.VALUES, values))
    documents = [document for documents in files.values() for document in documents]
    # Without what only files need: their comments.
    manifests: list[Manifest] = json.loads(json.dumps(documents))
    return manifests


def specs(manifests: list[Manifest], kind: str) -> dict[str, Any]:
    """Return the specifications of a kind by name."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in manifests
        if manifest.get("kind") == kind
    }


def port_policy(rule: Any, port: int) -> Any:
    """Return what a DestinationRule says of a port."""
    (policy,) = [
        policy
        for policy in rule["trafficPolicy"]["portLevelSettings"]
        if policy["port"]["number"] == port
    ]
    return policy
