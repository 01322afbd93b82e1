"""Manifests by kind and name, and which policies hold for a route."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

_UNITS: Final = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class UntranslatedError(Exception):
    """A field that this translation does not know."""


def known(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return an object, of which all fields are among these.

    Raises:
        UntranslatedError: If it has another.
    """
    if others := set(value) - set(names):
        raise UntranslatedError(f"{sorted(others)} beside {names}")
    return value


def size_of(quantity: str | int) -> int:
    """Return a quantity of Kubernetes, ``64Ki``, in bytes."""
    text = str(quantity)
    digits = text.rstrip("KMGi")
    return int(digits) * _UNITS[text[len(digits) :]]


@dataclass(frozen=True, slots=True)
class Resources:
    """What was applied, and what else a cluster knows.

    Attributes:
        documents: Manifests as plain data.
        services: Addresses by the name of a Service: ``host:port`` or ``unix:/path``.
        config_maps: Text of the one key by the name of a ConfigMap.
        secrets: Of a Secret with a certificate, the text of each key, by its name.
    """

    documents: Sequence[Json]
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config_maps: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def all(self, kind: str) -> Iterable[Json]:
        """Give the manifests of a kind."""
        return (document for document in self.documents if document["kind"] == kind)

    def get(self, kind: str, name: str) -> Json:
        """Return the one manifest of a kind with a name."""
        (found,) = [one for one in self.all(kind) if one["metadata"]["name"] == name]
        return found

    def only(self, kind: str) -> Json:
        """Return the one manifest of a kind."""
        (found,) = self.all(kind)
        return found

    def policy(self, kind: str, route: Json, rule: Json) -> Json | None:
        """Return the policy that holds for the rule of a route.

        The nearest one holds whole: of the rule, else of the route, else of the Gateway.
        """
        name = route["metadata"]["name"]
        gateway = self.only("Gateway")["metadata"]["name"]
        for target in (
            ("HTTPRoute", name, rule.get("name", "")),
            ("HTTPRoute", name, ""),
            ("Gateway", gateway, ""),
        ):
            for policy in self.all(kind):
                if target in _targets(policy):
                    return policy
        return None


def name_of(resource: Json) -> str:
    """Return the name that things made from a resource have: ``kind/namespace/name``."""
    metadata = resource["metadata"]
    return f"{resource['kind'].lower()}/{metadata['namespace']}/{metadata['name']}"


def header_options(headers: Iterable[Mapping[str, str]]) -> list[Json]:
    """Return headers to be set."""
    return [
        {
            "header": {"key": header["name"], "value": header["value"]},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for header in headers
    ]


def _targets(policy: Json) -> list[tuple[str, str, str]]:
    return [
        (target["kind"], target["name"], target.get("sectionName", ""))
        for target in policy["spec"]["targetRefs"]
    ]
