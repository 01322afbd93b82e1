"""The resources that istiod knows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

Json = dict[str, Any]

CLUSTER_DOMAIN: Final = "cluster.local"


class UntranslatedError(Exception):
    """A resource says what is not known here, so that nothing would be passed over."""


def known(part: Mapping[str, Any], *names: str) -> Json:
    """Return a part of a resource that has no other fields than these.

    Raises:
        UntranslatedError: If it has.
    """
    if unknown := part.keys() - set(names):
        raise UntranslatedError(f"{sorted(unknown)} in {dict(part)}")
    return dict(part)


@dataclass(frozen=True, slots=True)
class Registry:
    """Manifests by kind and name, and the mesh's own configuration."""

    resources: dict[tuple[str, str], Json]
    mesh: Json

    @classmethod
    def of(cls, manifests: Iterable[Json]) -> Self:
        """Sort manifests; the one without a kind is the snippet for MeshConfig."""
        resources: dict[tuple[str, str], Json] = {}
        mesh: Json = {}
        for manifest in manifests:
            if "kind" in manifest:
                key = manifest["kind"], manifest["metadata"]["name"]
                assert key not in resources, key
                resources[key] = manifest
            else:
                mesh = known(manifest, "meshConfig")["meshConfig"]
        return cls(resources, known(mesh, "extensionProviders"))

    def spec(self, kind: str, name: str) -> Json:
        """Return the specification of a resource."""
        spec: Json = self.resources[kind, name]["spec"]
        return spec

    def specs(self, kind: str) -> Iterator[Json]:
        """Give the specifications of all resources of a kind."""
        for (kind_of_it, _), manifest in self.resources.items():
            if kind_of_it == kind:
                yield manifest["spec"]

    def named(self, kind: str, name: str) -> str:
        """Return ``namespace/name`` of a resource."""
        return f"{self.resources[kind, name]['metadata']['namespace']}/{name}"

    def traffic_policy(self, host: str, port: int) -> Json:
        """Return what a DestinationRule says of a port of a host; nothing if there is none."""
        for rule in self.specs("DestinationRule"):
            if rule["host"] == host:
                known(rule, "host", "exportTo", "trafficPolicy")
                policy = known(rule["trafficPolicy"], "portLevelSettings")
                for of_port in policy["portLevelSettings"]:
                    if of_port["port"]["number"] == port:
                        return {name: of_port[name] for name in of_port if name != "port"}
        return {}

    def provider(self, name: str) -> Json:
        """Return an extension provider that asks over gRPC."""
        (found,) = [p for p in self.mesh["extensionProviders"] if p["name"] == name]
        provider: Json = known(found, "name", "envoyExtAuthzGrpc")["envoyExtAuthzGrpc"]
        return provider
