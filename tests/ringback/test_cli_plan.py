import os
import ssl
from pathlib import Path

import pytest

from extauthz.errors import ConfigError
from ringback.cli import plan
from ringback.cli.demo import MODELS, MissingEmulatorError
from ringback.cli.plan import Inputs, StackOptions, read_inputs
from ringback.errors import StartError
from ringback.secrets import Secret
from ringback.settings import Settings, SettingsError, UpstreamSettings
from sdpfilter.policies import PoliciesError

CONFIG = """
model_list:
- model_name: voice
  litellm_params: {model: openai/gpt-realtime, api_key: os.environ/OPENAI_API_KEY}
- model_name: voice
  litellm_params: {model: openai/gpt-realtime-mini, api_key: os.environ/OPENAI_API_KEY}
- model_name: other
  litellm_params: {model: openai/gpt-realtime, api_key: os.environ/OPENAI_API_KEY}
general_settings: {master_key: sk-master-key-of-the-file}
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("RINGBACK_", "LITELLM_")):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with two groups and a master key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-up")
    path = tmp_path / "litellm.yaml"
    path.write_text(CONFIG)
    return path


def test_without_a_configuration_the_emulator_answers() -> None:
    """Its models are served, the page too, and tokens are sealed with a fresh secret."""
    one, other = read_inputs(StackOptions()), read_inputs(StackOptions())

    assert one.config is None
    assert one.models == MODELS
    assert one.has_playground
    assert one.workers == 2
    assert one.token_secret
    assert one.token_secret != other.token_secret


def test_with_a_configuration_its_models_are_served(config: Path) -> None:
    """Each group is named once, and the page is off unless it is asked for."""
    inputs = read_inputs(StackOptions(config=config))

    assert inputs.config == config
    assert inputs.models == ("voice", "other")
    assert not inputs.has_playground
    assert read_inputs(StackOptions(config=config, playground=True)).has_playground


@pytest.mark.parametrize(
    ("environ", "secret"),
    [
        pytest.param({}, "sk-master-key-of-the-file", id="master-key-of-the-file"),
        pytest.param(
            {"LITELLM_MASTER_KEY": "sk-master-key-of-the-environment"},
            "sk-master-key-of-the-environment",
            id="master-key-of-the-environment",
        ),
        pytest.param(
            {"LITELLM_MASTER_KEY": "sk-master-key", "LITELLM_SALT_KEY": "sk-salt-key-long-enough"},
            "sk-salt-key-long-enough",
            id="salt-key",
        ),
    ],
)
def test_tokens_are_sealed_as_extauthz_would(
    config: Path, environ: dict[str, str], secret: str
) -> None:
    """Both services get the secret that LiteLLM's own order gives."""
    inputs = read_inputs(StackOptions(config=config, environ=environ))

    assert inputs.token_secret == Secret(secret)


def test_sealing_keys_of_the_settings_stay(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the settings reaches the services by itself."""
    monkeypatch.setenv("RINGBACK_TOKEN__SECRET", "a secret of the settings")

    assert read_inputs(StackOptions(config=config)).token_secret is None
    assert read_inputs(StackOptions()).token_secret is None


def test_policies_are_checked_before_anything_starts(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that sdpfilter would end for is found here."""
    monkeypatch.setenv("RINGBACK_SDP__DEFAULT", "kisok")

    with pytest.raises(PoliciesError):
        read_inputs(StackOptions(config=config))


def test_calls_at_the_emulator_are_supervised(config: Path, tmp_path: Path) -> None:
    """Unless the settings say something else; those at providers only if the settings say so."""
    settings = tmp_path / "ringback.yaml"
    for written, options, mode in (
        ("{}", StackOptions(settings=settings), "best_effort"),
        ("supervision: {mode: off}", StackOptions(settings=settings), "off"),
        ("supervision: {mode: required}", StackOptions(settings=settings), "required"),
        ("{}", StackOptions(settings=settings, config=config), "off"),
    ):
        settings.write_text(written)
        assert read_inputs(options).settings.supervision.mode == mode


def test_settings_name_files_too(config: Path, tmp_path: Path) -> None:
    """Files that no option names are those of the settings."""
    keys, settings = tmp_path / "keys.yaml", tmp_path / "ringback.yaml"
    keys.write_text("keys: []\n")
    settings.write_text(f"config_file: {config}\nkeys_file: {keys}\nworkers: 3\nplayground: true\n")

    inputs = read_inputs(StackOptions(settings=settings))

    assert (inputs.config, inputs.keys, inputs.workers) == (config, keys, 3)
    assert inputs.has_playground
    assert read_inputs(StackOptions(settings=settings, workers=1)).workers == 1
    assert not read_inputs(StackOptions(settings=settings, playground=False)).has_playground


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        pytest.param("settings", "worker: 3\n", SettingsError, id="unknown-setting"),
        pytest.param("config", "model_list: []\n", ConfigError, id="empty-configuration"),
        pytest.param("keys", "keys: [{alias: a}]\n", ConfigError, id="key-without-hash"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_start_error(
    tmp_path: Path, file: str, content: str, error: type[StartError]
) -> None:
    """Whichever file is wrong, nothing is started."""
    path = tmp_path / "file.yaml"
    path.write_text(content)
    options = {
        "settings": StackOptions(settings=path),
        "config": StackOptions(config=path),
        "keys": StackOptions(keys=path),
    }

    with pytest.raises(error):
        read_inputs(options[file])


def test_a_weak_secret_is_a_start_error(config: Path) -> None:
    """What the services would refuse is refused before they start."""
    with pytest.raises(StartError, match="LITELLM_SALT_KEY"):
        read_inputs(StackOptions(config=config, environ={"LITELLM_SALT_KEY": "short"}))


def test_a_missing_emulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there is a message instead of an import error of a child."""
    monkeypatch.setattr("ringback.cli.demo.find_spec", lambda _name: None)

    with pytest.raises(MissingEmulatorError, match=r"pip install 'ringback\[emulator\]'"):
        read_inputs(StackOptions())


def test_certificates_are_those_of_the_settings(tmp_path: Path) -> None:
    """A file that the settings name is taken as it is."""
    own = UpstreamSettings(ca_file=tmp_path / "own.pem")

    assert plan.find_ca_file(own) == tmp_path / "own.pem"


def test_certificates_are_found_where_the_default_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the usual place has none, OpenSSL knows another one, and certifi the last."""
    default = UpstreamSettings().ca_file
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != default and exists(path))
    found = ssl.DefaultVerifyPaths(str(tmp_path / "ca.pem"), "", "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)

    assert plan.find_ca_file(UpstreamSettings()) == tmp_path / "ca.pem"
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found._replace(cafile=""))
    assert plan.find_ca_file(UpstreamSettings()).name == "cacert.pem"


def test_no_secret_shows_in_a_representation(config: Path) -> None:
    """What was read shows no secret in a traceback."""
    inputs: Inputs = read_inputs(StackOptions(config=config))

    assert "sk-" not in repr(inputs)
    assert isinstance(inputs.settings, Settings)
