"""What the workers of all services have in common, so that their forks share it."""

import importlib

from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER, PROC_CLUSTER
from ringback.forks import keep_shared


def preload() -> None:
    """Import what the workers of all services need."""
    for service in (AUTHZ_CLUSTER, PROC_CLUSTER, CALLKEEPER):
        importlib.import_module(f"{service}.__main__")
    keep_shared()
