"""extauthz and sdpfilter as Deployments of their own, for Envoys that a control plane has."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from ringback.contract import AUTHZ_CLUSTER, PROC_CLUSTER
from ringback.errors import StartError
from ringback.render.documents import Document, copy_of, load_template, named, resource
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
from ringback.render.values import Name, Ports, Values, Variables

SERVICES: Final = (AUTHZ_CLUSTER, PROC_CLUSTER)


class ApartValues(Values):
    """What can be set of them."""

    image: str = "registry.example.com/ringback/services:0.1.0"
    """Image of extauthz and sdpfilter: `docker build --target services`."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods of each service, each with one worker."""

    secret: Name = "ringback-secrets"
    """Name of the Secret whose keys are the variables that the configuration needs."""

    secrets: Variables = ()
    """Further variables of that Secret: RINGBACK_STORE__URL,RINGBACK_DATABASE__URL."""

    config_secret: Name | Literal[""] = ""
    """Name of a Secret with the key litellm.yaml, for a configuration that holds secrets."""

    keys_secret: Name | Literal[""] = ""
    """Name of a Secret with the key keys.yaml, a key file."""

    monitoring_namespace: Name = "monitoring"
    """Namespace from which Prometheus may come."""

    egress_ports: Ports = ()
    """Further ports that extauthz may connect to: 5432 for Postgres, 6379 for Valkey."""


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
    """Return the manifests of both services.

    Args:
        inputs: The configuration.
        values: What was set.
        peer: Who may ask them, as NetworkPolicies have it.
        egress: How extauthz reaches upstreams, as `upstream.egress`.

    Raises:
        EmbeddingError: If the configuration cannot be in a ConfigMap.
        UnservedError: If it needs a third service.
    """
    if inputs.settings.supervision.mode != "off":
        # `required` without it would refuse every call.
        raise UnservedError("supervision.mode", "They have no callkeeper: leave it `off`.")
    documents = load_template("services", "services.yaml")
    _embed(inputs, values, documents)
    for service in SERVICES:
        resource(documents, "Deployment", name_of(service))["spec"]["replicas"] = values.replicas
        container_of(service, documents)["image"] = values.image
    container = container_of(AUTHZ_CLUSTER, documents)
    named(container["env"], "RINGBACK_UPSTREAM__EGRESS")["value"] = egress
    _give_secrets(inputs, values, documents)
    for service in SERVICES:
        _adapt_ingress(_policy(service, documents), values, peer)
    _adapt_egress(inputs, values, documents)
    return documents


def _policy(service: str, documents: Iterable[Document]) -> Any:
    return resource(documents, "NetworkPolicy", name_of(service))["spec"]


def _embed(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    texts = {} if values.config_secret else config_texts(inputs)
    texts[SETTINGS] = settings_text(inputs)
    pod = template_of(AUTHZ_CLUSTER, documents)["spec"]
    give_config(resource(documents, "ConfigMap"), [pod], texts, values.config_secret)
    for service in SERVICES:
        annotations = template_of(service, documents)["metadata"]["annotations"]
        annotations["ringback/settings"] = digest(texts[SETTINGS])


def _give_secrets(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    names = secret_names(inputs, values.secrets)
    for service, volume, variables in (
        (AUTHZ_CLUSTER, "secrets", names.all),
        (PROC_CLUSTER, "sealing", names.sealing),
    ):
        pod = template_of(service, documents)["spec"]
        container = container_of(service, documents)
        give_secrets(pod, container, volume, values.secret, variables)
    if values.keys_secret:
        pod = template_of(AUTHZ_CLUSTER, documents)["spec"]
        give_keys(pod, container_of(AUTHZ_CLUSTER, documents), values.keys_secret)


def _adapt_ingress(policy: Any, values: ApartValues, peer: Any) -> None:
    envoy, scraper = policy["ingress"]
    envoy["from"] = [peer]
    (source,) = scraper["from"]
    labels = source["namespaceSelector"]["matchLabels"]
    labels["kubernetes.io/metadata.name"] = values.monitoring_namespace


def _adapt_egress(inputs: Inputs, values: ApartValues, documents: Sequence[Document]) -> None:
    names, others = _policy(AUTHZ_CLUSTER, documents)["egress"]
    open_egress(others, inputs, values.egress_ports)
    if inputs.settings.tracing.endpoint is not None:
        # sdpfilter tells the collector what it did.
        _policy(PROC_CLUSTER, documents)["egress"] = [copy_of(names), copy_of(others)]
