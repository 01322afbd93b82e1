"""Rules for any Envoy file: settings with which requests pass unchecked, or wait for ever.

Each was measured; https://www.envoyproxy.io/docs/envoy/latest/api-v3/api has the fields.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from ringback.contract import PASSTHROUGH
from ringback.envoylint.parts import Json, Offence, Part, offence, parts, type_of

# Fields that let requests pass unchecked if they have any other value, wherever they stand.
_FIXED: Final[dict[str, tuple[object, str]]] = {
    "failure_mode_allow": (False, "requests pass while the service is down"),
    "failure_mode_allow_header_add": (False, "requests pass while the service is down"),
    "failure_mode_deny_percent": (None, "some requests pass while the service is down"),
    "allow_partial_message": (False, "what is behind the limit passes unread"),
    "observability_mode": (False, "the service is told and not asked"),
    "shadow_mode": (False, "refusals are counted and not made"),
    "shadow_rules": (None, "refusals are counted and not made"),
    "filter_enabled": (None, "the filter looks at some requests only"),
    "filter_enabled_metadata": (None, "the filter looks at some requests only"),
    "allow_mode_override": (False, "the service may switch its own checks off"),
}
# Fields that have to be there, with a value that nobody has to look up.
_REQUIRED: Final = {
    "ExtAuthz": ("failure_mode_allow", "status_on_error"),
    "ExternalProcessor": ("failure_mode_allow", "message_timeout", "status_on_error"),
    "HttpConnectionManager": ("request_timeout", "stream_idle_timeout", "normalize_path"),
}
_BODY_MODES: Final = ("request_body_mode", "response_body_mode")
_UNAVAILABLE: Final[Json] = {"code": "ServiceUnavailable"}
# What access logs must not show: credentials, paths with their queries, addresses.
_PRIVATE: Final = re.compile(
    r"%(REQ\((?i:authorization|cookie|x-forwarded-for|api-key|x-api-key|:path|x-envoy-original-path"
    r"|sec-websocket-protocol)|DOWNSTREAM_(DIRECT_)?REMOTE_ADDRESS|REQUEST_BODY|PATH)"
)


def fixed_fields(root: Json) -> Iterator[Offence]:
    """Switches that open a check stand as they must."""
    for part in parts(root):
        for field, (value, why) in _FIXED.items():
            # CORS refuses nothing; it may be left to whoever is behind.
            is_wrong = field in part.value and part.value[field] != value
            if is_wrong and type_of(part.value) != "CorsPolicy":
                what = "remove it" if value is None else f"set it to {str(value).lower()}"
                yield offence(part, f"{why}; {what}", field)


def required_fields(root: Json) -> Iterator[Offence]:
    """Fields whose default is a trap are written out."""
    for part in parts(root):
        fields, kind = part.value, type_of(part.value)
        for field in _REQUIRED.get(kind, ()):
            if not fields.get(field) and fields.get(field) is not False:
                yield offence(part, f"{field} is missing; write it, its default is a trap")
        if kind == "ExtAuthz" and fields.get("validate_mutations") is not True:
            advice = "a CR or LF in a value splits the answer; set validate_mutations: true"
            yield offence(part, advice)
        if fields.get("status_on_error", _UNAVAILABLE) != _UNAVAILABLE:
            advice = "blames the caller; set code: ServiceUnavailable"
            yield offence(part, advice, "status_on_error")
        if kind == "HttpConnectionManager" and fields.get("normalize_path") is False:
            advice = "routes can be passed by with /../; set it to true"
            yield offence(part, advice, "normalize_path")


def body_modes(root: Json) -> Iterator[Offence]:
    """Bodies are checked whole or not at all."""
    for part in parts(root):
        for field in _BODY_MODES:
            if part.value.get(field, "NONE") not in {"NONE", "BUFFERED"}:
                advice = "a part of the body passes before the rest is checked; set BUFFERED"
                yield offence(part, f"{advice}, or NONE where there is nothing to check", field)


def opt_outs(root: Json) -> Iterator[Offence]:
    """Only an exact path and one method switch a check off, and the passthrough by its name."""
    for part in parts(root):
        overrides = part.value.get("typed_per_filter_config")
        if not isinstance(overrides, dict):
            continue
        off = [name for name, override in overrides.items() if _switches_off(override)]
        if not off or _is_exact(part.value) or _is_passthrough(part.value):
            continue
        yield offence(
            part,
            f"{', '.join(off)} switched off for more than one exact path and method, which other "
            "paths can be made to match; match path: and one :method",
        )


def hosts(root: Json) -> Iterator[Offence]:
    """Where hosts are told apart, no other host gets to an upstream."""
    for part in parts(root):
        virtual_hosts = part.value.get("virtual_hosts")
        if not isinstance(virtual_hosts, list) or len(virtual_hosts) < 2:
            continue
        for index, host in enumerate(virtual_hosts):
            if "*" in host.get("domains", ()) and any(map(can_reach_upstream, host["routes"])):
                yield Offence(
                    f"{part.path}/virtual_hosts/{host.get('name', index)}",
                    (*part.keys, "virtual_hosts", index, "domains"),
                    "every host that no other entry names gets to an upstream; name the hosts, or "
                    "let '*' answer 404",
                )


def origins(root: Json) -> Iterator[Offence]:
    """Pages of any origin are nobody's wish."""
    for part in parts(root):
        if type_of(part.value) != "CorsPolicy":
            continue
        for index, match in enumerate(part.value.get("allow_origin_string_match", ())):
            if _matches_anything(match):
                inner = ("allow_origin_string_match", index)
                yield Offence(
                    f"{part.path}/allow_origin_string_match/{index}",
                    (*part.keys, *inner),
                    "pages of every origin may call; name the origins",
                )


def admin(root: Json) -> Iterator[Offence]:
    """The admin interface is for this machine."""
    address = root.get("admin", {}).get("address", {})
    if address and not is_local(address):
        part = Part("admin", ("admin",), root["admin"])
        advice = "whoever reaches it can stop Envoy and read its secrets; listen on 127.0.0.1"
        yield offence(part, advice, "address")


def grpc_timeouts(root: Json) -> Iterator[Offence]:
    """Each gRPC service that a request waits for has a timeout."""
    for part in parts(root):
        is_stream = "grpc_services" in part.keys or "tracing" in part.keys
        if "envoy_grpc" in part.value and not is_stream and "timeout" not in part.value:
            yield offence(part, "timeout is missing; write it, the default is 200 ms or none")


def route_timeouts(root: Json) -> Iterator[Offence]:
    """Each route to an upstream ends some time."""
    for part in parts(root):
        if "match" not in part.value or not can_reach_upstream(part.value):
            continue
        fields = part.value["route"]
        if fields.get("timeout", "0s") != "0s":
            if "max_stream_duration" in fields:
                advice = "makes timeout void; choose one"
                yield offence(part, advice, "route", "max_stream_duration")
        elif "idle_timeout" not in fields:
            advice = "timeout is missing; write one, or for what streams an idle_timeout"
            yield offence(part, advice, "route")
        elif "upgrade_configs" in fields and "max_stream_duration" not in fields:
            yield offence(part, "max_stream_duration is missing: an upgrade has no end", "route")


def cluster_timeouts(root: Json) -> Iterator[Offence]:
    """Each cluster with endpoints gives up connecting some time."""
    for part in parts(root):
        where = part.value.get("load_assignment")
        has_endpoints = isinstance(where, dict) and where.get("endpoints")
        if has_endpoints and "connect_timeout" not in part.value:
            yield offence(part, "connect_timeout is missing; the default is 5 s")


def slow_headers(root: Json) -> Iterator[Offence]:
    """Listeners for the world do not wait for headers for ever."""
    for index, listener in enumerate(root.get("static_resources", {}).get("listeners", ())):
        if is_local(listener.get("address", {})):
            continue
        keys = ("static_resources", "listeners", index)
        for part in parts(listener, f"static_resources/listeners/{listener.get('name')}", keys):
            is_manager = type_of(part.value) == "HttpConnectionManager"
            if is_manager and "request_headers_timeout" not in part.value:
                advice = "request_headers_timeout is missing: slow headers hold a connection"
                yield offence(part, f"{advice}; set 3s")


def internal_addresses(root: Json) -> Iterator[Offence]:
    """Nobody is internal by accident: present and empty, the field means all private addresses."""
    for part in parts(root):
        config = part.value.get("internal_address_config")
        if config is not None and not config.get("cidr_ranges"):
            advice = "makes all private addresses trusted; remove it or name ranges"
            yield offence(part, advice, "internal_address_config")


def access_logs(root: Json) -> Iterator[Offence]:
    """Access logs show no credential, no path and no address."""
    for part in parts(root):
        if "StdoutAccessLog" not in type_of(part.value) and "access_log" not in part.keys:
            continue
        for field, value in part.value.items():
            if isinstance(value, str) and _PRIVATE.search(value):
                yield offence(part, "shows what logs must not hold; remove it", field)


RULES: Final = (
    fixed_fields,
    required_fields,
    body_modes,
    opt_outs,
    hosts,
    origins,
    admin,
    grpc_timeouts,
    route_timeouts,
    cluster_timeouts,
    slow_headers,
    internal_addresses,
    access_logs,
)


def can_reach_upstream(route: Json) -> bool:
    """Tell whether a route ends anywhere but in Envoy itself."""
    return isinstance(route.get("route"), dict) and route["route"].get("cluster") != "nowhere"


def is_local(address: Any) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if not isinstance(address, dict):
        return False
    if "pipe" in address:
        return True
    try:
        return ip_address(str(address.get("socket_address", {}).get("address"))).is_loopback
    except ValueError:
        return False


def _switches_off(override: Any) -> bool:
    if not isinstance(override, dict):
        return False
    is_empty_rbac = type_of(override) == "RBACPerRoute" and not override.get("rbac")
    return override.get("disabled") is True or is_empty_rbac


def _is_exact(route: Json) -> bool:
    match = route.get("match", {})
    methods = [
        header.get("string_match", {}).get("exact")
        for header in match.get("headers", ())
        if header.get("name") == ":method"
    ]
    return "path" in match and len(methods) == 1 and bool(methods[0])


def _is_passthrough(route: Json) -> bool:
    is_named = route.get("name") == PASSTHROUGH
    return is_named and route.get("route", {}).get("cluster") == PASSTHROUGH


def _matches_anything(match: Json) -> bool:
    return (
        match.get("prefix") == ""
        or match.get("contains") == ""
        or match.get("exact") == "*"
        or match.get("safe_regex", {}).get("regex") in {".*", ".+", "^.*$"}
    )
