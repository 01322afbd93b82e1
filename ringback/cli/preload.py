"""What the workers of both services have in common, so that their forks share it."""

import importlib

from extauthz.clusters import snapshot_of
from extauthz.deployments import Origin
from ringback.contract import AUTHZ_CLUSTER, PROC_CLUSTER
from ringback.forks import keep_shared
from ringback.settings import UpstreamSettings


def preload() -> None:
    """Bring this process to where a worker starts to differ from others."""
    for service in (AUTHZ_CLUSTER, PROC_CLUSTER):
        importlib.import_module(f"{service}.__main__")
    # The first message of each type costs most of what a worker needs to start.
    snapshot_of([Origin("https", "upstream.example", 443)], UpstreamSettings())
    keep_shared()
