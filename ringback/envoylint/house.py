"""Rules for a bootstrap of ours: the filters, interlocks and routes that hold the door stand."""

from collections.abc import Iterator
from typing import Final

from ringback.contract import (
    ADMIN_CLUSTER,
    AUTHZ_NAMESPACE,
    CLUSTER_HEADER,
    EGRESS_LISTENER,
    INGRESS_LISTENER,
    METRICS_LISTENER,
    OUTCOME,
    OUTCOME_SIDEBAND,
    OUTCOME_WEBSOCKET,
    PASSTHROUGH,
    ROUTE_HEADER,
)
from ringback.envoylint.parts import (
    Json,
    Offence,
    http_filter,
    manager,
    named,
    parts,
    routes,
)
from ringback.envoylint.traps import can_reach_upstream, is_local

_EXT_PROC: Final = "envoy.filters.http.ext_proc"
_OFFER_HOLD: Final = "offer_hold"
# Off unless a route switches them on.
_MAY_BE_OFF: Final = frozenset({_EXT_PROC, _OFFER_HOLD})
# In this order: what refuses cheaply comes first, and behind each service its interlock.
_FILTERS: Final = (
    "envoy.filters.http.cors",
    "envoy.filters.http.header_mutation",
    "envoy.filters.http.header_to_metadata",
    "answer_interlock",
    "envoy.filters.http.fault",
    "envoy.filters.http.health_check",
    "envoy.filters.http.buffer",
    "envoy.filters.http.ext_authz",
    "authz_interlock",
    _EXT_PROC,
    _OFFER_HOLD,
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
_STATS_PATH: Final = "/stats/prometheus"


def is_ours(root: Json) -> bool:
    """Tell whether a file is meant to be a bootstrap of ours."""
    return any(
        part.keys[:2] == ("static_resources", "listeners")
        and part.value.get("name") == INGRESS_LISTENER
        for part in parts(root)
    )


def loopback(root: Json) -> Iterator[Offence]:
    """Our own way upstream is open to nobody else."""
    egress = named(root["static_resources"]["listeners"], EGRESS_LISTENER)
    if not is_local(egress["address"]):
        yield _offence(EGRESS_LISTENER, "must listen on 127.0.0.1 only: it asks for no credential")


def filter_order(root: Json) -> Iterator[Offence]:
    """The filters are there, in their order."""
    names = tuple(part["name"] for part in manager(root)["http_filters"])
    if names != _FILTERS:
        yield _offence("http_filters", f"expected {', '.join(_FILTERS)}, in this order")


def overrides(root: Json) -> Iterator[Offence]:
    """Nothing on the way to an upstream overrides a filter, but the routes that may."""
    nowhere = named(root["static_resources"]["clusters"], "nowhere")
    if nowhere["load_assignment"].get("endpoints"):
        yield _offence("clusters/nowhere", "must have no endpoints")
    (host,) = manager(root)["route_config"]["virtual_hosts"]
    for name in set(host.get("typed_per_filter_config", {})) - {"envoy.filters.http.cors"}:
        yield _offence("virtual_hosts", f"{name} must not be overridden for all routes")
    for route in routes(root):
        here = route.get("typed_per_filter_config", {})
        if route["name"] == _WEBSOCKET:
            yield from _websocket_interlock(route, here)
        elif route["name"] == PASSTHROUGH:
            if route["route"].get("cluster") != PASSTHROUGH:
                yield _route(route, "must lead to the cluster of its name")
        elif route["name"] == _OFFER:
            if here.keys() != {_EXT_PROC} or _mode(here) != _OFFER_MODE:
                yield _route(
                    route, f"must override ext_proc's processing_mode alone: {_OFFER_MODE}"
                )
        elif can_reach_upstream(route) and here:
            yield _route(route, "reaches an upstream and overrides a filter; remove the override")


def _mode(here: Json) -> Json | None:
    """Return the processing mode that a route gives to ext_proc, None if it says more than that."""
    proc = here[_EXT_PROC].get("overrides", {})
    return proc["processing_mode"] if proc.keys() == {"processing_mode"} else None


def _websocket_interlock(route: Json, here: Json) -> Iterator[Offence]:
    """Say where the route lets more pass than what extauthz has let in as a WebSocket."""
    headers = {header["name"] for header in route["match"]["headers"]}
    if not {CLUSTER_HEADER, ROUTE_HEADER, ":method", "upgrade"} <= headers:
        yield _route(route, "must want all of its headers")
    if set(here) != _WEBSOCKET_OVERRIDES or "disabled" in str(here):
        yield _route(route, f"overrides other filters than {sorted(_WEBSOCKET_OVERRIDES)}")
    rules = here.get("proc_interlock", {}).get("rbac", {}).get("rules", {})
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
        yield _route(route, "its interlock must want extauthz's word")


def switched_on(root: Json) -> Iterator[Offence]:
    """No filter is off where it is needed."""
    filters = manager(root)["http_filters"]
    for name in {part["name"] for part in filters if part.get("disabled")} - _MAY_BE_OFF:
        yield _offence(f"http_filters/{name}", "must not be switched off; remove disabled")
    if named(filters, _EXT_PROC).get("disabled"):
        for route in routes(root):
            here = route.get("typed_per_filter_config", {}).get(_EXT_PROC, {})
            if route["name"] in {"calls", "calls_form", "ready"} and "overrides" not in here:
                yield _route(route, "must switch ext_proc on")


def processing_mode(root: Json) -> Iterator[Offence]:
    """Sdpfilter sees everything unless a route says otherwise."""
    mode = http_filter(root, _EXT_PROC)["processing_mode"]
    wanted = {"request_header_mode": "SEND", "request_body_mode": "BUFFERED"}
    wanted |= {"response_header_mode": "SEND", "response_body_mode": "BUFFERED"}
    if any(mode.get(field) != value for field, value in wanted.items()):
        yield _offence(f"http_filters/{_EXT_PROC}/processing_mode", f"expected {wanted}")


def admin_cluster(root: Json) -> Iterator[Offence]:
    """Of the admin interface only the stats can be had, and only at the listener for them."""
    for part in parts(root):
        leads = part.value.get("route") if "match" in part.value else None
        if not isinstance(leads, dict) or leads.get("cluster") != ADMIN_CLUSTER:
            continue
        headers = {
            header["name"]: header.get("string_match", {})
            for header in part.value["match"].get("headers", ())
        }
        is_narrow = headers == {":method": {"exact": "GET"}, ":path": {"exact": _STATS_PATH}}
        if f"listeners/{METRICS_LISTENER}/" not in part.path or not is_narrow:
            advice = f"opens the admin interface; match GET and the exact :path {_STATS_PATH}"
            yield Offence(part.path, part.keys, advice)


RULES: Final = (
    loopback,
    filter_order,
    overrides,
    switched_on,
    processing_mode,
    admin_cluster,
)


def _offence(path: str, advice: str) -> Offence:
    return Offence(path, (), advice)


def _route(route: Json, advice: str) -> Offence:
    return Offence(f"route {route['name']}", (), advice)
