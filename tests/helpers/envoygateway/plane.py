"""The data plane ``envoy-gateway``: what it would serve, with the parts of a gateway under test."""

import os
from pathlib import Path
from typing import Any, Final

import yaml

from helpers.envoygateway.bootstrap import translate
from helpers.envoygateway.resources import Json, Resources
from helpers.expect import ORIGIN
from helpers.gatewayfiles import Files
from ringback.contract import AUTHZ_CLUSTER, PROC_CLUSTER
from ringback.render.bootstrap import Address, Changes
from ringback.render.documents import dump
from ringback.render.envoy_gateway import render
from ringback.render.envoy_gateway.values import EnvoyGatewayValues
from ringback.render.inputs import Inputs, load_inputs

# Namespace, Gateway, listener.
LISTENER: Final = "ringback/ringback/http"
_CA: Final = "authorities"
_VALUES: Final = {
    "tls_secret": "",
    "upstream_ca": _CA,
    "config_secret": "config",
    "plaintext": True,
}


def make(files: Files, changes: Changes) -> Json:
    """Return a bootstrap made from what `ringback render envoy-gateway` writes for these files."""
    inputs = load_inputs(files.config, files.settings, os.environ)
    settings = inputs.settings.model_copy(
        update={"cors_origins": [ORIGIN], "overload": changes.overload or inputs.settings.overload}
    )
    resources = Resources(
        manifests(inputs, settings=settings),
        services={
            f"ringback-{service}": list(changes.endpoints[service])
            for service in (AUTHZ_CLUSTER, PROC_CLUSTER)
        },
        config_maps=_authorities(inputs, settings.upstream.ca_file),
    )
    return serve(resources, changes)


def serve(resources: Resources, changes: Changes) -> Json:
    """Return the bootstrap of a Gateway on this machine."""
    bootstrap = translate(resources)
    (listener,) = bootstrap["static_resources"]["listeners"]
    listener["address"] = _address(changes.ingress)
    bootstrap["admin"] = {"address": _address(changes.admin)}
    return bootstrap


def manifests(inputs: Inputs, *, settings: Any = None, **values: Any) -> list[Json]:
    """Return what the target writes, read back as plain data."""
    made = Inputs(
        settings=settings or inputs.settings,
        # Files of tests hold secrets, and services that run are not asked for theirs.
        settings_file=None,
        config_files=inputs.config_files,
        upstreams=inputs.upstreams,
        variables=inputs.variables,
    )
    chosen = EnvoyGatewayValues.model_validate(_VALUES | values)
    files = render(made, chosen).values()
    text = dump([document for documents in files for document in documents])
    return [document for document in yaml.safe_load_all(text) if document is not None]


def _authorities(inputs: Inputs, ca_file: Path) -> dict[str, str]:
    if any(upstream.is_tls for upstream in inputs.upstreams):
        return {_CA: ca_file.read_text()}
    return {}


def _address(address: Address | None) -> Json:
    assert address is not None
    return {"socket_address": {"address": address.host, "port_value": address.port}}
