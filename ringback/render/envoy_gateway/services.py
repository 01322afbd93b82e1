"""The services beside the Gateway, and the certificates between them and its Envoy."""

import json
from collections.abc import Sequence
from typing import Any, Final

from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER
from ringback.render.apart import (
    ASKED_BY,
    SERVICES,
    apart_documents,
    container_of,
    name_of,
    services_of,
    template_of,
)
from ringback.render.documents import Document, line, load_template, resource
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs
from ringback.render.supervision import is_supervised

_TLS_FOLDER: Final = "/etc/ringback/tls"
_TLS_FILES: Final = {
    "CERTIFICATE_FILE": f"{_TLS_FOLDER}/tls.crt",
    "KEY_FILE": f"{_TLS_FOLDER}/tls.key",
    "CLIENT_CA_FILE": f"{_TLS_FOLDER}/ca.crt",
}
_CA_FOLDER: Final = "/etc/ringback/upstream"
_GATEWAY: Final = "gateway.envoyproxy.io/owning-gateway-"


def service_documents(inputs: Inputs, values: EnvoyGatewayValues) -> list[Document]:
    """Return the manifests of the services.

    Raises:
        StartError: If the configuration cannot be in these manifests.
    """
    # No sidecar would take what the services send themselves.
    documents = apart_documents(inputs, values, _envoy_of(values), egress="direct")
    services = services_of(inputs)
    if values.upstream_ca:
        for service in {AUTHZ_CLUSTER, CALLKEEPER} & {*services}:
            _give_authorities(service, documents, values.upstream_ca)
    if values.plaintext:
        for service in services:
            (port,) = resource(documents, "Service", name_of(service))["spec"]["ports"]
            port["appProtocol"] = "kubernetes.io/h2c"
            environ = container_of(service, documents)["env"]
            environ.append(line(name="RINGBACK_SERVICES__PLAINTEXT", value="true"))
        return documents
    certified = load_template("envoy-gateway", "certificates.yaml")
    for service in services:
        peers = ["ringback-gateway"] if service in SERVICES else []
        if is_supervised(inputs):
            peers += [name_of(asker) for asker in ASKED_BY.get(service, ())]
        _give_certificate(service, peers, values, documents)
    for service in SERVICES:
        _adapt_certificate(service, values, certified)
    return [*documents, *certified]


def _envoy_of(values: EnvoyGatewayValues) -> Any:
    """Return the Envoy of the Gateway, as NetworkPolicies have it."""
    namespace = {"kubernetes.io/metadata.name": values.envoy_namespace}
    gateway = {f"{_GATEWAY}name": "ringback", f"{_GATEWAY}namespace": values.namespace}
    return {
        "namespaceSelector": {"matchLabels": line(**namespace)},
        "podSelector": {"matchLabels": gateway},
    }


def _give_certificate(
    service: str, accounts: Sequence[str], values: EnvoyGatewayValues, documents: list[Document]
) -> None:
    """Let a service show its certificate and believe the SPIFFE ids of those who ask it."""
    pod, container = template_of(service, documents)["spec"], container_of(service, documents)
    secret = {"secretName": f"{name_of(service)}-tls", "defaultMode": 0o440}
    pod["volumes"].append(line(name="tls", secret=secret))
    container["volumeMounts"].append(line(name="tls", mountPath=_TLS_FOLDER, readOnly=True))
    peers = json.dumps([_spiffe_id(account, values) for account in accounts])
    for key, value in {**_TLS_FILES, "ALLOWED_PEERS": peers}.items():
        container["env"].append(line(name=f"RINGBACK_SERVICES__TLS__{key}", value=value))


def _adapt_certificate(service: str, values: EnvoyGatewayValues, documents: list[Document]) -> None:
    """Let Envoy show its certificate and believe the service's SPIFFE id."""
    host = f"{name_of(service)}.{values.namespace}.svc.{values.cluster_domain}"
    backend = resource(documents, "Backend", name_of(service))["spec"]
    (endpoint,) = backend["endpoints"]
    endpoint["fqdn"]["hostname"] = host
    backend["tls"]["clientCertificateRef"]["namespace"] = values.namespace
    validation = resource(documents, "BackendTLSPolicy", name_of(service))["spec"]["validation"]
    validation["hostname"] = host
    (name,) = validation["subjectAltNames"]
    name["uri"] = _spiffe_id(name_of(service), values)


def _spiffe_id(account: str, values: EnvoyGatewayValues) -> str:
    return f"spiffe://{values.trust_domain}/ns/{values.namespace}/sa/{account}"


def _give_authorities(service: str, documents: list[Document], config_map: str) -> None:
    """Let a service believe upstreams for whom a ConfigMap vouches."""
    pod = template_of(service, documents)["spec"]
    container = container_of(service, documents)
    pod["volumes"].append(line(name="upstream", configMap={"name": config_map}))
    container["volumeMounts"].append(line(name="upstream", mountPath=_CA_FOLDER, readOnly=True))
    container["env"].append(line(name="RINGBACK_UPSTREAM__CA_FILE", value=f"{_CA_FOLDER}/ca.crt"))
