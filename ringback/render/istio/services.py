"""Where our services are in the mesh, and how much of them Envoy asks at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ringback.contract import (
    AUTHZ_CALLS_CLUSTER,
    AUTHZ_CLUSTER,
    AUTHZ_MINTS_CLUSTER,
    PROC_CLUSTER,
)
from ringback.envoylint.parts import named
from ringback.render.documents import Document, load_template, resource

Json = dict[str, Any]

AUTHZ_SERVICE: Final = "ringback-extauthz"
PROC_SERVICE: Final = "ringback-sdpfilter"
# By the clusters of envoy.yaml. Envoy counts by cluster, and istiod makes one of each port.
_PORTS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        AUTHZ_CLUSTER: (AUTHZ_SERVICE, 9001),
        AUTHZ_MINTS_CLUSTER: (AUTHZ_SERVICE, 9003),
        AUTHZ_CALLS_CLUSTER: (AUTHZ_SERVICE, 9005),
        PROC_CLUSTER: (PROC_SERVICE, 9002),
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """One port of a Service of ours.

    Attributes:
        host: The full name of the Service.
        port: The port.
    """

    host: str
    port: int

    @property
    def cluster(self) -> str:
        """The name of the cluster that istiod makes of it."""
        return f"outbound|{self.port}||{self.host}"


def places(namespace: str, domain: str) -> dict[str, Place]:
    """Return where the services are, by the clusters of envoy.yaml.

    Args:
        namespace: Theirs.
        domain: Of the cluster's Services.
    """
    return {
        cluster: Place(f"{service}.{namespace}.svc.{domain}", port)
        for cluster, (service, port) in _PORTS.items()
    }


def traffic_rules(bootstrap: Json, found: Mapping[str, Place]) -> list[Document]:
    """Return a DestinationRule for each service, with the limits of envoy.yaml's clusters.

    Args:
        bootstrap: envoy.yaml as the settings want it.
        found: From `places`.
    """
    documents = load_template("istio", "services.yaml")
    for cluster, place in found.items():
        service, port = _PORTS[cluster]
        own = named(bootstrap["static_resources"]["clusters"], cluster)
        (limits,) = own["circuit_breakers"]["thresholds"]
        spec = resource(documents, "DestinationRule", service)["spec"]
        spec["host"] = place.host
        (policy,) = [
            policy
            for policy in spec["trafficPolicy"]["portLevelSettings"]
            if policy["port"]["number"] == port
        ]
        http = policy["connectionPool"]["http"]
        http["http2MaxRequests"] = limits["max_requests"]
        http["http1MaxPendingRequests"] = limits["max_pending_requests"]
        http["maxRetries"] = limits["max_retries"]
    return documents
