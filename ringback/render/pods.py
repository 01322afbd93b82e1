"""What every target with pods of our own needs: workers, files, secrets, ways out."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ruamel.yaml.scalarstring import LiteralScalarString

from extauthz.deployments import DEFAULT_PORTS
from ringback.render.documents import line, load_text, named
from ringback.render.inputs import Inputs
from ringback.worker import METRICS_PORT_STEP

SECRETS_FOLDER: Final = "/etc/ringback/secrets"
_KEYS_FOLDER: Final = "/etc/ringback/keys"
_SEALING: Final = "RINGBACK_TOKEN__SECRET"
# What callkeeper alone has to know, and what it shares with extauthz.
_KEEPING: Final = "RINGBACK_SUPERVISION__"
_STORES: Final = ("RINGBACK_DATABASE__", "RINGBACK_STORE__")
# Where a node tells its machine's identity, to whom none but Azure's login may go.
_LINK_LOCAL: Final = "169.254."
# How callers of a container are to know that a variable is in a file (ringback/secretfiles.py).
_SUFFIX: Final = "_FILE"


def flow(text: str) -> Any:
    """Return a value that is written as it is given here, on one line."""
    return load_text(text)


@dataclass(frozen=True, slots=True)
class SecretNames:
    """Names of variables with secrets, sorted.

    Attributes:
        all: Whatever anybody needs.
        deciding: What extauthz needs.
        sealing: Those that tokens are sealed with, which sdpfilter needs.
        keeping: What callkeeper needs.
    """

    all: tuple[str, ...]
    deciding: tuple[str, ...]
    sealing: tuple[str, ...]
    keeping: tuple[str, ...]


def secret_names(inputs: Inputs, further: Iterable[str]) -> SecretNames:
    """Return the variables that a configuration needs, and further ones.

    A secret for tokens among the further ones replaces LiteLLM's.
    """
    own = tuple(name for name in further if name == _SEALING)
    replaced = inputs.sealing_variables if own else ()
    every = tuple(sorted({*inputs.variables, *further} - {*replaced}))
    return SecretNames(
        all=every,
        deciding=tuple(name for name in every if not name.startswith(_KEEPING)),
        sealing=own or inputs.sealing_variables,
        keeping=tuple(name for name in every if name.startswith((_KEEPING, *_STORES))),
    )


def give_secrets(pod: Any, container: Any, volume: str, secret: str, names: Iterable[str]) -> None:
    """Let a container find variables in the files of a volume with the keys of a Secret.

    Args:
        pod: The ``spec`` of a pod that has the volume.
        container: Of that pod, which mounts it at `SECRETS_FOLDER`.
        volume: Its name.
        secret: Name of the Secret.
        names: The variables, which are keys of the Secret.
    """
    names = list(names)
    if not names:
        # Without items it would have all keys.
        pod["volumes"].remove(named(pod["volumes"], volume))
        container["volumeMounts"].remove(named(container["volumeMounts"], volume))
        return
    source = named(pod["volumes"], volume)["secret"]
    source["secretName"] = secret
    source["items"] = [line(key=name, path=name) for name in names]
    container["env"] += [
        line(name=f"{name}{_SUFFIX}", value=f"{SECRETS_FOLDER}/{name}") for name in names
    ]


def set_workers(container: Any, addresses: Iterable[str], metrics_port: int) -> None:
    """Let a service have a worker for each address, with its metrics and its share of the probes.

    Args:
        container: Of a service; the template has what the first worker needs.
        addresses: As ``--listen`` takes them.
        metrics_port: Of the first worker.
    """
    arguments = [word for word in container["args"] if not word.startswith("--listen=")]
    del container["args"][len(arguments) :]
    probe = container["livenessProbe"]["exec"]["command"]
    for index, address in enumerate(addresses):
        port = metrics_port + index * METRICS_PORT_STEP
        container["args"].append(f"--listen={address}")
        probe.append(f"http://127.0.0.1:{port}/healthz")
        if index:
            name = f"{container['name']}-{index}"
            container["ports"].append(line(name=name, containerPort=port))


def give_keys(pod: Any, container: Any, secret: str) -> None:
    """Let a container find the key file that is in a Secret.

    Args:
        pod: The ``spec`` of its pod.
        container: The container.
        secret: Name of the Secret.
    """
    volume = {"name": "keys", "secret": {"secretName": secret, "defaultMode": 0o440}}
    pod["volumes"].append(volume)
    container["volumeMounts"].append(line(name="keys", mountPath=_KEYS_FOLDER, readOnly=True))
    container["env"].append(line(name="RINGBACK_KEYS_FILE", value=f"{_KEYS_FOLDER}/keys.yaml"))


def give_config(
    config_map: Any, pods: Iterable[Any], texts: Mapping[str, str], config_secret: str
) -> None:
    """Put files into a ConfigMap, and let pods find each where it was.

    Args:
        config_map: The ConfigMap.
        pods: The ``spec`` of each, with a projected volume ``config`` of the ConfigMap.
        texts: The files by their path.
        config_secret: Name of a Secret with further files; empty for none.
    """
    config_map["data"] = literal_data({_key_of(path): text for path, text in texts.items()})
    for pod in pods:
        sources = named(pod["volumes"], "config")["projected"]["sources"]
        if any(_key_of(path) != path for path in texts):
            sources[0]["configMap"]["items"] = [
                line(key=_key_of(path), path=path) for path in texts
            ]
        if config_secret:
            sources.append(line(secret={"name": config_secret}))


def open_egress(rule: Any, inputs: Inputs, further: Iterable[int]) -> None:
    """Let a rule of a NetworkPolicy allow what the services connect to.

    Args:
        rule: Of ``egress``, with its peers.
        inputs: Whose upstreams these are.
        further: Ports of others.
    """
    settings = inputs.settings
    ports = {upstream.origin.port for upstream in inputs.upstreams} | set(further)
    told = settings.supervision
    for url in (
        settings.passthrough.url,
        settings.tracing.endpoint,
        told.webhook.url,
        told.collector.url,
    ):
        if url is not None:
            parts = urlsplit(url)
            ports.add(parts.port or DEFAULT_PORTS[parts.scheme])
    rule["ports"] = [line(port=port) for port in sorted(ports)]
    if any(upstream.origin.host.startswith(_LINK_LOCAL) for upstream in inputs.upstreams):
        # A managed identity of the node: that service is where it logs in.
        for peer in rule["to"]:
            peer.get("ipBlock", {}).pop("except", None)


def metrics_ports(service_port: int, workers: int) -> Iterator[int]:
    """Give the port of each worker's metrics.

    Args:
        service_port: Of the first worker.
        workers: How many there are.
    """
    for index in range(workers):
        yield service_port + index * METRICS_PORT_STEP


def literal_data(texts: Mapping[str, str]) -> dict[str, LiteralScalarString]:
    """Return the data of a ConfigMap, line by line."""
    return {name: LiteralScalarString(text) for name, text in texts.items()}


def digest(*texts: str) -> str:
    """Return a short hash, for an annotation that changes when these do."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _key_of(path: str) -> str:
    """Return the key of a file in a ConfigMap, which has no folders."""
    return path.replace("/", "__")
