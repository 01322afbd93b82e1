"""Listeners: pilot/pkg/networking/core/gateway.go, listener_builder.go; security/authz."""

from typing import Any, Final

from helpers.istiod.clusters import cluster_name
from helpers.istiod.registry import Registry, known
from helpers.istiod.routes import http_routes
from ringback.render.bootstrap import Address

Json = dict[str, Any]

# That of the gateway, when it is rendered for plain HTTP, and with TLS.
GATEWAY_LISTENER: Final = "0.0.0.0_8080"
TLS_LISTENER: Final = "0.0.0.0_8443"
SIDECAR_LISTENER: Final = "sidecar"
_URL: Final = "type.googleapis.com/envoy.extensions"
_TYPES: Final = f"{_URL}.filters"
_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_ANY: Final = [{"any": True}]


def gateway_listener(registry: Registry, address: Address) -> Json:
    """Return the listener of a gateway with one server.

    Args:
        registry: With Gateway, VirtualService, AuthorizationPolicy and the extension provider.
        address: Where it listens, instead of the port to which the Service leads.
    """
    gateway = registry.spec("Gateway", "ringback")
    (server,) = gateway["servers"]
    known(server, "port", "hosts", "tls")
    has_tls = server["port"]["protocol"] == "HTTPS"
    assert has_tls == ("tls" in server)
    name = TLS_LISTENER if has_tls else GATEWAY_LISTENER
    route_name = "https.443.https.ringback.ringback" if has_tls else "http.80"
    service = registry.spec("VirtualService", "ringback")
    known(service, "hosts", "exportTo", "gateways", "http")
    hosts = [
        {
            "name": f"{host}:{server['port']['number']}",
            "domains": [host],
            "routes": http_routes(service),
            "include_request_attempt_count": False,  # by the proxy.istio.io/config of the gateway
        }
        for host in service["hosts"]
    ]
    manager = _manager(f"outbound_{name};", _route_config(route_name, hosts))
    manager |= {
        "use_remote_address": True,
        "forward_client_cert_details": "SANITIZE_SET",
        "set_current_client_cert_details": {
            "subject": True,
            "cert": True,
            "dns": True,
            "uri": True,
        },
        "generate_request_id": True,
        "http_protocol_options": {},
    }
    manager["http_filters"][:0] = _custom_authorization(registry)
    listener = _listener(name, address, manager)
    if has_tls:
        (chain,) = listener["filter_chains"]
        chain["transport_socket"] = _server_tls(server["tls"])
    return listener


def sidecar_listener(registry: Registry, address: Address) -> Json:
    """Return what takes extauthz' own requests: the outbound listeners of its sidecar in one.

    There a listener for each port has a virtual host for each host of that port; here one has them
    all, told apart by the port that ``Host`` says.
    """
    hosts = []
    for service in registry.specs("VirtualService"):
        if service["gateways"] == ["mesh"]:
            (entry,) = [e for e in registry.specs("ServiceEntry") if e["hosts"] == service["hosts"]]
            names = [*entry["hosts"], *entry.get("addresses", [])]
            for written in service["http"]:
                (port,) = [match["port"] for match in written["match"]]
                domains = [f"{name}:{port}" for name in names]
                hosts.append(
                    {
                        "name": domains[0],
                        "domains": domains,
                        "routes": http_routes({"http": [written]}),
                        "include_request_attempt_count": True,
                    }
                )
    route_config = _route_config("80", hosts) | {
        "ignore_port_in_host_matching": False,
        # extauthz is told here that it has our own Envoy before it, and names the cluster.
        "request_headers_to_remove": ["x-ringback-cluster"],
    }
    manager = _manager("outbound_0.0.0.0_80;", route_config) | {"use_remote_address": False}
    return _listener(SIDECAR_LISTENER, address, manager)


def _listener(name: str, address: Address, manager: Json) -> Json:
    return {
        "name": name,
        "traffic_direction": "OUTBOUND",
        "address": {"socket_address": {"address": address.host, "port_value": address.port}},
        "filter_chains": [{"filters": [{"name": _MANAGER, "typed_config": manager}]}],
    }


def _server_tls(tls: Json) -> Json:
    known(tls, "mode", "minProtocolVersion", "credentialName")
    assert (tls["mode"], tls["minProtocolVersion"]) == ("SIMPLE", "TLSV1_2")
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_URL}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                # Without where to ask: the secret is in the bootstrap.
                "tls_certificate_sds_secret_configs": [{"name": tls["credentialName"]}],
            },
            "require_client_certificate": False,
        },
    }


def _manager(stat_prefix: str, route_config: Json) -> Json:
    return {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type": "AUTO",
        "stat_prefix": stat_prefix,
        "server_name": "istio-envoy",
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
        "proxy_100_continue": True,
        "route_config": route_config,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_URL}.request_id.uuid.v3.UuidRequestIdConfig",
                "use_request_id_for_trace_sampling": True,
            }
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.grpc_stats",
                "typed_config": {
                    "@type": f"{_TYPES}.http.grpc_stats.v3.FilterConfig",
                    "emit_filter_state": True,
                    "stats_for_all_methods": False,
                },
            },
            _filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
            _filter("envoy.filters.http.cors", "cors.v3.Cors"),
            _filter("envoy.filters.http.router", "router.v3.Router"),
        ],
    }


def _route_config(name: str, hosts: list[Json]) -> Json:
    return {
        "name": name,
        "virtual_hosts": hosts,
        "validate_clusters": False,
        "ignore_port_in_host_matching": True,
        "max_direct_response_body_size_bytes": 1048576,
    }


def _filter(name: str, type_name: str, **config: Any) -> Json:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.http.{type_name}", **config}}


def _custom_authorization(registry: Registry) -> list[Json]:
    """Return the two filters of an AuthorizationPolicy with CUSTOM: which requests, and whom."""
    policy = registry.spec("AuthorizationPolicy", "ringback")
    known(policy, "selector", "action", "provider", "rules")
    assert (policy["action"], policy["rules"]) == ("CUSTOM", [{}])
    place = registry.named("AuthorizationPolicy", "ringback").split("/")
    name = "istio-ext-authz-ns[{}]-policy[{}]-rule[0]".format(*place)
    rules = {"action": "DENY", "policies": {name: {"permissions": _ANY, "principals": _ANY}}}
    shadow = _filter(
        "envoy.filters.http.rbac",
        "rbac.v3.RBAC",
        shadow_rules=rules,
        shadow_rules_stat_prefix="istio_ext_authz_",
    )
    provider = known(
        registry.provider(policy["provider"]["name"]),
        *("service", "port", "timeout", "failOpen", "statusOnError", "clearRouteCache"),
        "includeRequestBodyInCheck",
    )
    cluster = cluster_name(provider["service"].partition("/")[2], provider["port"])
    body = known(
        provider["includeRequestBodyInCheck"],
        *("maxRequestBytes", "allowPartialMessage", "packAsBytes"),
    )
    assert provider["statusOnError"] == "503"
    envoy_grpc = {"cluster_name": cluster, "authority": cluster.replace("|", "_.")}
    matched = {
        "filter": "envoy.filters.http.rbac",
        "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}],
        "value": {"string_match": {"prefix": "istio-ext-authz"}},
    }
    authz = _filter(
        "envoy.filters.http.ext_authz",
        "ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        grpc_service={"envoy_grpc": envoy_grpc, "timeout": provider["timeout"]},
        failure_mode_allow=provider["failOpen"],
        status_on_error={"code": "ServiceUnavailable"},
        clear_route_cache=provider["clearRouteCache"],
        with_request_body={
            "max_request_bytes": body["maxRequestBytes"],
            "allow_partial_message": body["allowPartialMessage"],
            "pack_as_bytes": body["packAsBytes"],
        },
        filter_enabled_metadata=matched,
    )
    return [shadow, authz]
