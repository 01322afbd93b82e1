"""The services as Deployments of their own, for Envoys that a control plane has."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER, PROC_CLUSTER
from ringback.errors import StartError
from ringback.render.documents import (
    Document,
    copy_of,
    load_template,
    load_text,
    named,
    resource,
    to_document,
)
from ringback.render.embedding import SETTINGS, config_texts, settings_text
from ringback.render.inputs import Inputs
from ringback.render.pods import (
    digest,
    give_config,
    give_keys,
    give_secrets,
    open_egress,
    secret_names,
)
from ringback.render.supervision import give_spool, is_supervised, supervision_environ
from ringback.render.values import Name, Ports, Values, Variables

SERVICES: Final = (AUTHZ_CLUSTER, PROC_CLUSTER)
# Who asks whom, beside Envoy.
ASKED_BY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {AUTHZ_CLUSTER: (PROC_CLUSTER, CALLKEEPER), CALLKEEPER: (PROC_CLUSTER, AUTHZ_CLUSTER)}
)
_PORTS: Final = {AUTHZ_CLUSTER: 9001, CALLKEEPER: 9003}
_PEER: Final = """\
podSelector:
  matchLabels: {app.kubernetes.io/name: ringback, app.kubernetes.io/component: ""}
"""


class ApartValues(Values):
    """What can be set of them."""

    image: str = "registry.example.com/ringback/services:0.1.0"
    """Image of extauthz, sdpfilter and callkeeper: `docker build --target services`."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods of each service, with one worker each; callkeeper has one in all, unless
    supervision.store is valkey."""

    secret: Name = "ringback-secrets"
    """Name of the Secret whose keys are the variables that the configuration needs."""

    secrets: Variables = ()
    """Further variables of that Secret: RINGBACK_STORE__URL,RINGBACK_DATABASE__URL. Those that
    begin with RINGBACK_SUPERVISION__ are for callkeeper alone."""

    config_secret: Name | Literal[""] = ""
    """Name of a Secret with the key litellm.yaml, for a configuration that holds secrets."""

    keys_secret: Name | Literal[""] = ""
    """Name of a Secret with the key keys.yaml, a key file."""

    monitoring_namespace: Name = "monitoring"
    """Namespace from which Prometheus may come."""

    egress_ports: Ports = ()
    """Further ports that extauthz and callkeeper may connect to: 5432 for Postgres, 6379 for
    Valkey."""


class UnservedError(StartError):
    """What a setting asks for is not in these manifests.

    Args:
        setting: Its name.
        advice: What to do.
    """

    def __init__(self, setting: str, advice: str) -> None:
        self.setting, self.advice = setting, advice

    def __str__(self) -> str:
        return f"{self.setting}: is not served by these manifests. {self.advice}"


def services_of(inputs: Inputs) -> tuple[str, ...]:
    """Return the services that there are."""
    return (*SERVICES, CALLKEEPER) if is_supervised(inputs) else SERVICES


def host_of(service: str, values: ApartValues) -> str:
    """Return the name by which services ask a service."""
    return f"{name_of(service)}.{values.namespace}.svc"


def name_of(service: str) -> str:
    """Return the name of the resources of a service."""
    return f"ringback-{service}"


def template_of(service: str, documents: Iterable[Document]) -> Any:
    """Return the template of a service's pods."""
    return resource(documents, "Deployment", name_of(service))["spec"]["template"]


def container_of(service: str, documents: Iterable[Document]) -> Any:
    """Return the container of a service."""
    return named(template_of(service, documents)["spec"]["containers"], service)


def apart_documents(
    inputs: Inputs, values: ApartValues, peer: Any, *, egress: str
) -> list[Document]:
    """Return the manifests of the services.

    Args:
        inputs: The configuration.
        values: What was set.
        peer: Envoy, as NetworkPolicies have it.
        egress: How extauthz reaches upstreams, as `upstream.egress`.

    Raises:
        EmbeddingError: If the configuration cannot be in a ConfigMap.
    """
    documents = load_template("services", "services.yaml")
    if is_supervised(inputs):
        documents += load_template("services", "callkeeper.yaml")
    _embed(inputs, values, documents)
    for service in SERVICES:
        resource(documents, "Deployment", name_of(service))["spec"]["replicas"] = values.replicas
        envoy, _ = _policy(service, documents)["ingress"]
        envoy["from"] = [peer]
    for service in services_of(inputs):
        container = container_of(service, documents)
        container["image"] = values.image
        if service == AUTHZ_CLUSTER:
            named(container["env"], "RINGBACK_UPSTREAM__EGRESS")["value"] = egress
        _, scraper = _policy(service, documents)["ingress"]
        (source,) = scraper["from"]
        labels = source["namespaceSelector"]["matchLabels"]
        labels["kubernetes.io/metadata.name"] = values.monitoring_namespace
    _give_secrets(inputs, values, documents)
    _adapt_egress(inputs, values, documents)
    if is_supervised(inputs):
        _introduce(inputs, values, documents)
    return documents


def _introduce(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    """Let the services find each other, and pass where they ask each other."""
    places = {name: [f"{host_of(name, values)}:{port}"] for name, port in _PORTS.items()}
    for service in services_of(inputs):
        container_of(service, documents)["env"] += supervision_environ(places)
    if inputs.settings.supervision.store == "valkey":
        # Else several would know nothing of each other's calls.
        deployment = resource(documents, "Deployment", name_of(CALLKEEPER))
        deployment["spec"]["replicas"] = values.replicas
    pod = template_of(CALLKEEPER, documents)["spec"]
    give_spool(pod, container_of(CALLKEEPER, documents), inputs.settings.supervision)
    names, *_ = _policy(AUTHZ_CLUSTER, documents)["egress"]
    for asked, askers in ASKED_BY.items():
        if asked == AUTHZ_CLUSTER:
            asking, _ = _policy(asked, documents)["ingress"]
            asking["from"] += [_peer(asker) for asker in askers]
        for asker in askers:
            rules = _policy(asker, documents).setdefault("egress", [copy_of(names)])
            rules.append(to_document({"to": [_peer(asked)], "ports": [{"port": _PORTS[asked]}]}))


def _peer(service: str) -> Any:
    """Return the pods of a service, as NetworkPolicies have them."""
    peer = load_text(_PEER)
    peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] = service
    return peer


def _policy(service: str, documents: Iterable[Document]) -> Any:
    return resource(documents, "NetworkPolicy", name_of(service))["spec"]


def _embed(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    texts = {} if values.config_secret else config_texts(inputs)
    texts[SETTINGS] = settings_text(inputs)
    pod = template_of(AUTHZ_CLUSTER, documents)["spec"]
    give_config(resource(documents, "ConfigMap"), [pod], texts, values.config_secret)
    for service in services_of(inputs):
        annotations = template_of(service, documents)["metadata"]["annotations"]
        annotations["ringback/settings"] = digest(texts[SETTINGS])


def _give_secrets(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    names = secret_names(inputs, values.secrets)
    given = {
        AUTHZ_CLUSTER: ("secrets", names.deciding),
        PROC_CLUSTER: ("sealing", names.sealing),
        CALLKEEPER: ("keeping", names.keeping),
    }
    for service in services_of(inputs):
        volume, variables = given[service]
        pod = template_of(service, documents)["spec"]
        container = container_of(service, documents)
        give_secrets(pod, container, volume, values.secret, variables)
    if values.keys_secret:
        pod = template_of(AUTHZ_CLUSTER, documents)["spec"]
        give_keys(pod, container_of(AUTHZ_CLUSTER, documents), values.keys_secret)


def _adapt_egress(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    names, others = _policy(AUTHZ_CLUSTER, documents)["egress"]
    open_egress(others, inputs, values.egress_ports)
    if is_supervised(inputs):
        _, others_of_keeper = _policy(CALLKEEPER, documents)["egress"]
        open_egress(others_of_keeper, inputs, values.egress_ports)
    if inputs.settings.tracing.endpoint is not None:
        # sdpfilter tells the collector what it did.
        _policy(PROC_CLUSTER, documents)["egress"] = [copy_of(names), copy_of(others)]
