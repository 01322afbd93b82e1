"""extauthz and sdpfilter beside the Gateway, and the certificates between them and its Envoy."""

import json
from typing import Any, Final

from ringback.contract import AUTHZ_CLUSTER
from ringback.render.apart import (
    SERVICES,
    apart_documents,
    container_of,
    name_of,
    template_of,
)
from ringback.render.documents import Document, line, load_template, resource
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs

_TLS_FOLDER: Final = "/etc/ringback/tls"
_TLS_FILES: Final = {
    "CERTIFICATE_FILE": f"{_TLS_FOLDER}/tls.crt",
    "KEY_FILE": f"{_TLS_FOLDER}/tls.key",
    "CLIENT_CA_FILE": f"{_TLS_FOLDER}/ca.crt",
}
_CA_FOLDER: Final = "/etc/ringback/upstream"
_GATEWAY: Final = "gateway.envoyproxy.io/owning-gateway-"


def service_documents(inputs: Inputs, values: EnvoyGatewayValues) -> list[Document]:
    """Return the manifests of both services.

    Raises:
        StartError: If the configuration cannot be in these manifests.
    """
    # No sidecar would take what extauthz sends itself.
    documents = apart_documents(inputs, values, _envoy_of(values), egress="direct")
    if values.upstream_ca:
        _give_authorities(documents, values.upstream_ca)
    if values.plaintext:
        for service in SERVICES:
            (port,) = resource(documents, "Service", name_of(service))["spec"]["ports"]
            port["appProtocol"] = "kubernetes.io/h2c"
            environ = container_of(service, documents)["env"]
            environ.append(line(name="RINGBACK_SERVICES__PLAINTEXT", value="true"))
        return documents
    certified = load_template("envoy-gateway", "certificates.yaml")
    for service in SERVICES:
        _give_certificate(service, values, documents)
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


def _give_certificate(service: str, values: EnvoyGatewayValues, documents: list[Document]) -> None:
    """Let a service show its certificate and believe Envoy's SPIFFE id."""
    pod, container = template_of(service, documents)["spec"], container_of(service, documents)
    secret = {"secretName": f"{name_of(service)}-tls", "defaultMode": 0o440}
    pod["volumes"].append(line(name="tls", secret=secret))
    container["volumeMounts"].append(line(name="tls", mountPath=_TLS_FOLDER, readOnly=True))
    peers = json.dumps([_spiffe_id("ringback-gateway", values)])
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


def _give_authorities(documents: list[Document], config_map: str) -> None:
    """Let extauthz believe upstreams for whom a ConfigMap vouches."""
    pod = template_of(AUTHZ_CLUSTER, documents)["spec"]
    container = container_of(AUTHZ_CLUSTER, documents)
    pod["volumes"].append(line(name="upstream", configMap={"name": config_map}))
    container["volumeMounts"].append(line(name="upstream", mountPath=_CA_FOLDER, readOnly=True))
    container["env"].append(line(name="RINGBACK_UPSTREAM__CA_FILE", value=f"{_CA_FOLDER}/ca.crt"))
