"""The pages in ``docs/mesh``: what can be copied from them works."""

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
import yaml
from typer.testing import CliRunner

from helpers.envoyproc import validate
from helpers.manifests import build, mistakes
from ringback.cli import app
from ringback.render.istio import IstioValues
from ringback.render.kubernetes import KubernetesValues
from ringback.render.values import Values

ROOT: Final = Path(__file__).parents[2]
MESH: Final = ROOT / "docs" / "mesh"
# Kinds of meshes whose schemas are not at hand.
FOREIGN: Final = ("cert-manager.io/", "consul.hashicorp.com/", "gateway.kgateway.dev/", "kuma.io/")
_BLOCK: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    """Return the fenced blocks of a kind."""
    found = _BLOCK.findall(page.read_text())
    return [textwrap.dedent(text) for _, name, text in found if name == kind]


def snippets(kind: str) -> list[Any]:
    """Return all blocks of a kind as cases."""
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in sorted(MESH.glob("*.md"))
        for number, text in enumerate(blocks(page, kind))
    ]


@pytest.mark.parametrize("text", snippets("yaml"))
def test_yaml_is_what_it_says(text: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Manifests fit their schemas where those are at hand; Envoy takes what is meant for it."""
    if text.startswith("# Envoy: "):
        check_envoy(text, tmp_path)
        return
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        assert document["kind"]
        assert document["metadata"]["name"]
        # Patches of overlays are no whole Deployments.
        is_patch = document["kind"] == "Deployment" and "selector" not in document["spec"]
        if not is_patch and not document["apiVersion"].startswith(FOREIGN):
            assert mistakes([document], pytestconfig.cache) == []
        for filters in find_values(document):
            check_filter(filters, tmp_path)


def find_values(value: Any) -> list[str]:
    """Return what a MeshProxyPatch would add as an HTTP filter."""
    if isinstance(value, dict):
        own = [value["httpFilter"]["value"]] if "httpFilter" in value else []
        return own + [found for item in value.values() for found in find_values(item)]
    if isinstance(value, list):
        return [found for item in value for found in find_values(item)]
    return []


def check_envoy(text: str, folder: Path) -> None:
    """Let Envoy validate a part of a bootstrap, at the place that its first line names."""
    certificate = trustme.CA().issue_cert("voice.example.com")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "voice.crt"))
    certificate.private_key_pem.write_to_path(str(folder / "voice.key"))
    first, _, rest = text.partition("\n")
    _, kind = first.removeprefix("# Envoy: ").split(".")
    parts = yaml.safe_load(rest.replace("/etc/envoy", str(folder)))
    check_bootstrap({"static_resources": {kind: parts}}, folder)


def check_filter(text: str, folder: Path) -> None:
    """Let Envoy validate an HTTP filter before the router."""
    url = "type.googleapis.com/envoy.extensions.filters"
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{url}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{url}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"name": "test"},
        "http_filters": [yaml.safe_load(text), router],
    }
    listener = {
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    check_bootstrap({"static_resources": {"listeners": [listener]}}, folder)


def check_bootstrap(bootstrap: dict[str, Any], folder: Path) -> None:
    """Let Envoy validate a bootstrap."""
    file = folder / "envoy.json"
    file.write_text(json.dumps(bootstrap))
    said = validate(file)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("text", snippets("json"))
def test_json_is_json(text: str) -> None:
    """It parses, and is an object."""
    assert isinstance(json.loads(text), dict)


def commands(page: Path) -> list[list[str]]:
    """Return the commands in a page's blocks without a language, one list of words each."""
    text = "\n".join(blocks(page, "")).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and line[0] not in "${ "]


def test_the_page_of_kubernetes_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """What it has one render builds wherever it has one apply, and is valid there.

    A cluster is what a test has not: ``kubectl`` lines are held to files and names alone.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("litellm.yaml", "ringback.yaml"):
        (tmp_path / name).write_text((ROOT / "deploy/examples" / name).read_text())
    built: dict[str, list[Any]] = {}
    for words in commands(MESH / "kubernetes.md"):
        if words[0] == "ringback":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, result.output
        if "-k" in words:
            folder = words[words.index("-k") + 1]
            built[folder] = build(tmp_path / folder, pytestconfig.cache)
            assert mistakes(built[folder], pytestconfig.cache) == []
        for kind, name in (
            word.split("/") for word in words if re.fullmatch(r"[a-z]+/[a-z-]+", word)
        ):
            if kind in {"job", "deployment", "service"}:
                (documents,) = built.values()
                names = {(d["kind"].lower(), d["metadata"]["name"]) for d in documents}
                assert (kind, name) in names
    assert built


def test_the_page_of_an_existing_envoy_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is rendered is sound as it is, for Ringback and for Envoy."""
    monkeypatch.chdir(tmp_path)
    for name in ("litellm.yaml", "ringback.yaml"):
        (tmp_path / name).write_text((ROOT / "deploy/examples" / name).read_text())
    lines = [line for line in commands(MESH / "existing-envoy.md") if line[0] == "ringback"]

    assert [line[1] for line in lines] == ["render", "check"]
    for line in lines:
        result = CliRunner().invoke(app, line[1:])
        assert result.exit_code == 0, result.output
        if line[1] == "render":
            (tmp_path / "ringback-envoy.yaml").rename("your-envoy.yaml")
    said = validate(tmp_path / "your-envoy.yaml")
    assert said.returncode == 0, said.stderr


def test_the_page_of_istio_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has one render is there where it has one apply, ask and delete."""
    monkeypatch.chdir(tmp_path)
    for name in ("litellm.yaml", "ringback.yaml"):
        (tmp_path / name).write_text((ROOT / "deploy/examples" / name).read_text())
    lines = commands(MESH / "istio.md")
    (render,) = [words for words in lines if words[:2] == ["ringback", "render"]]
    result = CliRunner().invoke(app, render[1:])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "deploy" / "istio"
    documents = [d for file in folder.glob("*.yaml") for d in yaml.safe_load_all(file.read_text())]
    names = {(d["kind"].lower(), d["metadata"]["name"]) for d in documents}

    paths = re.findall(r"deploy/istio[\w./-]*", (MESH / "istio.md").read_text())
    deployments = [re.findall(r"^deployment/([a-z-]+)$", word) for line in lines for word in line]

    assert {"deploy/istio/gateway.yaml", "deploy/istio"} <= set(paths)
    for path in paths:
        assert (tmp_path / path.rstrip(".")).exists(), path
    for name in (name for found in deployments for name in found):
        assert ("deployment", name) in names
    for file in (file.relative_to(folder) for file in folder.rglob("*.yaml")):
        assert f"| `{file}` |" in (MESH / "istio.md").read_text()


@pytest.mark.parametrize(
    ("page", "values"), [("kubernetes", KubernetesValues), ("istio", IstioValues)]
)
def test_the_page_lists_all_values(page: str, values: type[Values]) -> None:
    """Each value that can be set has its row, with its default."""
    text = (MESH / f"{page}.md").read_text()
    text = text[text.index("`--set NAME=VALUE`, several times") :]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\|", text, re.MULTILINE)
    defaults = {name: _shown(field.default) for name, field in values.model_fields.items()}
    assert dict(rows) == defaults


def _shown(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)
