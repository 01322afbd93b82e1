"""Clusters: internal/xds/translator/cluster.go, backendtlspolicy.go."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, Final

from helpers.envoygateway.resources import Json, Resources, known, size_of

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_URL: Final = "type.googleapis.com/envoy"
_SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
_TLS_VERSIONS: Final = {"1.2": "TLSv1_2", "1.3": "TLSv1_3"}
_BUFFER_BYTES: Final = 32768
_THRESHOLDS: Final = ("unhealthyThreshold", "healthyThreshold")
_AUTHORITIES: Final = ("wellKnownCACertificates", "caCertificateRefs")


def backend_cluster(name: str, backend: Json, traffic: Mapping[str, Any], all_: Resources) -> Json:
    """Return the cluster of a Backend that the rule of a route refers to.

    Args:
        name: Of the cluster.
        backend: The Backend.
        traffic: The spec of the BackendTrafficPolicy that holds.
        all_: Where its BackendTLSPolicy is.
    """
    spec = known(backend["spec"], "endpoints", "tls")
    (endpoint,) = spec["endpoints"]
    cluster = _cluster(name, traffic)
    if "fqdn" in endpoint:
        address = endpoint["fqdn"]
        cluster["type"] = "STRICT_DNS"
        target = _socket_address(address["hostname"], address["port"])
    elif "ip" in endpoint:
        target = _socket_address(endpoint["ip"]["address"], endpoint["ip"]["port"])
    else:
        target = {"pipe": {"path": endpoint["unix"]["path"]}}
    cluster["load_assignment"] = _assignment(name, [target])
    tls = transport_socket(backend, all_)
    if tls is not None:
        cluster["transport_socket"] = tls
    upstream = _common_options(traffic)
    if tls is not None:
        upstream["auto_config"] = {"http_protocol_options": {}, "http2_protocol_options": {}}
    elif upstream:
        upstream["explicit_http_config"] = {"http_protocol_options": {}}
    if upstream:
        cluster["typed_extension_protocol_options"] = _options(upstream)
    return cluster


def service_cluster(name: str, addresses: Iterable[str], settings: Mapping[str, Any]) -> Json:
    """Return the cluster of a service that speaks gRPC.

    Args:
        name: Of the cluster.
        addresses: Of its endpoints.
        settings: ``backendSettings`` of the policy.
    """
    known(settings, "circuitBreaker", "healthCheck", "http2", "retry", "timeout")
    cluster = _cluster(name, settings)
    cluster["load_assignment"] = _assignment(name, [_address(text) for text in addresses])
    http2: Json = {}
    if keepalive := settings.get("http2", {}).get("connectionKeepalive"):
        http2["connection_keepalive"] = dict(known(keepalive, "interval", "timeout"))
    cluster["typed_extension_protocol_options"] = _options(
        {"explicit_http_config": {"http2_protocol_options": http2}}
    )
    return cluster


def transport_socket(backend: Json, all_: Resources) -> Json | None:
    """Return the transport socket of a Backend; its BackendTLSPolicy goes before its own words."""
    name = backend["metadata"]["name"]
    validation: dict[str, Any] = {}
    for policy in all_.all("BackendTLSPolicy"):
        if name in {target["name"] for target in policy["spec"]["targetRefs"]}:
            validation = dict(policy["spec"]["validation"])
    own = backend["spec"].get("tls")
    if own is None and not validation:
        return None
    client = known(
        own or {}, "minVersion", "alpnProtocols", "sni", "clientCertificateRef", *_AUTHORITIES
    )
    known(validation, "hostname", "subjectAltNames", *_AUTHORITIES)
    host = validation["hostname"]
    common: Json = {
        "tls_params": {
            "tls_minimum_protocol_version": _TLS_VERSIONS[client["minVersion"]],
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "alpn_protocols": list(client["alpnProtocols"]),
        "validation_context": {
            "trusted_ca": _trusted(validation, all_),
            "match_typed_subject_alt_names": _names(validation),
        },
    }
    if reference := client.get("clientCertificateRef"):
        assert reference["namespace"] == backend["metadata"]["namespace"]
        common["tls_certificates"] = [certificate(all_.secrets[reference["name"]])]
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_URL}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": host,
            "common_tls_context": common,
        },
    }


def certificate(secret: Mapping[str, str]) -> Json:
    """Return the certificate that is in a Secret."""
    return {
        "certificate_chain": {"inline_string": secret["tls.crt"]},
        "private_key": {"inline_string": secret["tls.key"]},
    }


def _names(validation: Mapping[str, Any]) -> list[Json]:
    """Return what a certificate has to have one of: the host name unless names are given."""
    if "subjectAltNames" not in validation:
        return [{"san_type": "DNS", "matcher": {"exact": validation["hostname"]}}]
    return [
        {"san_type": "URI", "matcher": {"exact": known(name, "type", "uri")["uri"]}}
        for name in validation["subjectAltNames"]
    ]


def _trusted(validation: Mapping[str, Any], all_: Resources) -> Json:
    if validation.get("wellKnownCACertificates") == "System":
        return {"filename": _SYSTEM_CA}
    (reference,) = validation["caCertificateRefs"]
    if reference["kind"] == "Secret":
        return {"inline_string": all_.secrets[reference["name"]]["ca.crt"]}
    return {"inline_string": all_.config_maps[reference["name"]]}


def _cluster(name: str, settings: Mapping[str, Any]) -> Json:
    timeout = settings.get("timeout", {}).get("tcp", {})
    cluster: Json = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": timeout.get("connectTimeout", "10s"),
        "dns_lookup_family": "V4_PREFERRED",
        "per_connection_buffer_limit_bytes": size_of(
            settings.get("connection", {}).get("bufferLimit", _BUFFER_BYTES)
        ),
        "lb_policy": "LEAST_REQUEST",
        "ignore_health_on_host_removal": True,
        "common_lb_config": {},
        "circuit_breakers": {"thresholds": [_thresholds(settings.get("circuitBreaker", {}))]},
    }
    if check := settings.get("healthCheck", {}):
        active = known(check, "active")["active"]
        known(active, "type", "grpc", "interval", "timeout", *_THRESHOLDS)
        cluster["health_checks"] = [
            {
                "grpc_health_check": {},
                "interval": active["interval"],
                "timeout": _seconds(active["timeout"]),
                "unhealthy_threshold": active["unhealthyThreshold"],
                "healthy_threshold": active["healthyThreshold"],
            }
        ]
    if keepalive := settings.get("tcpKeepalive"):
        known(keepalive, "idleTime", "interval")
        cluster["upstream_connection_options"] = {
            "tcp_keepalive": {
                "keepalive_time": int(keepalive["idleTime"].rstrip("s")),
                "keepalive_interval": int(keepalive["interval"].rstrip("s")),
            }
        }
    return cluster


def _thresholds(breaker: Mapping[str, Any]) -> Json:
    names = {
        "maxConnections": "max_connections",
        "maxPendingRequests": "max_pending_requests",
        "maxParallelRequests": "max_requests",
        "maxParallelRetries": "max_retries",
    }
    known(breaker, *names)
    return {"max_retries": 1024} | {names[key]: value for key, value in breaker.items()}


def _common_options(traffic: Mapping[str, Any]) -> Json:
    http = traffic.get("timeout", {}).get("http", {})
    options: Json = {}
    if "connectionIdleTimeout" in http:
        options["idle_timeout"] = http["connectionIdleTimeout"]
    if "maxStreamDuration" in http:
        options["max_stream_duration"] = http["maxStreamDuration"]
    return {"common_http_protocol_options": options} if options else {}


def _options(upstream: Json) -> Json:
    return {
        _HTTP_OPTIONS: {
            "@type": f"{_URL}.extensions.upstreams.http.v3.HttpProtocolOptions",
            **upstream,
        }
    }


def _assignment(name: str, addresses: Iterable[Json]) -> Json:
    endpoints = [
        {"endpoint": {"address": address}, "load_balancing_weight": 1} for address in addresses
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _address(text: str) -> Json:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return _socket_address(str(ipaddress.ip_address(host.strip("[]"))), int(port))


def _socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _seconds(duration: str) -> str:
    """Return a duration of Kubernetes, ``500ms``, as protobuf's JSON has it."""
    if duration.endswith("ms"):
        return f"{int(duration.removesuffix('ms')) / 1000:g}s"
    return duration
