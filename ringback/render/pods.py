"""What every target with pods of our own needs: workers, and secrets as files."""

from collections.abc import Iterable
from typing import Any, Final

from ringback.render.documents import load_text, named
from ringback.worker import METRICS_PORT_STEP

SECRETS_FOLDER: Final = "/etc/ringback/secrets"
# How callers of a container are to know that a variable is in a file (ringback/secretfiles.py).
_SUFFIX: Final = "_FILE"


def flow(text: str) -> Any:
    """Return a value that is written as it is given here, on one line."""
    return load_text(text)


def give_secrets(pod: Any, container: Any, volume: str, secret: str, names: Iterable[str]) -> None:
    """Let a container find variables in the files of a volume with the keys of a Secret.

    Args:
        pod: The ``spec`` of a pod that has the volume.
        container: Of that pod, which mounts it at `SECRETS_FOLDER`.
        volume: Its name.
        secret: Name of the Secret.
        names: The variables, which are keys of the Secret.
    """
    source = named(pod["volumes"], volume)["secret"]
    source["secretName"] = secret
    source["items"] = [flow(f"{{key: {name}, path: {name}}}") for name in names]
    container["env"] += [
        flow(f"{{name: {name}{_SUFFIX}, value: {SECRETS_FOLDER}/{name}}}") for name in names
    ]


def set_workers(container: Any, addresses: Iterable[str], metrics_port: int) -> None:
    """Let a service have a worker for each address, with its metrics and its share of the probes.

    Args:
        container: Of extauthz or sdpfilter; the template has what the first worker needs.
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
            container["ports"].append(flow(f"{{name: {name}, containerPort: {port}}}"))
