"""The target ``kubernetes``: a Deployment with an Envoy of its own, for kustomize."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER, PROC_CLUSTER
from ringback.paths import ENVOY_VERSION, envoy_dir, shared_file
from ringback.render.bootstrap import Address, Changes, adapt_bootstrap, read_bootstrap
from ringback.render.bootstraptext import bootstrap_text
from ringback.render.documents import Document, line, load_template, load_text, named, resource
from ringback.render.embedding import SETTINGS, config_texts, settings_text
from ringback.render.inputs import Inputs
from ringback.render.passthrough import passthrough_cluster
from ringback.render.pods import (
    digest,
    give_config,
    give_keys,
    give_secrets,
    literal_data,
    metrics_ports,
    open_egress,
    secret_names,
    set_workers,
)
from ringback.render.supervision import give_spool, is_supervised, leave_out, supervision_environ
from ringback.render.values import Name, Ports, Values, Variables

_TARGET: Final = "kubernetes"
_FILES: Final = (
    "base/kustomization.yaml",
    "base/config.yaml",
    "base/deployment.yaml",
    "base/service.yaml",
    "base/networkpolicy.yaml",
    "base/disruption.yaml",
    "base/check.yaml",
    "components/autoscaling/kustomization.yaml",
    "components/autoscaling/hpa.yaml",
    "components/monitoring/kustomization.yaml",
    "components/monitoring/podmonitor.yaml",
    "components/monitoring/alerts.yaml",
    "overlays/development/kustomization.yaml",
    "overlays/development/config.yaml",
    "overlays/development/deployment.yaml",
    "overlays/development/networkpolicy.yaml",
    "overlays/development/emulator.yaml",
    "overlays/production/kustomization.yaml",
)
# Mounted there; the names are those of the templates.
_SOCKETS: Final = "/run/ringback"
_ENVOY_FOLDER: Final = "/etc/ringback/envoy"
_EVERYWHERE: Final = "0.0.0.0"
_METRICS: Final = {AUTHZ_CLUSTER: 9464, PROC_CLUSTER: 9465, CALLKEEPER: 9467}
_ENVOY_METRICS_PORT: Final = 9466
# callkeeper ends before the others: 10 s until somebody else has its calls, 15 s for what is in
# flight, 5 s for costs that are not written.
_KEEPER_GRACE_S: Final = 30


class KubernetesValues(Values):
    """What can be set."""

    image: str = "registry.example.com/ringback/services:0.1.0"
    """Image of extauthz, sdpfilter and callkeeper: `docker build --target services`."""

    emulator_image: str = "registry.example.com/ringback/emulator:0.1.0"
    """Image of the emulator, for the development overlay: `docker build --target emulator`."""

    envoy_image: str = f"envoyproxy/envoy:v{ENVOY_VERSION}"
    """Image of Envoy, with bash."""

    envoy_threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Envoy's worker threads in each pod."""

    replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    """Pods, where nothing scales them."""

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
    """Further ports that pods may connect to: 5432 for Postgres, 6379 for Valkey."""


VALUES = KubernetesValues


def render(inputs: Inputs, values: Values) -> Mapping[str, Sequence[Document]]:
    """Return the manifests: a base, two components and two overlays for kustomize.

    Raises:
        StartError: If the configuration holds secrets, or a template lacks a part.
    """
    assert isinstance(values, KubernetesValues)  # noqa: S101  by VALUES
    files = {path: load_template(_TARGET, path) for path in _FILES}
    base = [document for path in _FILES if path.startswith("base/") for document in files[path]]
    _embed(inputs, values, base)
    _adapt_pods(inputs, values, base)
    _adapt_policy(inputs, values, resource(base, "NetworkPolicy", "ringback"))
    _adapt_components(inputs, files)
    _adapt_development(inputs, values, files)
    _set_namespace(values.namespace, files)
    return files


def _embed(inputs: Inputs, values: KubernetesValues, base: Sequence[Document]) -> None:
    """Put files into ConfigMaps."""
    texts = {} if values.config_secret else config_texts(inputs)
    texts[SETTINGS] = settings_text(inputs)
    config = resource(base, "ConfigMap", "ringback-config")
    envoy = {
        "envoy.yaml": _bootstrap(inputs),
        "run-and-drain.sh": shared_file("deploy/envoy/run-and-drain.sh").read_text("utf-8"),
    }
    if inputs.settings.playground:
        envoy["playground.html"] = (envoy_dir() / "playground.html").read_text("utf-8")
    resource(base, "ConfigMap", "ringback-envoy")["data"] = literal_data(envoy)
    deployment = resource(base, "Deployment")
    notes = deployment["spec"]["template"]["metadata"]["annotations"]
    notes["ringback/settings"] = digest(texts[SETTINGS])
    notes["ringback/envoy"] = digest(*envoy.values())
    pods = [pod["spec"]["template"]["spec"] for pod in (deployment, resource(base, "Job"))]
    give_config(config, pods, texts, values.config_secret)


def _adapt_pods(inputs: Inputs, values: KubernetesValues, base: Sequence[Document]) -> None:
    deployment = resource(base, "Deployment")
    deployment["spec"]["replicas"] = values.replicas
    pod = deployment["spec"]["template"]["spec"]
    if not is_supervised(inputs):
        leave_out(pod)
    secrets = secret_names(inputs, values.secrets)
    given = {
        AUTHZ_CLUSTER: ("secrets", secrets.deciding),
        PROC_CLUSTER: ("sealing", secrets.sealing),
        CALLKEEPER: ("keeping", secrets.keeping),
    }
    for service in _services(inputs):
        container = named(pod["initContainers"], service)
        container["image"] = values.image
        set_workers(container, _sockets(service, inputs), _METRICS[service])
        volume, names = given[service]
        give_secrets(pod, container, volume, values.secret, names)
    if is_supervised(inputs):
        _introduce(inputs, pod)
    extauthz = named(pod["initContainers"], AUTHZ_CLUSTER)
    envoy = named(pod["containers"], "envoy")
    envoy["image"] = values.envoy_image
    envoy["args"][envoy["args"].index("--concurrency") + 1] = str(values.envoy_threads)
    job = resource(base, "Job")["spec"]["template"]["spec"]
    check = named(job["containers"], "check")
    check["image"] = values.image
    give_secrets(job, check, "secrets", values.secret, secrets.all)
    if values.keys_secret:
        for holder, container in ((pod, extauthz), (job, check)):
            give_keys(holder, container, values.keys_secret)


def _introduce(inputs: Inputs, pod: Document) -> None:
    """Let the services find each other, and give callkeeper what it alone needs."""
    pod["terminationGracePeriodSeconds"] += _KEEPER_GRACE_S
    sockets = {name: list(_sockets(name, inputs)) for name in (CALLKEEPER, AUTHZ_CLUSTER)}
    for service in _services(inputs):
        named(pod["initContainers"], service)["env"] += supervision_environ(sockets)
    give_spool(pod, named(pod["initContainers"], CALLKEEPER), inputs.settings.supervision)


def _adapt_policy(inputs: Inputs, values: KubernetesValues, policy: Document) -> None:
    _, scrapers = policy["spec"]["ingress"]
    labels = scrapers["from"][0]["namespaceSelector"]["matchLabels"]
    labels["kubernetes.io/metadata.name"] = values.monitoring_namespace
    ports = (
        port
        for service in _services(inputs)
        for port in metrics_ports(_METRICS[service], _workers(service, inputs))
    )
    scrapers["ports"] = [line(port=port) for port in (*ports, _ENVOY_METRICS_PORT)]
    _, upstreams = policy["spec"]["egress"]
    open_egress(upstreams, inputs, values.egress_ports)


def _adapt_components(inputs: Inputs, files: Mapping[str, Sequence[Document]]) -> None:
    monitor = resource(files["components/monitoring/podmonitor.yaml"], "PodMonitor")
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    for service in _services(inputs):
        for index in range(_workers(service, inputs)):
            job = line(targetLabel="job", replacement=service)
            endpoints.append(
                {"port": f"{service}-{index}", "interval": "15s", "relabelings": [job]}
            )
    rule = resource(files["components/monitoring/alerts.yaml"], "PrometheusRule")
    alerts = shared_file("deploy/observability/alerts.yaml").read_text("utf-8")
    rule["spec"]["groups"] = load_text(alerts)["groups"]
    scaler = resource(files["components/autoscaling/hpa.yaml"], "HorizontalPodAutoscaler")
    overload = inputs.settings.overload
    half = min(overload.max_mints, overload.max_calls) * inputs.settings.workers // 2
    in_flight, _ = scaler["spec"]["metrics"]
    in_flight["pods"]["target"]["averageValue"] = str(half)


def _adapt_development(
    inputs: Inputs, values: KubernetesValues, files: Mapping[str, Sequence[Document]]
) -> None:
    folder = "overlays/development"
    kustomization = resource(files[f"{folder}/kustomization.yaml"], "Kustomization")
    (secret,) = kustomization["secretGenerator"]
    secret["name"] = values.secret
    secret["literals"] = [f"{name}=sk-demo" for name in secret_names(inputs, values.secrets).all]
    if is_supervised(inputs):
        config = resource(files[f"{folder}/config.yaml"], "ConfigMap")
        mode = f"supervision: {{mode: {inputs.settings.supervision.mode}}}\n"
        config["data"] |= literal_data({SETTINGS: config["data"][SETTINGS] + mode})
    emulator = resource(files[f"{folder}/emulator.yaml"], "Deployment")
    pod = emulator["spec"]["template"]["spec"]
    named(pod["containers"], "emulator")["image"] = values.emulator_image


def _set_namespace(namespace: str, files: Mapping[str, Sequence[Document]]) -> None:
    for document in (document for documents in files.values() for document in documents):
        if document["kind"] == "Kustomization":
            document["namespace"] = namespace
        elif "namespace" in document.get("metadata", {}):
            document["metadata"]["namespace"] = namespace


def _bootstrap(inputs: Inputs) -> str:
    """Return Envoy's bootstrap for a pod; upstreams come from extauthz."""
    settings = inputs.settings
    changes = Changes(
        ingress=Address(_EVERYWHERE, 4000),
        metrics=Address(_EVERYWHERE, _ENVOY_METRICS_PORT),
        endpoints={name: list(_sockets(name, inputs)) for name in (AUTHZ_CLUSTER, PROC_CLUSTER)},
        cors_origins=settings.cors_origins,
        playground=Path(_ENVOY_FOLDER, "playground.html") if settings.playground else None,
        websocket=settings.websocket,
        overload=settings.overload,
        passthrough=passthrough_cluster(settings, settings.upstream),
        passthrough_timeout_s=settings.passthrough.timeout_s,
        tracing=settings.tracing,
        tracing_ca_file=settings.upstream.ca_file,
    )
    bootstrap = adapt_bootstrap(read_bootstrap(envoy_dir() / "envoy.yaml"), changes)
    return bootstrap_text(bootstrap, f"ringback render {_TARGET}", is_static=False)


def _services(inputs: Inputs) -> tuple[str, ...]:
    both = (AUTHZ_CLUSTER, PROC_CLUSTER)
    return (*both, CALLKEEPER) if is_supervised(inputs) else both


def _workers(service: str, inputs: Inputs) -> int:
    # As in `ringback up`.
    return 1 if service == CALLKEEPER else inputs.settings.workers


def _sockets(service: str, inputs: Inputs) -> Iterator[str]:
    for index in range(_workers(service, inputs)):
        yield f"unix:{_SOCKETS}/{service}-{index}.sock"
