"""Listener and bootstrap: internal/xds/translator/translator.go, listener.go."""

from collections.abc import Mapping
from typing import Any, Final

from helpers.envoygateway import filters
from helpers.envoygateway.clusters import certificate, service_cluster, transport_socket
from helpers.envoygateway.resources import Json, Resources, known, name_of, size_of
from helpers.envoygateway.routes import IrRoute, read_routes, route_clusters, xds_route

_NETWORK: Final = "type.googleapis.com/envoy.extensions.filters.network"
_SLASHES: Final = {"RejectRequest": "REJECT_REQUEST"}
_UNDERSCORES: Final = {"RejectRequest": "REJECT_REQUEST"}


def translate(resources: Resources) -> Json:
    """Return a static bootstrap with what Envoy Gateway would serve; the listener is the first.

    Args:
        resources: The manifests of one Gateway with one listener.

    Raises:
        UntranslatedError: If a manifest says what is not known here.
    """
    gateway = resources.only("Gateway")
    routes = read_routes(resources)
    clusters = [*route_clusters(routes, resources), *_service_clusters(resources)]
    return {
        "static_resources": {
            "listeners": [_listener(gateway, routes, resources)],
            "clusters": clusters,
        }
    }


def _listener(gateway: Json, routes: list[IrRoute], resources: Resources) -> Json:
    (listener,) = gateway["spec"]["listeners"]
    client = resources.only("ClientTrafficPolicy")["spec"]
    connection = known(client["connection"], "bufferLimit", "connectionLimit")
    metadata = gateway["metadata"]
    name = f"{metadata['namespace']}/{metadata['name']}/{listener['name']}"
    prefix = f"{listener['protocol'].lower()}-{listener['port'] + 10000}"
    limit = {
        "@type": f"{_NETWORK}.connection_limit.v3.ConnectionLimit",
        "stat_prefix": prefix,
        "max_connections": connection["connectionLimit"]["value"],
    }
    manager = _manager(prefix, client, routes, resources)
    manager["route_config"] = {
        "name": name,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            {
                "name": f"{name}/*",
                "domains": ["*"],
                "routes": [xds_route(route, resources) for route in routes],
            }
        ],
    }
    return {
        "name": name,
        "address": {
            "socket_address": {"address": "0.0.0.0", "port_value": listener["port"] + 10000}
        },
        "drain_type": "MODIFY_ONLY",
        "max_connections_to_accept_per_socket_event": 1,
        "per_connection_buffer_limit_bytes": size_of(connection["bufferLimit"]),
        "default_filter_chain": {
            "name": name,
            **_downstream_tls(listener, resources),
            "filters": [
                {"name": "envoy.filters.network.connection_limit", "typed_config": limit},
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
            ],
        },
    }


def _downstream_tls(listener: Json, resources: Resources) -> Json:
    if "tls" not in listener:
        return {}
    (reference,) = known(listener["tls"], "mode", "certificateRefs")["certificateRefs"]
    secret = resources.secrets[reference["name"]]
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
        ".DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [certificate(secret)],
        },
    }
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _manager(
    prefix: str, client: Mapping[str, Any], routes: list[IrRoute], resources: Resources
) -> Json:
    known(
        client,
        *("connection", "headers", "healthCheck", "http2", "path", "targetRefs", "timeout"),
    )
    headers = known(
        client["headers"],
        *("earlyRequestHeaders", "lateResponseHeaders", "requestID", "withUnderscoresAction"),
        "maxRequestHeaderLimit",
    )
    http2 = known(
        client["http2"],
        *("initialConnectionWindowSize", "initialStreamWindowSize", "maxConcurrentStreams"),
    )
    early = known(headers["earlyRequestHeaders"], "remove", "removeOnMatch")
    timeout = known(
        client["timeout"]["http"],
        *("idleTimeout", "requestHeadersReceivedTimeout", "requestReceivedTimeout"),
        "streamIdleTimeout",
    )
    assert headers["requestID"] == "Generate"
    return {
        "@type": f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": prefix,
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        "use_remote_address": True,
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": _SLASHES[client["path"]["escapedSlashesAction"]],
        "max_request_headers_kb": size_of(headers["maxRequestHeaderLimit"]) // 1024,
        "request_timeout": timeout["requestReceivedTimeout"],
        "request_headers_timeout": timeout["requestHeadersReceivedTimeout"],
        "stream_idle_timeout": timeout["streamIdleTimeout"],
        "common_http_protocol_options": {
            "idle_timeout": timeout["idleTimeout"],
            "headers_with_underscores_action": _UNDERSCORES[headers["withUnderscoresAction"]],
        },
        "http2_protocol_options": {
            "max_concurrent_streams": http2["maxConcurrentStreams"],
            "initial_stream_window_size": size_of(http2["initialStreamWindowSize"]),
            "initial_connection_window_size": size_of(http2["initialConnectionWindowSize"]),
        },
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation"
                    ".header_mutation.v3.HeaderMutation",
                    "mutations": filters.removals(early),
                },
            }
        ],
        "access_log": _access_log(resources.only("EnvoyProxy")["spec"]["telemetry"]["accessLog"]),
        "http_filters": _http_filters(client, routes, resources),
    }


def _http_filters(
    client: Mapping[str, Any], routes: list[IrRoute], resources: Resources
) -> list[Json]:
    path = {"name": ":path", "string_match": {"exact": client["healthCheck"]["path"]}}
    made = [
        filters.plain(filters.CORS, "cors.v3.Cors"),
        filters.plain(filters.RBAC, "rbac.v3.RBAC"),
        filters.plain(filters.ROUTER, "router.v3.Router", suppress_envoy_headers=True),
        filters.plain(
            filters.HEALTH, "health_check.v3.HealthCheck", pass_through_mode=False, headers=[path]
        ),
        filters.header_mutation(client["headers"]["lateResponseHeaders"]),
    ]
    limits = [
        size_of(route.traffic["spec"]["requestBuffer"]["limit"])
        for route in routes
        if route.traffic and "requestBuffer" in route.traffic["spec"]
    ]
    buffer = filters.plain(filters.BUFFER, "buffer.v3.Buffer", max_request_bytes=limits[0])
    made.append({**buffer, "disabled": True})
    for policy in resources.documents:
        match policy["kind"], policy.get("spec"):
            case "SecurityPolicy", {"extAuth": _}:
                made.append(filters.ext_authz(policy, f"{name_of(policy)}/extauth/0"))
            case "EnvoyExtensionPolicy", _:
                made.append(filters.ext_proc(policy, f"{name_of(policy)}/extproc/0"))
            case "BackendTrafficPolicy", {"responseOverride": _}:
                made.append(filters.custom_response(policy))
    known(resources.only("EnvoyProxy")["spec"], "telemetry")
    return filters.ordered(made)


def _service_clusters(resources: Resources) -> list[Json]:
    made = []
    for policy in resources.all("SecurityPolicy"):
        if "extAuth" in policy["spec"]:
            grpc = policy["spec"]["extAuth"]["grpc"]
            made.append(_service(f"{name_of(policy)}/extauth/0", grpc, resources))
    for policy in resources.all("EnvoyExtensionPolicy"):
        (spec,) = policy["spec"]["extProc"]
        made.append(_service(f"{name_of(policy)}/extproc/0", spec, resources))
    return made


def _service(name: str, spec: Mapping[str, Any], resources: Resources) -> Json:
    (reference,) = spec["backendRefs"]
    addresses = resources.services[reference["name"]]
    cluster = service_cluster(name, addresses, spec["backendSettings"])
    if reference["kind"] == "Backend":
        # With the addresses that its name stands for.
        cluster["transport_socket"] = transport_socket(
            resources.get("Backend", reference["name"]), resources
        )
    return cluster


def _access_log(settings: Mapping[str, Any]) -> list[Json]:
    (one,) = settings["settings"]
    (sink,) = one["sinks"]
    config = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": sink["file"]["path"],
        "log_format": {"json_format": dict(one["format"]["json"])},
    }
    return [{"name": "envoy.access_loggers.file", "typed_config": config}]
