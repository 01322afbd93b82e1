import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from ringback.cli import app
from ringback.envoylint import lint_text
from ringback.paths import envoy_dir, find_envoy
from ringback.render.bootstrap import read_bootstrap
from ringback.settings.origins import origin_regex

CONFIG = """
model_list:
- model_name: voice
  litellm_params: {model: openai/gpt-realtime, api_key: sk-made-up}
- model_name: voice
  litellm_params: {model: openai/gpt-realtime-mini, api_key: sk-made-up}
- model_name: west
  litellm_params:
    model: azure/voice
    api_base: https://west.openai.azure.com
    api_key: made-up
general_settings: {master_key: sk-master-key-of-the-file}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with two upstream origins."""
    path = tmp_path / "litellm.yaml"
    path.write_text(CONFIG)
    return path


def render(*arguments: str | Path) -> str:
    """Return what the command prints."""
    result = CliRunner().invoke(app, ["render", "envoy", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def clusters(text: str) -> list[str]:
    """Return the names of the static clusters of a bootstrap."""
    return [part["name"] for part in yaml.safe_load(text)["static_resources"]["clusters"]]


def test_without_a_configuration_envoy_asks_extauthz() -> None:
    """The bootstrap is that of envoy/envoy.yaml, in which clusters are dynamic."""
    text = render()

    bootstrap: dict[str, Any] = yaml.safe_load(text)
    original = read_bootstrap(envoy_dir() / "envoy.yaml")
    assert bootstrap["dynamic_resources"] == original["dynamic_resources"]
    assert bootstrap["static_resources"]["clusters"] == original["static_resources"]["clusters"]
    assert "The upstreams come from extauthz (CDS)." in text


def test_with_a_configuration_the_upstreams_are_static(config: Path) -> None:
    """Each upstream origin is a cluster beside those of the services, and nothing is dynamic."""
    text = render("--config", config)

    assert "dynamic_resources" not in yaml.safe_load(text)
    assert clusters(text)[-2:] == [
        "upstream_https_api_openai_com_443",
        "upstream_https_west_openai_azure_com_443",
    ]
    assert "sk-made-up" not in text


def test_settings_are_applied(tmp_path: Path) -> None:
    """Origins and the switch of the page are those of the settings."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text('cors_origins: ["https://*.example.com"]\nplayground: true\n')

    text = render("--settings", settings)

    assert origin_regex("https://*.example.com") in text
    assert str(envoy_dir() / "playground.html") in text
    assert "localhost" not in text


def test_services_are_static_too(config: Path, tmp_path: Path) -> None:
    """Whatever else the services ask through Envoy has its cluster."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text("litellm: {url: 'http://litellm.internal:4100', admin_key: sk-made-up}")
    names = clusters(render("--config", config, "--settings", settings))
    assert "upstream_http_litellm_internal_4100" in names
    assert "upstream_https_api_openai_com_443" in names


def test_secrets_need_not_be_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap is written where the variables of the services are not set."""
    monkeypatch.delenv("VOICE_KEY", raising=False)
    config, settings = tmp_path / "litellm.yaml", tmp_path / "ringback.yaml"
    config.write_text(CONFIG.replace("sk-made-up", "os.environ/VOICE_KEY"))
    settings.write_text("litellm: {url: 'https://litellm.example.com'}")

    names = clusters(render("--config", config, "--settings", settings))

    assert names[-3:] == [
        "upstream_https_api_openai_com_443",
        "upstream_https_litellm_example_com_443",
        "upstream_https_west_openai_azure_com_443",
    ]


def test_the_same_input_gives_the_same_text(config: Path) -> None:
    """No time, no random name: the file can be compared with the one before."""
    assert render("--config", config) == render("--config", config)


def test_the_text_says_where_it_is_from() -> None:
    """Whoever finds the file knows what wrote it, for which Envoy, and not to edit it."""
    assert render().startswith(
        "# Written by `ringback render envoy`, for Envoy 1.40.0. Do not edit: change\n"
    )


def test_anchors_are_written_out(config: Path) -> None:
    """Parts that envoy.yaml shares by anchors are complete in each place."""
    text = render("--config", config)

    assert "&id" not in text
    assert "*id" not in text


@pytest.mark.dataplane
@pytest.mark.parametrize("is_static", [False, True], ids=["dynamic", "static"])
def test_envoy_accepts_the_file(config: Path, tmp_path: Path, is_static: bool) -> None:
    """Envoy validates what was written, from any folder, and nothing fails open in it."""
    settings, output = tmp_path / "ringback.yaml", tmp_path / "envoy.yaml"
    settings.write_text('cors_origins: ["https://*.example.com:*"]\nplayground: true\n')
    arguments: list[str | Path] = ["--config", config] if is_static else []

    assert render(*arguments, "--settings", settings, "--output", output) == ""
    assert lint_text(output.read_text()) == []

    command: list[str | Path] = [
        find_envoy(),
        "--mode",
        "validate",
        "-c",
        output,
        "--log-level",
        "error",
    ]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert f"configuration '{output}' OK" in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["--config", "missing.yaml"], 2, "missing.yaml", id="configuration"),
        pytest.param(["--settings", "missing.yaml"], 2, "missing.yaml", id="settings"),
        pytest.param(["--output", "no/such/file.yaml"], 1, "no/such/file.yaml", id="output"),
        pytest.param(["--output", "envoy.json"], 2, "ends in .yaml", id="output-not-yaml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """Wrong input is exit code 2, an output that cannot be written 1."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(app, ["render", "envoy", *arguments])

    assert result.exit_code == code
    assert message in result.stderr
