"""extauthz and sdpfilter as Deployments, and the certificates between them and Envoy."""

import json
from collections.abc import Sequence
from typing import Any, Final

from ringback.contract import AUTHZ_CLUSTER, PROC_CLUSTER
from ringback.render.documents import Document, line, load_template, named, resource
from ringback.render.embedding import SETTINGS, config_texts, settings_text
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs
from ringback.render.pods import (
    digest,
    give_config,
    give_keys,
    give_secrets,
    open_egress,
    secret_names,
)

SERVICES: Final = (AUTHZ_CLUSTER, PROC_CLUSTER)
_TLS_FOLDER: Final = "/etc/ringback/tls"
_TLS_FILES: Final = {
    "CERTIFICATE_FILE": f"{_TLS_FOLDER}/tls.crt",
    "KEY_FILE": f"{_TLS_FOLDER}/tls.key",
    "CLIENT_CA_FILE": f"{_TLS_FOLDER}/ca.crt",
}
_CA_FOLDER: Final = "/etc/ringback/upstream"


def name_of(service: str) -> str:
    """Return the name of the resources of a service."""
    return f"ringback-{service}"


def service_documents(inputs: Inputs, values: EnvoyGatewayValues) -> list[Document]:
    """Return the manifests of both services.

    Raises:
        EmbeddingError: If the configuration cannot be in a ConfigMap.
    """
    documents = load_template("envoy-gateway", "services.yaml")
    _embed(inputs, values, documents)
    secrets = secret_names(inputs, values.secrets)
    for service in SERVICES:
        _adapt_pods(service, values, documents)
        _adapt_ingress(service, values, documents)
        if values.plaintext:
            _leave_out_certificates(service, documents)
        else:
            _adapt_certificates(service, values, documents)
    authz, proc = (_pod(service, documents) for service in SERVICES)
    container = named(authz["containers"], AUTHZ_CLUSTER)
    give_secrets(authz, container, "secrets", values.secret, secrets.all)
    give_secrets(
        proc, named(proc["containers"], PROC_CLUSTER), "sealing", values.secret, secrets.sealing
    )
    if values.keys_secret:
        give_keys(authz, container, values.keys_secret)
    if values.upstream_ca:
        _give_authorities(authz, container, values.upstream_ca)
    _adapt_egress(inputs, values, documents)
    return documents


def _pod(service: str, documents: Sequence[Document]) -> Any:
    return resource(documents, "Deployment", name_of(service))["spec"]["template"]["spec"]


def _embed(inputs: Inputs, values: EnvoyGatewayValues, documents: Sequence[Document]) -> None:
    texts = {} if values.config_secret else config_texts(inputs)
    texts[SETTINGS] = settings_text(inputs)
    config = resource(documents, "ConfigMap")
    give_config(config, [_pod(AUTHZ_CLUSTER, documents)], texts, values.config_secret)
    for service in SERVICES:
        template = resource(documents, "Deployment", name_of(service))["spec"]["template"]
        template["metadata"]["annotations"]["ringback/settings"] = digest(texts[SETTINGS])


def _adapt_pods(service: str, values: EnvoyGatewayValues, documents: Sequence[Document]) -> None:
    deployment = resource(documents, "Deployment", name_of(service))
    deployment["spec"]["replicas"] = values.replicas
    named(_pod(service, documents)["containers"], service)["image"] = values.image


def _adapt_ingress(service: str, values: EnvoyGatewayValues, documents: Sequence[Document]) -> None:
    policy = resource(documents, "NetworkPolicy", name_of(service))
    (envoy,), (scraper,) = (rule["from"] for rule in policy["spec"]["ingress"])
    for peer, namespace in (
        (envoy, values.envoy_namespace),
        (scraper, values.monitoring_namespace),
    ):
        labels = peer["namespaceSelector"]["matchLabels"]
        labels["kubernetes.io/metadata.name"] = namespace
    gateway = envoy["podSelector"]["matchLabels"]
    gateway["gateway.envoyproxy.io/owning-gateway-namespace"] = values.namespace


def _adapt_egress(
    inputs: Inputs, values: EnvoyGatewayValues, documents: Sequence[Document]
) -> None:
    names, others = resource(documents, "NetworkPolicy", name_of(AUTHZ_CLUSTER))["spec"]["egress"]
    open_egress(others, inputs, values.egress_ports)
    if inputs.settings.tracing.endpoint is not None:
        # sdpfilter tells the collector what it did.
        spec = resource(documents, "NetworkPolicy", name_of(PROC_CLUSTER))["spec"]
        spec["egress"] = [names, others]


def _adapt_certificates(
    service: str, values: EnvoyGatewayValues, documents: Sequence[Document]
) -> None:
    """Let both sides show certificates and believe the other's SPIFFE id."""
    host = f"{name_of(service)}.{values.namespace}.svc.{values.cluster_domain}"
    backend = resource(documents, "Backend", name_of(service))["spec"]
    (endpoint,) = backend["endpoints"]
    endpoint["fqdn"]["hostname"] = host
    backend["tls"]["clientCertificateRef"]["namespace"] = values.namespace
    validation = resource(documents, "BackendTLSPolicy", name_of(service))["spec"]["validation"]
    validation["hostname"] = host
    (name,) = validation["subjectAltNames"]
    name["uri"] = _spiffe_id(name_of(service), values)
    environ = {
        **_TLS_FILES,
        "ALLOWED_PEERS": json.dumps([_spiffe_id("ringback-gateway", values)]),
    }
    container = named(_pod(service, documents)["containers"], service)
    for key, value in environ.items():
        container["env"].append(line(name=f"RINGBACK_SERVICES__TLS__{key}", value=value))


def _leave_out_certificates(service: str, documents: list[Document]) -> None:
    for kind in ("Backend", "BackendTLSPolicy"):
        documents.remove(resource(documents, kind, name_of(service)))
    (port,) = resource(documents, "Service", name_of(service))["spec"]["ports"]
    port["appProtocol"] = "kubernetes.io/h2c"
    pod = _pod(service, documents)
    pod["volumes"].remove(named(pod["volumes"], "tls"))
    container = named(pod["containers"], service)
    container["volumeMounts"].remove(named(container["volumeMounts"], "tls"))
    container["env"].append(line(name="RINGBACK_SERVICES__PLAINTEXT", value="true"))


def _spiffe_id(account: str, values: EnvoyGatewayValues) -> str:
    return f"spiffe://{values.trust_domain}/ns/{values.namespace}/sa/{account}"


def _give_authorities(pod: Any, container: Any, config_map: str) -> None:
    pod["volumes"].append(line(name="upstream", configMap={"name": config_map}))
    container["volumeMounts"].append(line(name="upstream", mountPath=_CA_FOLDER, readOnly=True))
    container["env"].append(line(name="RINGBACK_UPSTREAM__CA_FILE", value=f"{_CA_FOLDER}/ca.crt"))
