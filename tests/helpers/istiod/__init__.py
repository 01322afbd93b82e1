"""What istiod makes of manifests: Envoy's configuration of the gateway and of extauthz' sidecar.

It follows istio/istio 1.30 (pilot/pkg/networking/core, pilot/pkg/security/authz; Apache-2.0) for
the kinds and fields that `ringback render istio` writes, and applies the patches of its EnvoyFilter
in the way of pilot/pkg/networking/core/envoyfilter. What is not known here is an error, so that
nothing is passed over. Three things differ from the proxies of a mesh:

- One static bootstrap stands for what a proxy asks istiod for.
- Filters that only Istio's build of Envoy has (metadata exchange, telemetry, ALPN) are left out:
  none of them refuses or reroutes a request.
- Endpoints of our services have no mutual TLS, and what the kernel would redirect to the sidecar
  comes to a listener of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import yaml

from helpers.istiod.clusters import entry_clusters, service_cluster
from helpers.istiod.listeners import gateway_listener, sidecar_listener
from helpers.istiod.patches import Patches
from helpers.istiod.registry import Registry, known
from ringback.render.bootstrap import Changes

Json = dict[str, Any]

# What Istio's agent sets in every bootstrap (pkg/bootstrap/config.go).
_RUNTIME: Final[Json] = {
    "re2.max_program_size.error_level": "32768",
    "envoy.reloadable_features.http_reject_path_with_fragment": False,
}
_SERVICES: Final = ("extauthz", "sdpfilter")


def istiod_bootstrap(
    manifests: Iterable[Json], changes: Changes, secrets: Mapping[str, Json] | None = None
) -> Json:
    """Return a bootstrap with the gateway and the sidecar.

    Args:
        manifests: What `ringback render istio` writes, with the snippet for MeshConfig.
        changes: Where the parts of the gateway listen.
        secrets: The ``data`` of Secrets with certificates, as text, by their names.
    """
    registry = Registry.of(manifests)
    patches = Patches(registry.spec("EnvoyFilter", "ringback")["configPatches"])
    assert changes.ingress is not None
    assert changes.egress is not None
    assert changes.admin is not None
    gateway = gateway_listener(registry, changes.ingress)
    patches.apply_to_listener(gateway)
    namespace = registry.named("EnvoyFilter", "ringback").partition("/")[0]
    clusters = [
        service_cluster(
            registry,
            f"ringback-{name}.{namespace}.svc.cluster.local",
            port["port"],
            changes.endpoints[name],
        )
        for name in _SERVICES
        for port in registry.spec("Service", f"ringback-{name}")["ports"]
    ]
    for entry in registry.specs("ServiceEntry"):
        clusters += entry_clusters(registry, entry)
    for cluster in clusters:
        patches.apply_to_cluster(cluster)
    assert patches.unused == []
    admin = {"address": changes.admin.host, "port_value": changes.admin.port}
    return {
        "node": {
            "id": "router~127.0.0.1~ringback-gateway.ringback~",
            "cluster": "ringback-gateway",
        },
        "admin": {"address": {"socket_address": admin}},
        "layered_runtime": {
            "layers": [{"name": "global config", "static_layer": _runtime(registry)}]
        },
        "static_resources": {
            "listeners": [gateway, sidecar_listener(registry, changes.egress)],
            "clusters": clusters,
            "secrets": [_secret(name, data) for name, data in (secrets or {}).items()],
        },
    }


def _secret(name: str, data: Json) -> Json:
    return {
        "name": name,
        "tls_certificate": {
            "certificate_chain": {"inline_string": data["tls.crt"]},
            "private_key": {"inline_string": data["tls.key"]},
        },
    }


def _runtime(registry: Registry) -> Json:
    """Return what the gateway's agent puts into its bootstrap: its own, and what the pod says."""
    pod = registry.spec("Deployment", "ringback-gateway")["template"]
    config = yaml.safe_load(pod["metadata"]["annotations"]["proxy.istio.io/config"])
    known(config, "terminationDrainDuration", "proxyHeaders", "runtimeValues")
    values = {
        name: {"true": True, "false": False}.get(value, value)
        for name, value in config["runtimeValues"].items()
    }
    return _RUNTIME | values
