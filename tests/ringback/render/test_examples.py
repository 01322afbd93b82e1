"""The manifests in ``deploy/`` are what the command writes, and fit the schemas of their kinds."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.manifests import containers, mistakes, read_manifests
from ringback.cli import app
from ringback.render import TARGETS

DEPLOY = Path(__file__).parents[3] / "deploy"
EXAMPLES = DEPLOY / "examples"


def render(target: str, *arguments: str | Path) -> str:
    """Return what the command prints for the examples."""
    files = ("--config", EXAMPLES / "litellm.yaml", "--settings", EXAMPLES / "ringback.yaml")
    result = CliRunner().invoke(app, ["render", target, *map(str, (*files, *arguments))])
    assert result.exit_code == 0, result.output
    return result.stdout


def read_files(folder: Path) -> dict[str, str]:
    """Return all files below a folder by their relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


@pytest.mark.parametrize("target", TARGETS)
def test_the_committed_manifests_are_what_the_command_writes(target: str, tmp_path: Path) -> None:
    """`make manifests` has been run since templates, examples or code have changed."""
    assert render(target, "--output", tmp_path) == ""

    written, committed = read_files(tmp_path), read_files(DEPLOY / target)
    assert sorted(written) == sorted(committed)
    for path, text in written.items():
        assert text == committed[path], f"deploy/{target}/{path} is old: run `make manifests`"


@pytest.mark.parametrize("target", TARGETS)
def test_the_schemas_of_the_kinds_allow_the_manifests(
    target: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """Each document fits its kind and has no field that the kind does not know."""
    # Some rendering machine may have them; they change nothing.
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-this-machine")
    text = render(target)

    documents = read_manifests(text)
    assert documents
    assert mistakes(documents, pytestconfig.cache) == []
    assert "sk-of-this-machine" not in text


def test_make_writes_every_target() -> None:
    """`make manifests` forgets none."""
    makefile = (DEPLOY.parent / "Makefile").read_text()
    (line,) = [line for line in makefile.splitlines() if line.startswith("TARGETS := ")]
    assert set(line.split()[2:]) == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_with_supervision_there_is_callkeeper(
    target: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Everywhere, in manifests that are valid; every service is told where the others are."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text("supervision: {mode: required}\n")
    files = ("--config", EXAMPLES / "litellm.yaml", "--settings", settings)

    result = CliRunner().invoke(app, ["render", target, *map(str, files)])

    assert result.exit_code == 0, result.output
    documents = read_manifests(result.stdout)
    assert mistakes(documents, pytestconfig.cache) == []
    environ = {
        container["name"]: {entry["name"] for entry in container.get("env", [])}
        for document in documents
        if document["kind"] == "Deployment"
        for container in containers(document["spec"]["template"]["spec"])
    }
    for service in ("extauthz", "sdpfilter", "callkeeper"):
        assert environ[service] >= {
            "RINGBACK_SUPERVISION__CALLKEEPER",
            "RINGBACK_SUPERVISION__EXTAUTHZ",
        }
