"""Clusters: pilot/pkg/networking/core/cluster_builder.go, _traffic_policy.go, _tls.go."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from helpers.istiod.registry import Registry, known

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/envoy.extensions"
_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_NO_LIMIT: Final = 4294967295
# Where proxies find what the machine trusts, if a DestinationRule names nothing else.
_SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"


def cluster_name(host: str, port: int) -> str:
    """Return the name of the cluster of a host of the registry."""
    return f"outbound|{port}||{host}"


def service_cluster(registry: Registry, host: str, port: int, addresses: Sequence[str]) -> Json:
    """Return the cluster of a Service with gRPC.

    Args:
        registry: With its DestinationRule.
        host: Its full name.
        port: Its port.
        addresses: Endpoints, which istiod would send when asked: ``unix:/path`` or ``host:port``.
    """
    name = cluster_name(host, port)
    endpoints = [{"endpoint": {"address": _address(text)}} for text in addresses]
    cluster = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
    options: Json = {
        "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 1073741824}}
    }
    policy = registry.traffic_policy(host, port)
    # The mesh's certificates, which there are none of here.
    assert policy.pop("tls") == {"mode": "ISTIO_MUTUAL"}
    return _with_policy(cluster, options, policy)


def entry_clusters(registry: Registry, entry: Json) -> Iterator[Json]:
    """Give the clusters of a ServiceEntry with one host: one for each port."""
    known(
        entry,
        *("hosts", "exportTo", "location", "resolution", "ports", "addresses", "endpoints"),
    )
    for port in entry["ports"]:
        known(port, "name", "number", "protocol", "targetPort")
        assert port["protocol"] in {"HTTP", "TLS"}
        yield _entry_cluster(registry, entry, port)


def _entry_cluster(registry: Registry, entry: Json, port: Json) -> Json:
    (host,) = entry["hosts"]
    name = cluster_name(host, port["number"])
    target = port.get("targetPort", port["number"])
    cluster: Json = {"name": name, "load_assignment": {"cluster_name": name}}
    match entry["resolution"]:
        case "STATIC":
            cluster["type"] = "STATIC"
            addresses = [endpoint["address"] for endpoint in entry["endpoints"]]
        case "DNS":
            addresses = [host]
            cluster |= {"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY"}
            cluster |= {"dns_refresh_rate": "60s", "respect_dns_ttl": True}
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": target}}}}
        for address in addresses
    ]
    if endpoints:
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]
    options: Json = {"explicit_http_config": {"http_protocol_options": {}}}
    return _with_policy(cluster, options, registry.traffic_policy(host, port["number"]))


def _with_policy(cluster: Json, options: Json, policy: Json) -> Json:
    known(policy, "connectionPool", "outlierDetection", "loadBalancer", "tls")
    cluster |= {"connect_timeout": "10s", "lb_policy": "LEAST_REQUEST", "common_lb_config": {}}
    _apply_pool(cluster, options, policy.get("connectionPool", {}))
    if "outlierDetection" in policy:
        _apply_outlier_detection(cluster, policy["outlierDetection"])
    if "loadBalancer" in policy:
        cluster["lb_policy"] = known(policy["loadBalancer"], "simple")["simple"]
    _apply_tls(cluster, options, policy.get("tls", {"mode": "DISABLE"}))
    options["@type"] = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
    cluster["typed_extension_protocol_options"] = {_HTTP: options}
    return cluster


def _apply_pool(cluster: Json, options: Json, pool: Json) -> None:
    known(pool, "tcp", "http")
    tcp = known(pool.get("tcp", {}), "connectTimeout", "maxConnections", "tcpKeepalive")
    http = known(
        pool.get("http", {}),
        *("http1MaxPendingRequests", "http2MaxRequests", "maxRetries", "idleTimeout"),
        "h2UpgradePolicy",
    )
    assert http.get("h2UpgradePolicy", "DO_NOT_UPGRADE") == "DO_NOT_UPGRADE"
    # Zero is the same as nothing.
    limits = {
        "max_retries": http.get("maxRetries") or _NO_LIMIT,
        "max_requests": http.get("http2MaxRequests") or _NO_LIMIT,
        "max_connections": tcp.get("maxConnections") or _NO_LIMIT,
        "max_pending_requests": http.get("http1MaxPendingRequests") or _NO_LIMIT,
        "track_remaining": True,
    }
    cluster["circuit_breakers"] = {"thresholds": [limits]}
    if "connectTimeout" in tcp:
        cluster["connect_timeout"] = tcp["connectTimeout"]
    if keepalive := tcp.get("tcpKeepalive"):
        known(keepalive, "time", "interval")
        written = {f"keepalive_{name}": _seconds(text) for name, text in keepalive.items()}
        cluster["upstream_connection_options"] = {"tcp_keepalive": written}
    if "idleTimeout" in http:
        options["common_http_protocol_options"] = {"idle_timeout": http["idleTimeout"]}


def _apply_outlier_detection(cluster: Json, detection: Json) -> None:
    known(
        detection,
        *("splitExternalLocalOriginErrors", "consecutiveLocalOriginFailures"),
        *("consecutiveGatewayErrors", "consecutive5xxErrors"),
        *("interval", "baseEjectionTime", "maxEjectionPercent"),
    )
    written: Json = {
        "enforcing_success_rate": 0,
        "interval": detection["interval"],
        "base_ejection_time": detection["baseEjectionTime"],
        "max_ejection_percent": detection["maxEjectionPercent"],
    }
    for name, count in (
        ("consecutive_5xx", detection["consecutive5xxErrors"]),
        ("consecutive_gateway_failure", detection["consecutiveGatewayErrors"]),
    ):
        written |= {name: count, f"enforcing_{name}": 100 if count else 0}
    if detection.get("splitExternalLocalOriginErrors"):
        written |= {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": detection["consecutiveLocalOriginFailures"],
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
        }
    cluster["outlier_detection"] = written
    # Istio never sends requests to those that are known to be bad.
    cluster["common_lb_config"]["healthy_panic_threshold"] = {"value": 0}


def _apply_tls(cluster: Json, options: Json, tls: Json) -> None:
    if tls["mode"] == "DISABLE":
        return
    known(tls, "mode", "sni", "subjectAltNames", "caCertificates")
    assert tls["mode"] == "SIMPLE"
    if not tls.get("sni"):
        options["upstream_http_protocol_options"] = {"auto_sni": True}
    names = [{"exact": name} for name in tls["subjectAltNames"]]
    # Istio's agent reads the file and sends it as a secret.
    trusted = {"filename": tls.get("caCertificates", _SYSTEM_CA)}
    context: Json = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": tls.get("sni", ""),
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "validation_context": {"trusted_ca": trusted, "match_subject_alt_names": names},
        },
    }
    cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _address(text: str) -> Json:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))
