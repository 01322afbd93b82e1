"""What is made from a configuration: Envoy's bootstrap, and manifests for those who run it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TARGETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kubernetes": "Write manifests of a Deployment with an Envoy of its own, for kustomize.",
        "istio": "Write manifests of a gateway and services in an Istio mesh.",
        "envoy-gateway": "Write manifests of a Gateway of Envoy Gateway and of the services.",
    }
)
"""Targets with manifests, and what `ringback render --help` says of them.

The module of a target has its name, with ``_`` for ``-``; it is imported when it is used.
"""
