"""Our services in the mesh: where they are, who may ask them, and how much at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from ringback.contract import (
    AUTHZ_CALLS_CLUSTER,
    AUTHZ_CLUSTER,
    AUTHZ_MINTS_CLUSTER,
    CALLKEEPER,
    PROC_CLUSTER,
)
from ringback.envoylint.parts import named
from ringback.render.apart import (
    ASKED_BY,
    SERVICES,
    ApartValues,
    apart_documents,
    container_of,
    name_of,
    services_of,
    template_of,
)
from ringback.render.documents import (
    Document,
    copy_of,
    line,
    load_template,
    load_text,
    resource,
)
from ringback.render.inputs import Inputs
from ringback.render.istio.upstreams import Egress
from ringback.render.pods import flow
from ringback.render.supervision import is_supervised

Json = dict[str, Any]

# By the clusters of envoy.yaml: service, port and its name. Envoy counts by cluster, and istiod
# makes one of each port.
_PORTS: Final[Mapping[str, tuple[str, int, str]]] = MappingProxyType(
    {
        AUTHZ_CLUSTER: (AUTHZ_CLUSTER, 9001, "grpc"),
        AUTHZ_MINTS_CLUSTER: (AUTHZ_CLUSTER, 9003, "grpc-mints"),
        AUTHZ_CALLS_CLUSTER: (AUTHZ_CLUSTER, 9005, "grpc-calls"),
        PROC_CLUSTER: (PROC_CLUSTER, 9002, "grpc"),
    }
)
_GATEWAY: Final = "{podSelector: {matchLabels: {app.kubernetes.io/name: ringback-gateway}}}"
_TO_ISTIOD: Final = """\
to:  # the sidecar's configuration and certificate
- namespaceSelector:
    matchLabels: {kubernetes.io/metadata.name: istio-system}
ports:
- {port: 15012}
"""
_KEEPER_METRICS: Final = "9467"
_INJECT: Final = "sidecar.istio.io/inject"
PROXY_CONFIG: Final = "proxy.istio.io/config"
# The sidecar is there first, and ends last.
_PROXY: Final = """\
holdApplicationUntilProxyStarts: true
terminationDrainDuration: 25s
"""


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
        cluster: Place(f"{name_of(service)}.{namespace}.svc.{domain}", port)
        for cluster, (service, port, _) in _PORTS.items()
    }


def service_documents(
    inputs: Inputs, values: ApartValues, egress: Egress, istio_namespace: str
) -> list[Document]:
    """Return Deployments of the services with a sidecar each, and what belongs to them.

    Args:
        inputs: The configuration.
        values: What was set.
        egress: Who does TLS for extauthz.
        istio_namespace: Where istiod is.

    Raises:
        StartError: If the configuration cannot be in these manifests.
    """
    documents = apart_documents(inputs, values, flow(_GATEWAY), egress=egress)
    for service in services_of(inputs):
        _give_sidecar(service, documents)
        _let_to_istiod(service, documents, istio_namespace)
    _open_ports(documents)
    if is_supervised(inputs):
        # The sidecars of those who ask it are told the pods by istiod.
        del resource(documents, "Service", name_of(CALLKEEPER))["spec"]["clusterIP"]
    return documents


def mesh_documents(
    bootstrap: Json,
    found: Mapping[str, Place],
    egress: Egress,
    namespace: str,
    *,
    has_callkeeper: bool = False,
) -> list[Document]:
    """Return who the services are in the mesh, who may ask them, and how.

    Args:
        bootstrap: envoy.yaml as the settings want it.
        found: From `places`.
        egress: Who does TLS for extauthz.
        namespace: Theirs, and the gateway's.
        has_callkeeper: Whether there is callkeeper, too.
    """
    documents = load_template("istio", "mesh.yaml")
    _limit(bootstrap, found, documents)
    asking, scraping = resource(documents, "AuthorizationPolicy")["spec"]["rules"]
    (peer,) = asking["from"]
    peer["source"]["principals"] = flow(f"[{_account('ringback-gateway', namespace)}]")
    if has_callkeeper:
        documents += load_template("istio", "callkeeper.yaml")
        _let_in_askers(documents, namespace)
        scraping["to"][0]["operation"]["ports"].append(_KEEPER_METRICS)
    if egress == "direct":
        documents.remove(resource(documents, "Sidecar"))
    return documents


def _let_in_askers(documents: Sequence[Document], namespace: str) -> None:
    """Let services be asked by each other, and the metrics of callkeeper be read."""
    ports = resource(documents, "PeerAuthentication")["spec"]["portLevelMtls"]
    ports[DoubleQuotedScalarString(_KEEPER_METRICS)] = flow("{mode: PERMISSIVE}")
    rules = resource(documents, "AuthorizationPolicy")["spec"]["rules"]
    for asked, port in ((AUTHZ_CLUSTER, 9001), (CALLKEEPER, 9003)):
        accounts = ", ".join(_account(name_of(asker), namespace) for asker in ASKED_BY[asked])
        rules.append(
            load_text(
                f"from:\n- source: {{principals: [{accounts}]}}\n"
                f'to:\n- operation: {{ports: ["{port}"]}}\n'
            )
        )


def _account(name: str, namespace: str) -> str:
    return f"cluster.local/ns/{namespace}/sa/{name}"


def _give_sidecar(service: str, documents: Sequence[Document]) -> None:
    template = template_of(service, documents)
    template["metadata"]["labels"][_INJECT] = "true"
    template["metadata"]["annotations"][PROXY_CONFIG] = LiteralScalarString(_PROXY)
    template["spec"]["serviceAccountName"] = name_of(service)
    environ = container_of(service, documents)["env"]
    # The sidecar asks for the certificate.
    environ.append(line(name="RINGBACK_SERVICES__PLAINTEXT", value="true"))


def _let_to_istiod(service: str, documents: Sequence[Document], namespace: str) -> None:
    names = resource(documents, "NetworkPolicy", name_of(AUTHZ_CLUSTER))["spec"]["egress"][0]
    spec = resource(documents, "NetworkPolicy", name_of(service))["spec"]
    _, *others = spec.get("egress", [names])
    istiod = load_text(_TO_ISTIOD)
    (peer,) = istiod["to"]
    peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = namespace
    spec["egress"] = [copy_of(names), istiod, *others]


def _open_ports(documents: Sequence[Document]) -> None:
    for service in SERVICES:
        spec = resource(documents, "Service", name_of(service))["spec"]
        # The gateway is told the pods by istiod.
        del spec["clusterIP"]
        spec["ports"] = [
            line(name=name, port=port, targetPort="grpc")
            for of_service, port, name in _PORTS.values()
            if of_service == service
        ]


def _limit(bootstrap: Json, found: Mapping[str, Place], documents: Sequence[Document]) -> None:
    for cluster, place in found.items():
        service, port, _ = _PORTS[cluster]
        own = named(bootstrap["static_resources"]["clusters"], cluster)
        (limits,) = own["circuit_breakers"]["thresholds"]
        spec = resource(documents, "DestinationRule", name_of(service))["spec"]
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
