"""callkeeper in pods: only where calls are supervised."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER
from ringback.render.documents import line, named
from ringback.render.inputs import Inputs
from ringback.settings import SupervisionSettings

_SECRETS: Final = "keeping"
_SETTINGS: Final = {
    CALLKEEPER: "RINGBACK_SUPERVISION__CALLKEEPER",
    AUTHZ_CLUSTER: "RINGBACK_SUPERVISION__EXTAUTHZ",
}
_MIB: Final = 1024 * 1024


def is_supervised(inputs: Inputs) -> bool:
    """Tell whether callkeeper is needed."""
    return inputs.settings.supervision.mode != "off"


def leave_out(pod: Any) -> None:
    """Take callkeeper out of a pod.

    Args:
        pod: Its ``spec``, with the container and the volume of its secrets.
    """
    pod["initContainers"].remove(named(pod["initContainers"], CALLKEEPER))
    pod["volumes"].remove(named(pod["volumes"], _SECRETS))


def supervision_environ(addresses: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the variables that tell services where each other are.

    Args:
        addresses: Those of the workers of callkeeper and extauthz.
    """
    return [
        line(name=_SETTINGS[service], value=json.dumps(list(found)))
        for service, found in addresses.items()
    ]


def give_spool(pod: Any, container: Any, settings: SupervisionSettings) -> None:
    """Let callkeeper keep what waits for a sink; it stays until the pod is gone.

    Args:
        pod: The ``spec`` of its pod.
        container: Its container.
        settings: Whether there is such a folder, and what may be in it.
    """
    if settings.spool_folder is None:
        return
    # A little more than the files: a folder that is too large costs the pod.
    urls = (settings.webhook.url, settings.collector.url)
    sinks = len(settings.sinks) + sum(url is not None for url in urls)
    size_mib = max(sinks, 1) * settings.spool_max_bytes * 5 // 4 // _MIB + 1
    pod["volumes"].append(line(name="spool", emptyDir={"sizeLimit": f"{size_mib}Mi"}))
    container["volumeMounts"].append(line(name="spool", mountPath=str(settings.spool_folder)))
