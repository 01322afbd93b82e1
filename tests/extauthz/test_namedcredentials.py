from pathlib import Path
from typing import Any

import pytest

from extauthz.deployments import Origin
from extauthz.errors import ConfigError
from extauthz.litellm import LiteLLMConfig, load_config
from helpers.authz import write_config
from ringback.secrets import Secret

AZURE = {
    "credential_name": "eu",
    "credential_values": {
        "api_key": "os.environ/EU_KEY",
        "api_base": "https://eu.openai.azure.com",
        "api_version": "2025-08-28",
    },
    "credential_info": {"description": "Europe"},
}
ENVIRON = {"EU_KEY": "key-of-europe", "OPENAI_API_KEY": "sk-env", "NAME": "eu"}


def load(folder: Path, credentials: Any, **params: Any) -> LiteLLMConfig:
    """Load an entry with these litellm_params."""
    path = folder / "config.yaml"
    entry = {"model_name": "voice", "litellm_params": {"model": "azure/rt", **params}}
    write_config(path, entry, credential_list=credentials)
    return load_config(path, ENVIRON)


def mistakes(folder: Path, credentials: Any, **params: Any) -> list[str]:
    """Return what is wrong, without the name of the file."""
    with pytest.raises(ConfigError) as refused:
        load(folder, credentials, **params)
    return [problem.removeprefix(f"{folder}/config.yaml: ") for problem in refused.value.problems]


@pytest.mark.parametrize("name", ["eu", "os.environ/NAME"])
def test_a_credential_stands_in_for_what_is_absent(tmp_path: Path, name: str) -> None:
    """Key, base and version come from the credential; its references are resolved."""
    (found,) = load(tmp_path, [AZURE], litellm_credential_name=name).deployments
    assert found.api_key == Secret("key-of-europe")
    assert found.origin == Origin("https", "eu.openai.azure.com", 443)
    assert (found.dialect, found.api_version) == ("azure-dated", "2025-08-28")


def test_the_entry_itself_goes_first(tmp_path: Path) -> None:
    """What an entry says of its own replaces the credential's."""
    own = {"api_key": "key-of-the-entry", "litellm_credential_name": "eu"}
    (found,) = load(tmp_path, [AZURE], **own).deployments
    assert found.api_key == Secret("key-of-the-entry")
    assert found.origin.host == "eu.openai.azure.com"


def test_credentials_of_included_files_count(tmp_path: Path) -> None:
    """Lists of several files are joined, as lists of models are."""
    write_config(tmp_path / "more.yaml", credential_list=[AZURE])
    path = tmp_path / "config.yaml"
    params = {"model": "azure/rt", "litellm_credential_name": "eu"}
    entry = {"model_name": "voice", "litellm_params": params}
    other = {"credential_name": "us", "credential_values": {"api_key": "os.environ/NOT_SET"}}
    write_config(path, entry, credential_list=[other], include=["more.yaml"])
    assert load_config(path, ENVIRON).deployments[0].api_key == Secret("key-of-europe")


@pytest.mark.parametrize(
    ("credentials", "params", "expected"),
    [
        # Realistic
        pytest.param(
            [],
            {"model": "openai/gpt-realtime", "litellm_credential_name": "eu"},
            "model_list[0].litellm_params.litellm_credential_name: is in no credential_list of "
            "these files; those of LiteLLM's database are not read",
            id="nobody-has-it",
        ),
        pytest.param(
            [{**AZURE, "credential_values": {"api_key": "os.environ/US_KEY"}}],
            {"litellm_credential_name": "eu", "api_base": "https://r.test"},
            "model_list[0].litellm_params.api_key: the variable US_KEY is not set; set it before "
            "the start",
            id="unset-variable",
        ),
        pytest.param(
            [AZURE, AZURE],
            {"litellm_credential_name": "eu"},
            "credential_list[1].credential_name: another credential has this name",
            id="twice",
        ),
        # Synthetic
        pytest.param(
            [{"credential_values": {}}],
            {"api_key": "k", "api_base": "https://r.test"},
            "credential_list[0].credential_name: is missing; write what entries call it",
            id="no-name",
        ),
        pytest.param(
            {"eu": {}},
            {"api_key": "k", "api_base": "https://r.test"},
            "credential_list: expected a list, one `- ` per entry",
            id="no-list",
        ),
        pytest.param(
            [{**AZURE, "credential_values": ["k"]}],
            {"api_key": "k", "api_base": "https://r.test"},
            "credential_list[0].credential_values: expected `name: value` lines",
            id="no-values",
        ),
        pytest.param(
            [AZURE],
            {"api_key": "k", "api_base": "https://r.test", "litellm_credential_name": 7},
            "model_list[0].litellm_params.litellm_credential_name: expected text; put it in quotes",
            id="number",
        ),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, credentials: Any, params: dict[str, Any], expected: str
) -> None:
    """A name that nobody has stops the start: no other key is sent in its place."""
    assert mistakes(tmp_path, credentials, **params) == [expected]


def test_others_may_refer_to_what_is_not_read(tmp_path: Path) -> None:
    """Models that are not for voice may have credentials that are in LiteLLM's database."""
    path = tmp_path / "config.yaml"
    chat = {"model": "anthropic/claude", "litellm_credential_name": "in-the-database"}
    entry = {"model_name": "voice", "litellm_params": {"model": "openai/gpt-realtime"}}
    write_config(path, entry, {"model_name": "chat", "litellm_params": chat})
    assert [found.model_name for found in load_config(path, ENVIRON).deployments] == ["voice"]
