"""HTTP filters: internal/xds/translator/extauth.go, extproc.go, cors.go and others."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from helpers.envoygateway.matchers import authorization, overrides
from helpers.envoygateway.resources import Json, header_options, known, name_of, size_of

_URL: Final = "type.googleapis.com/envoy.extensions.filters.http"
CORS: Final = "envoy.filters.http.cors"
BUFFER: Final = "envoy.filters.http.buffer"
RBAC: Final = "envoy.filters.http.rbac"
AUTHZ: Final = "envoy.filters.http.ext_authz"
PROC: Final = "envoy.filters.http.ext_proc"
RESPONSE: Final = "envoy.filters.http.custom_response"
HEADERS: Final = "envoy.filters.http.header_mutation"
HEALTH: Final = "envoy.filters.http.health_check"
ROUTER: Final = "envoy.filters.http.router"
# Of one stream of ext_proc; it cannot be set.
_PROC_TIMEOUT: Final = "10s"
# newOrderedHTTPFilter in httpfilters.go, of those that there are here.
_ORDER: Final = (RESPONSE, HEALTH, CORS, HEADERS, AUTHZ, BUFFER, PROC, RBAC, ROUTER)
_TRIGGERS: Final = {"connect-failure", "refused-stream", "unavailable", "cancelled", "reset"}


def per_route(security: Json | None, extension: Json | None, traffic: Json | None) -> Json:
    """Return what switches filters on for a route, or says what they do there."""
    made: Json = {}
    spec = security["spec"] if security else {}
    if "cors" in spec:
        made[CORS] = _cors_policy(spec["cors"])
    if security and "extAuth" in spec:
        made[authz_name(security)] = {
            "@type": f"{_URL}.ext_authz.v3.ExtAuthzPerRoute",
            "check_settings": {},
        }
    if "authorization" in spec:
        made[RBAC] = {
            "@type": f"{_URL}.rbac.v3.RBACPerRoute",
            "rbac": {"matcher": authorization(spec["authorization"])},
        }
    if extension:
        made[proc_name(extension)] = _on()
    if traffic and "responseOverride" in traffic["spec"]:
        made[response_name(traffic)] = _on()
    if traffic and "requestBuffer" in traffic["spec"]:
        limit = size_of(traffic["spec"]["requestBuffer"]["limit"])
        made[BUFFER] = {
            "@type": f"{_URL}.buffer.v3.BufferPerRoute",
            "buffer": {"max_request_bytes": limit},
        }
    return made


def ordered(filters: Iterable[Json]) -> list[Json]:
    """Return filters in Envoy Gateway's order."""
    return sorted(filters, key=lambda one: (_rank(one), one["name"]))


def ext_authz(policy: Json, cluster: str) -> Json:
    """Return the filter of a SecurityPolicy, which routes switch on."""
    auth = policy["spec"]["extAuth"]
    known(auth, "failOpen", "statusOnError", "recomputeRoute", "timeout", "bodyToExtAuth", "grpc")
    config: Json = {
        "@type": f"{_URL}.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": auth["failOpen"],
        "status_on_error": {"code": auth["statusOnError"]},
        "clear_route_cache": auth["recomputeRoute"],
        "grpc_service": _grpc_service(auth["grpc"], cluster, auth["timeout"]),
    }
    if "bodyToExtAuth" in auth:
        body = known(auth["bodyToExtAuth"], "maxRequestBytes")
        config["with_request_body"] = {"max_request_bytes": body["maxRequestBytes"]}
    return {"name": authz_name(policy), "disabled": True, "typed_config": config}


def ext_proc(policy: Json, cluster: str) -> Json:
    """Return the filter of an EnvoyExtensionPolicy, which routes switch on."""
    (spec,) = policy["spec"]["extProc"]
    known(
        spec,
        *("backendRefs", "backendSettings", "failOpen", "messageTimeout", "metadata"),
        *("processingMode", "statusOnError"),
    )
    mode = known(spec["processingMode"], "request", "response")
    metadata = known(spec["metadata"], "accessibleNamespaces", "writableNamespaces")
    config = {
        "@type": f"{_URL}.ext_proc.v3.ExternalProcessor",
        "grpc_service": _grpc_service(spec, cluster, _PROC_TIMEOUT),
        "failure_mode_allow": spec["failOpen"],
        "message_timeout": spec["messageTimeout"],
        "status_on_error": {"code": spec["statusOnError"]},
        "processing_mode": {
            "request_header_mode": "SEND",
            "response_header_mode": "SEND",
            "request_body_mode": mode["request"]["body"].upper(),
            "response_body_mode": mode["response"]["body"].upper(),
            "request_trailer_mode": "SKIP",
            "response_trailer_mode": "SKIP",
        },
        "request_attributes": list(mode["request"].get("attributes", [])),
        "response_attributes": list(mode["response"].get("attributes", [])),
        "metadata_options": {
            "forwarding_namespaces": {"untyped": list(metadata["accessibleNamespaces"])},
            "receiving_namespaces": {"untyped": list(metadata["writableNamespaces"])},
        },
    }
    return {"name": proc_name(policy), "disabled": True, "typed_config": config}


def custom_response(policy: Json) -> Json:
    """Return the filter of a BackendTrafficPolicy with ``responseOverride``."""
    config = {
        "@type": f"{_URL}.custom_response.v3.CustomResponse",
        "custom_response_matcher": overrides(policy),
    }
    return {"name": response_name(policy), "disabled": True, "typed_config": config}


def header_mutation(late: Mapping[str, Any]) -> Json:
    """Return the filter of ``lateResponseHeaders``."""
    known(late, "set", "addIfAbsent", "removeOnMatch")
    options = header_options(late.get("set", []))
    for option in header_options(late.get("addIfAbsent", [])):
        options.append({**option, "append_action": "ADD_IF_ABSENT"})
    mutations = [{"append": option} for option in options]
    mutations += removals(late)
    config = {
        "@type": f"{_URL}.header_mutation.v3.HeaderMutation",
        "mutations": {"response_mutations": mutations},
    }
    return {"name": HEADERS, "typed_config": config}


def removals(headers: Mapping[str, Any]) -> list[Json]:
    """Return the mutations of ``remove`` and ``removeOnMatch``."""
    made: list[Json] = [{"remove": name} for name in headers.get("remove", [])]
    for match in headers.get("removeOnMatch", []):
        matcher = {match["type"].lower(): match["value"]}
        made.append({"remove_on_match": {"key_matcher": matcher}})
    return made


def plain(name: str, kind: str, **config: Any) -> Json:
    """Return a filter with a plain configuration."""
    return {"name": name, "typed_config": {"@type": f"{_URL}.{kind}", **config}}


def authz_name(policy: Json) -> str:
    """Return the name of the filter of a SecurityPolicy."""
    return f"{AUTHZ}/{name_of(policy)}"


def proc_name(policy: Json) -> str:
    """Return the name of the filter of an EnvoyExtensionPolicy."""
    return f"{PROC}/{name_of(policy)}/extproc/0"


def response_name(policy: Json) -> str:
    """Return the name of the filter of a BackendTrafficPolicy."""
    return f"{RESPONSE}/{name_of(policy)}"


def _rank(one: Json) -> int:
    return next(i for i, name in enumerate(_ORDER) if one["name"].startswith(name))


def _on() -> Json:
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def _grpc_service(service: Mapping[str, Any], cluster: str, timeout: str) -> Json:
    retry = known(service["backendSettings"]["retry"], "numRetries", "retryOn", "perRetry")
    triggers = retry["retryOn"]["triggers"]
    assert set(triggers) <= _TRIGGERS
    back_off = known(retry["perRetry"]["backOff"], "baseInterval", "maxInterval")
    return {
        "envoy_grpc": {"cluster_name": cluster},
        "timeout": timeout,
        "retry_policy": {
            "retry_on": ",".join(triggers),
            "num_retries": retry["numRetries"],
            # Whole seconds: what is less becomes 0, which Envoy refuses.
            "retry_back_off": {
                "base_interval": back_off["baseInterval"],
                "max_interval": back_off["maxInterval"],
            },
        },
    }


def _cors_policy(cors: Mapping[str, Any]) -> Json:
    return {
        "@type": f"{_URL}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_origin(origin) for origin in cors.get("allowOrigins", [])],
        "allow_methods": ", ".join(cors["allowMethods"]),
        "allow_headers": ", ".join(cors["allowHeaders"]),
        "expose_headers": ", ".join(cors["exposeHeaders"]),
        "max_age": str(int(cors["maxAge"].removesuffix("m")) * 60),
        "allow_credentials": cors["allowCredentials"],
        "forward_not_matching_preflights": False,
    }


def _origin(origin: str) -> Json:
    if "*" not in origin:
        return {"exact": origin}
    return {"safe_regex": {"regex": origin.replace(".", "\\.").replace("*", ".*")}}
