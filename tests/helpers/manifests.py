"""Manifests held to the schemas of their kinds, as strictly as an API server would be, and more.

An API server drops a field that it does not know; here it is a mistake. What only an API server can
tell, rules in CEL and references to what must exist, is not looked at.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import SchemaNotFoundError, ValidationError, validate

Manifest = dict[str, Any]

# The newest whose schemas come with kubernetes-validate.
KUBERNETES: Final = "1.37"
CRDS: Final = Path(__file__).parents[1] / "data" / "crds"
# Kinds that are part of no API of a cluster: what a client reads.
_CLIENT_SIDE: Final = frozenset({"Kustomization", "Component"})


def read_manifests(text: str) -> list[Manifest]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def mistakes(documents: Iterable[Manifest]) -> list[str]:
    """Return what is wrong with manifests: kind, name, place and reason in a line each."""
    return [
        f"{document.get('kind')} {document.get('metadata', {}).get('name')}: {problem}"
        for document in documents
        for problem in _problems(document)
    ]


def _problems(document: Manifest) -> Iterator[str]:
    version, kind = document.get("apiVersion", ""), document.get("kind", "")
    if kind in _CLIENT_SIDE:
        return
    if schema := _crds().get((version, kind)):
        for error in Draft202012Validator(schema).iter_errors(document):
            yield f"{error.json_path}: {error.message}"
        return
    try:
        validate(document, KUBERNETES, strict=True)
    except (ValidationError, SchemaNotFoundError) as error:
        yield str(error)


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
