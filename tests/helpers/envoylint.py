"""What must hold in any Envoy bootstrap of ours, whatever else it says: nothing fails open."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from ringback.cli.passthrough import PASSTHROUGH
from ringback.contract import (
    AUTHZ_NAMESPACE,
    CLUSTER_HEADER,
    EGRESS_LISTENER,
    INGRESS_LISTENER,
    OUTCOME,
    OUTCOME_SIDEBAND,
    OUTCOME_WEBSOCKET,
    ROUTE_HEADER,
)

Json = dict[str, Any]

_CHECKS: Final = ("envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc")
# In this order: what refuses cheaply comes first, and behind each service its interlock.
_FILTERS: Final = (
    "envoy.filters.http.cors",
    "envoy.filters.http.header_mutation",
    "envoy.filters.http.header_to_metadata",
    "answer_interlock",
    "envoy.filters.http.fault",
    "envoy.filters.http.buffer",
    "envoy.filters.http.ext_authz",
    "authz_interlock",
    "envoy.filters.http.ext_proc",
    "offer_hold",
    "proc_interlock",
    "envoy.filters.http.router",
)
# The route that takes WebSockets upstream, and what it may say of filters.
_WEBSOCKET: Final = "upstream_websocket"
_WEBSOCKET_OVERRIDES: Final = {"proc_interlock", "answer_interlock"}
# The route that takes offers upstream, of which sdpfilter sees the body alone, and all that it may
# say of filters.
_OFFER: Final = "upstream"
_OFFER_MODE: Final = {
    "request_header_mode": "SKIP",
    "request_body_mode": "BUFFERED",
    "response_header_mode": "SEND",
    "response_body_mode": "BUFFERED",
}
# Fields that let requests pass unchecked if they have any other value, wherever they stand.
_FIXED: Final[dict[str, object]] = {
    "failure_mode_allow": False,
    "failure_mode_allow_header_add": False,
    "failure_mode_deny_percent": None,
    "allow_partial_message": False,
    "observability_mode": False,
    "shadow_rules": None,
    "filter_enabled": None,
    "filter_enabled_metadata": None,
    "allow_mode_override": False,
}
# Fields that have to be there, with a value that nobody has to look up.
_REQUIRED: Final = {
    "ExtAuthz": ("failure_mode_allow", "validate_mutations", "status_on_error"),
    "ExternalProcessor": ("failure_mode_allow", "message_timeout", "status_on_error"),
    "HttpConnectionManager": ("request_timeout", "stream_idle_timeout", "normalize_path"),
}


def parts(value: Any, path: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every object of a bootstrap with its path; named ones by their names."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from parts(item, f"{path}/{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            name = item.get("name", index) if isinstance(item, dict) else index
            yield from parts(item, f"{path}/{name}")


def type_of(part: Json) -> str:
    """Return the last word of a part's ``@type``."""
    return str(part.get("@type", "")).rpartition(".")[2]


def named(items: list[Json], name: str) -> Json:
    """Return the one part with a name."""
    (part,) = [item for item in items if item["name"] == name]
    return part


def manager(bootstrap: Json, listener: str = INGRESS_LISTENER) -> Json:
    """Return the HTTP connection manager of a listener."""
    found = named(bootstrap["static_resources"]["listeners"], listener)
    ((only,),) = [chain["filters"] for chain in found["filter_chains"]]
    config: Json = only["typed_config"]
    return config


def http_filter(bootstrap: Json, name: str) -> Json:
    """Return the configuration of an HTTP filter of the ingress."""
    config: Json = named(manager(bootstrap)["http_filters"], name)["typed_config"]
    return config


def routes(bootstrap: Json, listener: str = INGRESS_LISTENER) -> list[Json]:
    """Return the routes of the one virtual host of a listener."""
    (host,) = manager(bootstrap, listener)["route_config"]["virtual_hosts"]
    found: list[Json] = host["routes"]
    return found


def lint(bootstrap: Json) -> list[str]:
    """Return every offence, one line each; none for a bootstrap that may be used."""
    rules: tuple[Callable[[Json], Iterator[str]], ...] = (
        _fixed_fields,
        _required_fields,
        _timeouts,
        _loopback,
        _filter_order,
        _opt_outs,
        _switched_on,
        _exact_routes,
        _internal_addresses,
        _modes,
    )
    return [offence for rule in rules for offence in rule(bootstrap)]


def can_reach_upstream(route: Json) -> bool:
    """Tell whether a route ends anywhere but in Envoy itself."""
    return "direct_response" not in route and route["route"].get("cluster") != "nowhere"


def _fixed_fields(bootstrap: Json) -> Iterator[str]:
    for path, part in parts(bootstrap):
        for field, value in _FIXED.items():
            # CORS refuses nothing; it may be left to whoever is behind.
            if field in part and part[field] != value and type_of(part) != "CorsPolicy":
                yield f"{path}: {field} must be {value}"


def _required_fields(bootstrap: Json) -> Iterator[str]:
    for path, part in parts(bootstrap):
        for field in _REQUIRED.get(type_of(part), ()):
            if not part.get(field) and part.get(field) is not False:
                yield f"{path}: {field} is missing"
        if type_of(part) == "ExtAuthz" and part.get("validate_mutations") is not True:
            yield f"{path}: validate_mutations must be true"
        status = part.get("status_on_error", {"code": "ServiceUnavailable"})
        if status != {"code": "ServiceUnavailable"}:
            yield f"{path}: status_on_error must not blame the caller"


def _timeouts(bootstrap: Json) -> Iterator[str]:
    for path, part in parts(bootstrap):
        if "envoy_grpc" in part and "grpc_services" not in path and "timeout" not in part:
            yield f"{path}: timeout is missing"
    for listener in (INGRESS_LISTENER, EGRESS_LISTENER):
        for route in routes(bootstrap, listener):
            if can_reach_upstream(route):
                yield from _route_timeouts(route)
    if "request_headers_timeout" not in manager(bootstrap):
        yield "ingress_http: request_headers_timeout is missing"
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster.get("load_assignment", {}).get("endpoints") and "connect_timeout" not in cluster:
            yield f"cluster {cluster['name']}: connect_timeout is missing"


def _route_timeouts(route: Json) -> Iterator[str]:
    fields = route["route"]
    if route["name"] in {_WEBSOCKET, PASSTHROUGH}:
        # What streams has no end by itself.
        wanted = ["idle_timeout", *(["max_stream_duration"] if route["name"] == _WEBSOCKET else [])]
        for field in [name for name in wanted if name not in fields]:
            yield f"route {route['name']}: {field} is missing"
        return
    if fields.get("timeout", "0s") == "0s":
        yield f"route {route['name']}: timeout is missing"
    if "max_stream_duration" in fields:
        yield f"route {route['name']}: max_stream_duration makes timeout void"


def _loopback(bootstrap: Json) -> Iterator[str]:
    egress = named(bootstrap["static_resources"]["listeners"], EGRESS_LISTENER)
    for name, part in (("admin", bootstrap["admin"]), (EGRESS_LISTENER, egress)):
        if part["address"]["socket_address"]["address"] != "127.0.0.1":
            yield f"{name}: must listen on 127.0.0.1 only"


def _filter_order(bootstrap: Json) -> Iterator[str]:
    names = tuple(part["name"] for part in manager(bootstrap)["http_filters"])
    if names != _FILTERS:
        yield f"http_filters: expected {', '.join(_FILTERS)}"


def _opt_outs(bootstrap: Json) -> Iterator[str]:
    nowhere = named(bootstrap["static_resources"]["clusters"], "nowhere")
    if nowhere["load_assignment"].get("endpoints"):
        yield "cluster nowhere: must have no endpoints"
    (host,) = manager(bootstrap)["route_config"]["virtual_hosts"]
    for name in set(host.get("typed_per_filter_config", {})) - {"envoy.filters.http.cors"}:
        yield f"virtual host: {name} must not be overridden for all routes"
    for route in routes(bootstrap):
        overrides = route.get("typed_per_filter_config", {})
        if route["name"] == _WEBSOCKET:
            yield from _websocket_interlock(route, overrides)
        elif route["name"] == PASSTHROUGH:
            if route["route"].get("cluster") != PASSTHROUGH:
                yield f"route {PASSTHROUGH}: must lead to the cluster of its name"
        elif route["name"] == _OFFER:
            yield from _offer_modes(overrides)
        elif can_reach_upstream(route) and overrides:
            yield f"route {route['name']}: reaches an upstream and overrides a filter"


def _offer_modes(overrides: Json) -> Iterator[str]:
    """Say where the route does more than to spare sdpfilter the headers of an offer."""
    proc = overrides.get(_CHECKS[1], {}).get("overrides", {})
    if set(overrides) != {_CHECKS[1]} or proc != {"processing_mode": _OFFER_MODE}:
        yield f"route {_OFFER}: must show sdpfilter the offer and all of the answer"


def _websocket_interlock(route: Json, overrides: Json) -> Iterator[str]:
    """Say where the route lets more pass than what extauthz has let in as a WebSocket."""
    headers = {header["name"] for header in route["match"]["headers"]}
    if not {CLUSTER_HEADER, ROUTE_HEADER, ":method", "upgrade"} <= headers:
        yield f"route {_WEBSOCKET}: must want all of its headers"
    if set(overrides) != _WEBSOCKET_OVERRIDES or "disabled" in str(overrides):
        yield f"route {_WEBSOCKET}: overrides other filters than {_WEBSOCKET_OVERRIDES}"
    rules = overrides.get("proc_interlock", {}).get("rbac", {}).get("rules", {})
    (policy,) = rules.get("policies", {"": {}}).values()
    outcomes = f"{OUTCOME_WEBSOCKET}|{OUTCOME_SIDEBAND}"
    wanted = {
        "filter": AUTHZ_NAMESPACE,
        "path": [{"key": OUTCOME}],
        "value": {"string_match": {"safe_regex": {"regex": outcomes}}},
    }
    found = [
        principal["sourced_metadata"]["metadata_matcher"]
        for principal in policy.get("principals", ())
    ]
    if rules.get("action") != "ALLOW" or found != [wanted]:
        yield f"route {_WEBSOCKET}: its interlock must want extauthz's word"


def _switched_on(bootstrap: Json) -> Iterator[str]:
    filters = manager(bootstrap)["http_filters"]
    may_be_off = {_CHECKS[1], "offer_hold"}
    for name in {part["name"] for part in filters if part.get("disabled")} - may_be_off:
        yield f"{name}: must not be switched off"
    if named(filters, _CHECKS[1]).get("disabled"):
        for route in routes(bootstrap):
            here = route.get("typed_per_filter_config", {}).get(_CHECKS[1], {})
            if route["name"] in {"calls", "calls_form", "ready"} and "overrides" not in here:
                yield f"route {route['name']}: must switch ext_proc on"


def _exact_routes(bootstrap: Json) -> Iterator[str]:
    for route in routes(bootstrap):
        overrides = route.get("typed_per_filter_config", {})
        if route["name"] in {_WEBSOCKET, _OFFER, PASSTHROUGH}:
            continue
        opens = set(overrides) - {"envoy.filters.http.fault"}
        methods = [
            header["string_match"].get("exact")
            for header in route["match"].get("headers", ())
            if header["name"] == ":method"
        ]
        if opens and not ("path" in route["match"] and len(methods) == 1 and methods[0]):
            yield f"route {route['name']}: overrides a filter without an exact path and method"


def _internal_addresses(bootstrap: Json) -> Iterator[str]:
    # Present and empty, it means all private addresses.
    if (
        not manager(bootstrap)
        .get("internal_address_config", {"cidr_ranges": [{}]})
        .get("cidr_ranges")
    ):
        yield "internal_address_config: must not be empty"


def _modes(bootstrap: Json) -> Iterator[str]:
    for path, part in parts(bootstrap):
        for field in ("request_body_mode", "response_body_mode"):
            if part.get(field, "NONE") not in {"NONE", "BUFFERED"}:
                yield f"{path}: {field} must be BUFFERED, or NONE where there is nothing to check"
    mode = http_filter(bootstrap, _CHECKS[1])["processing_mode"]
    wanted = {"request_header_mode": "SEND", "request_body_mode": "BUFFERED"}
    wanted |= {"response_header_mode": "SEND", "response_body_mode": "BUFFERED"}
    if any(mode.get(field) != value for field, value in wanted.items()):
        yield "ext_proc: processing_mode must send everything unless a route says otherwise"
