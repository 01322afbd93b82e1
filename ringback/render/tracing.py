"""Traces: what Envoy's bootstrap says of them where they are switched on."""

import ipaddress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ringback.contract import EGRESS_LISTENER, INGRESS_LISTENER
from ringback.envoylint.parts import manager
from ringback.settings import TracingSettings

Json = dict[str, Any]

_CLUSTER: Final = "otlp"
_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_URL: Final = "type.googleapis.com"
_SAMPLER: Final = "envoy.tracers.opentelemetry.samplers"
_SAMPLERS: Final = f"{_URL}/envoy.extensions.tracers.opentelemetry.samplers.v3"
# Envoy sends spans at least so often; by default every five seconds.
_FLUSH_MS: Final = 1000
# Tags that would hold addresses, paths with their queries or what callers write: a tag of our own
# takes the place of Envoy's.
_HIDDEN: Final = ("http.url", "peer.address", "upstream_address", "user_agent")
# Headers by which a caller would have a say.
_CONTEXT: Final = ("traceparent", "tracestate", "baggage")


def add_tracing(bootstrap: Json, settings: TracingSettings, ca_file: Path) -> None:
    """Let both listeners send traces to the collector of the settings, if there is one.

    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/trace/v3/opentelemetry.proto

    Args:
        bootstrap: Is changed.
        settings: Where to, and whom to trust.
        ca_file: Authorities that may vouch for a collector with https.
    """
    if settings.endpoint is None:
        return
    bootstrap["layered_runtime"]["layers"].append(
        {"name": "tracing", "static_layer": {"tracing.opentelemetry.flush_interval_ms": _FLUSH_MS}}
    )
    bootstrap["static_resources"]["clusters"].append(_cluster(settings.endpoint, ca_file))
    for listener in (INGRESS_LISTENER, EGRESS_LISTENER):
        part = manager(bootstrap, listener)
        part["tracing"] = _tracing(settings, listener)
        for log in part["access_log"]:
            log["typed_config"]["log_format"]["json_format"]["trace_id"] = "%TRACE_ID%"
    egress = manager(bootstrap, EGRESS_LISTENER)
    # Envoy traces what has a request id; upstreams do not get it.
    egress["generate_request_id"] = True
    if not settings.to_upstream:
        # What extauthz has written, which Envoy would pass on.
        egress["route_config"]["request_headers_to_remove"] += ["traceparent", "tracestate"]
    if settings.trust_caller:
        for extension in manager(bootstrap)["early_header_mutation_extensions"]:
            mutations = extension["typed_config"]["mutations"]
            mutations[:] = [m for m in mutations if m.get("remove") not in _CONTEXT]


def _tracing(settings: TracingSettings, listener: str) -> Json:
    collector = {"envoy_grpc": {"cluster_name": _CLUSTER}, "timeout": "2s"}
    return {
        "client_sampling": {"value": 0},
        # The sampler decides.
        "random_sampling": {"value": 100},
        "spawn_upstream_span": True,
        "operation": listener,
        "max_path_tag_length": 0,
        "custom_tags": [{"tag": tag, "literal": {"value": "-"}} for tag in _HIDDEN],
        "no_context_propagation": not settings.to_upstream,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": f"{_URL}/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "envoy",
                "grpc_service": collector,
                "sampler": _sampler(settings.sample_ratio),
            },
        },
    }


def _sampler(ratio: float) -> Json:
    """Return what goes by the parent of a request, and by the ratio where there is none."""
    chosen = {
        "@type": f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig",
        "sampling_percentage": {"numerator": round(ratio * 1_000_000), "denominator": "MILLION"},
    }
    by_ratio = {"name": f"{_SAMPLER}.trace_id_ratio_based", "typed_config": chosen}
    by_parent = {"@type": f"{_SAMPLERS}.ParentBasedSamplerConfig", "wrapped_sampler": by_ratio}
    return {"name": f"{_SAMPLER}.parent_based", "typed_config": by_parent}


def _cluster(endpoint: str, ca_file: Path) -> Json:
    url = urlsplit(endpoint)
    address = {"socket_address": {"address": url.hostname, "port_value": url.port}}
    cluster: Json = {
        "name": _CLUSTER,
        "type": "STATIC" if _is_address(url.hostname or "") else "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"{_URL}/{_HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": _CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if url.scheme == "https":
        cluster["transport_socket"] = _tls(url.hostname or "", ca_file)
    return cluster


def _tls(host: str, ca_file: Path) -> Json:
    is_address = _is_address(host)
    names = {"san_type": "IP_ADDRESS" if is_address else "DNS", "matcher": {"exact": host}}
    context: Json = {
        "@type": f"{_URL}/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"filename": str(ca_file)},
                "match_typed_subject_alt_names": [names],
            },
        },
    }
    if not is_address:
        context["sni"] = host
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
