"""Values of the configuration that would like to become more than one header or path."""

import json
from pathlib import Path
from typing import Any

import pytest

from extauthz.errors import ConfigError
from extauthz.litellm import load_config
from extauthz.providers import provider_of

MARK = "x-injected: yes"
TEXTS = {"crlf": f"a\r\n{MARK}", "lf": f"a\n{MARK}", "cr": f"a\r{MARK}", "nul": f"a\0{MARK}"}


def entry(provider: str, **params: Any) -> dict[str, Any]:
    """Return an entry of ``model_list``."""
    base = {"model": f"{provider}/rt", "api_key": "k", "api_base": "https://a.example"}
    return {"model_name": "m", "litellm_params": base | params}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("by_variable", [False, True], ids=["as-it-is", "by-variable"])
@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "api_key"),
        ("openai", "organization"),
        ("openai", "project"),
        ("openai", "api_base"),
        ("openai", "extra_headers"),
        ("azure", "api_key"),
        ("azure", "api_version"),
        ("azure", "api_base"),
        ("azure", "extra_headers"),
        ("azure", "azure_ad_token"),
    ],
)
def test_no_value_becomes_two_headers(
    tmp_path: Path, provider: str, name: str, text: str, by_variable: bool
) -> None:
    """A line end in a value that is sent upstream is a mistake of the configuration."""
    value: Any = "os.environ/HOSTILE" if by_variable else text
    if name == "extra_headers":
        value = {"x-of-the-operator": value}
    path = tmp_path / "config.yaml"
    made = entry(provider, **{name: value})
    if name == "azure_ad_token":
        # It counts where there is no key.
        del made["litellm_params"]["api_key"]
    path.write_text(json.dumps({"model_list": [made]}))
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"HOSTILE": text})
    assert MARK not in str(caught.value)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_name_becomes_two_headers(tmp_path: Path, text: str) -> None:
    """The name of a header of the operator's is one of HTTP."""
    path = tmp_path / "config.yaml"
    headers = {text: "y"}
    path.write_text(json.dumps({"model_list": [entry("openai", extra_headers=headers)]}))
    with pytest.raises(ConfigError):
        load_config(path, {})


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_model_becomes_another_path(tmp_path: Path, provider: str, text: str) -> None:
    """The provider's name of a model is refused, or escaped where it stands in a path."""
    path = tmp_path / "config.yaml"
    made = entry(provider)
    made["litellm_params"]["model"] = f"{provider}/{text}"
    made["model_info"] = {"mode": "realtime"}
    path.write_text(json.dumps({"model_list": [made]}))
    try:
        (deployment,) = load_config(path, {}).deployments
    except ConfigError:
        return
    way = provider_of(deployment)
    for target in (way.calls_path(deployment), way.websocket_path(deployment, intent=None)):
        assert target.isprintable()
        assert " " not in target
