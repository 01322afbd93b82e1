"""Envoy's bootstrap: envoy/envoy.yaml with other addresses, origins and switches.

Parts are found by name, never by position, and everything else stays as it was written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from ringback.contract import (
    ADMIN_CLUSTER,
    AUTHZ_CALLS_CLUSTER,
    AUTHZ_CLUSTER,
    AUTHZ_CLUSTERS,
    AUTHZ_MINTS_CLUSTER,
    EGRESS_LISTENER,
    INGRESS_LISTENER,
    METRICS_LISTENER,
    PROC_CLUSTER,
)
from ringback.errors import StartError
from ringback.paths import envoy_dir
from ringback.render.passthrough import passthrough_routes
from ringback.render.services import place_services
from ringback.render.tracing import add_tracing
from ringback.settings import ServiceSettings, TracingSettings, WebSocketSettings
from ringback.settings.origins import origin_regex
from ringback.settings.overload import OverloadSettings

# A message as its JSON form: https://protobuf.dev/programming-guides/json/
Json = dict[str, Any]

PLAYGROUND_ROUTE: Final = "playground"
_WEBSOCKET_ROUTE: Final = "upstream_websocket"
_VIRTUAL_HOST: Final = "ringback"
_RUNTIME_LAYER: Final = "ringback"
_CONNECTION_LIMIT: Final = f"envoy.resource_limits.listener.{INGRESS_LISTENER}.connection_limit"
_CORS_FILTER: Final = "envoy.filters.http.cors"
_ORIGIN_FILTER: Final = "envoy.filters.http.header_to_metadata"


class BootstrapError(StartError):
    """The bootstrap lacks a part that has to be adapted.

    Args:
        path: Names that lead to the part.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)

    def __str__(self) -> str:
        return f"envoy.yaml has no {' > '.join(self.path)}. Install Ringback again."


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address: an IP address without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What shall differ from envoy.yaml; None leaves a part as it is.

    Attributes:
        ingress: Where downstreams connect.
        egress: Where extauthz connects on its way upstream.
        admin: Envoy's admin interface.
        metrics: Where Prometheus finds Envoy's stats.
        has_metrics: Whether it finds any.
        endpoints: By cluster name, the address of each worker: ``unix:/path`` or ``host:port``;
            those of extauthz are for all of its clusters.
        cors_origins: Patterns as in the setting of the same name.
        playground: The page to serve, or None to serve none.
        upstreams: Clusters that take the place of those from CDS.
        websocket: How long WebSockets may last.
        overload: How much is taken on at once.
        passthrough: The cluster that gets everything but realtime, from
            `ringback.render.passthrough.passthrough_cluster`.
        passthrough_timeout_s: How long a request to it may take to arrive, and how long nothing
            may move in an answer.
        tracing: Where traces go to, if anywhere.
        tracing_ca_file: Authorities that may vouch for it.
        services: Where the services are, and how they are asked there.
    """

    ingress: Address | None = None
    egress: Address | None = None
    admin: Address | None = None
    metrics: Address | None = None
    has_metrics: bool = True
    endpoints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cors_origins: Sequence[str] | None = None
    playground: Path | None = None
    upstreams: Sequence[Json] | None = None
    websocket: WebSocketSettings | None = None
    overload: OverloadSettings | None = None
    passthrough: Json | None = None
    passthrough_timeout_s: float = 600
    tracing: TracingSettings | None = None
    tracing_ca_file: Path = Path()
    services: ServiceSettings | None = None


# Makes what Envoy starts with from where the parts of a gateway listen.
MakeBootstrap = Callable[[Changes], Json]


def own_bootstrap(changes: Changes) -> Json:
    """Return envoy/envoy.yaml with changes.

    Raises:
        BootstrapError: If it lacks a part that is to be changed.
    """
    return adapt_bootstrap(read_bootstrap(envoy_dir() / "envoy.yaml"), changes)


def read_bootstrap(path: Path) -> Json:
    """Read a bootstrap; parts that share a YAML anchor become copies.

    Raises:
        OSError: If it cannot be read.
        yaml.YAMLError: If it is not YAML.
    """
    # libyaml's parser takes 20 ms where the pure one takes 300.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    bootstrap: Json = _copy(yaml.load(path.read_bytes(), Loader=loader))  # noqa: S506  both are safe
    return bootstrap


def adapt_bootstrap(bootstrap: Json, changes: Changes) -> Json:
    """Return a bootstrap with changes; the one given stays as it is.

    Raises:
        BootstrapError: If it lacks a part that is to be changed.
    """
    adapted: Json = _copy(bootstrap)
    _move(adapted, changes)
    if changes.services is not None:
        place_services(adapted["static_resources"]["clusters"], changes.services)
    if changes.cors_origins is not None:
        _allow_origins(adapted, [origin_regex(origin) for origin in changes.cors_origins])
    _switch_playground(adapted, changes.playground)
    if changes.websocket is not None:
        _limit_websockets(adapted, changes.websocket)
    if changes.overload is not None:
        _limit_load(adapted, changes.overload)
    if changes.passthrough is not None:
        _pass_through(adapted, changes.passthrough, changes.passthrough_timeout_s)
    if changes.tracing is not None:
        add_tracing(adapted, changes.tracing, changes.tracing_ca_file)
    if changes.upstreams is not None:
        adapted.pop("dynamic_resources", None)
        adapted["static_resources"]["clusters"] += changes.upstreams
    return adapted


def _move(bootstrap: Json, changes: Changes) -> None:
    for listener, address in (
        (INGRESS_LISTENER, changes.ingress),
        (EGRESS_LISTENER, changes.egress),
        (METRICS_LISTENER, changes.metrics),
    ):
        if address is not None:
            _static(bootstrap, "listeners", listener)["address"] = _socket_address(address)
    endpoints = dict(changes.endpoints)
    if changes.admin is not None:
        _part(bootstrap, "admin")["address"] = _socket_address(changes.admin)
        endpoints[ADMIN_CLUSTER] = [str(changes.admin)]
    for name, addresses in endpoints.items():
        for cluster in AUTHZ_CLUSTERS if name == AUTHZ_CLUSTER else (name,):
            assignment = _part(_static(bootstrap, "clusters", cluster), "load_assignment")
            assignment["endpoints"] = [{"lb_endpoints": [_endpoint(text) for text in addresses]}]
    if not changes.has_metrics:
        _remove_static(bootstrap, "listeners", METRICS_LISTENER)
        _remove_static(bootstrap, "clusters", ADMIN_CLUSTER)


def _limit_websockets(bootstrap: Json, settings: WebSocketSettings) -> None:
    routes = _virtual_host(bootstrap)["routes"]
    route = _part(_named(routes, _WEBSOCKET_ROUTE, (INGRESS_LISTENER, "routes")), "route")
    route["idle_timeout"] = f"{settings.idle_timeout_s:g}s"
    route["max_stream_duration"] = {"max_stream_duration": f"{settings.max_duration_s:g}s"}


def _limit_load(bootstrap: Json, settings: OverloadSettings) -> None:
    for name, of_one in (
        (AUTHZ_CLUSTER, settings.max_decisions),
        (AUTHZ_MINTS_CLUSTER, settings.max_mints),
        (AUTHZ_CALLS_CLUSTER, settings.max_checks),
        (PROC_CLUSTER, settings.max_calls),
    ):
        cluster = _static(bootstrap, "clusters", name)
        localities = _part(cluster, "load_assignment")["endpoints"]
        workers = sum(len(locality["lb_endpoints"]) for locality in localities)
        for limits in _part(cluster, "circuit_breakers")["thresholds"]:
            limits["max_requests"] = limits["max_pending_requests"] = of_one * workers
    _part(_runtime_layer(bootstrap), "static_layer")[_CONNECTION_LIMIT] = settings.max_connections


def _pass_through(bootstrap: Json, cluster: Json, timeout_s: float) -> None:
    bootstrap["static_resources"]["clusters"].append(cluster)
    routes = _virtual_host(bootstrap)["routes"]
    (*_, last) = routes
    routes[-1:] = [*passthrough_routes(timeout_s, last), last]
    # The listener's, for all routes: there is no other.
    for manager in _ingress_managers(bootstrap):
        manager["request_timeout"] = f"{timeout_s:g}s"


def _allow_origins(bootstrap: Json, regexes: Sequence[str]) -> None:
    policy = _part(_virtual_host(bootstrap), "typed_per_filter_config", _CORS_FILTER)
    policy["allow_origin_string_match"] = [{"safe_regex": {"regex": regex}} for regex in regexes]
    # What is refused after the upstream answered passes no CORS filter; the Origin is kept for it.
    memory = _named(_ingress_parts(bootstrap, "http_filters"), _ORIGIN_FILTER, (INGRESS_LISTENER,))
    rule = _part(memory["typed_config"]["request_rules"][0], "on_header_present")
    pattern = _part(rule, "regex_value_rewrite", "pattern")
    pattern["regex"] = f"^({'|'.join(regexes)})$|^.*$"


def _switch_playground(bootstrap: Json, page: Path | None) -> None:
    switches = _part(_runtime_layer(bootstrap), "static_layer", _RUNTIME_LAYER)
    switches[PLAYGROUND_ROUTE] = 100 if page else 0
    routes = _virtual_host(bootstrap)["routes"]
    route = _named(routes, PLAYGROUND_ROUTE, (INGRESS_LISTENER, "routes"))
    if page:
        route["direct_response"]["body"] = {"filename": str(page)}
    else:
        # Envoy reads the page also where the switch is off, and the page may not be there.
        routes.remove(route)


def _runtime_layer(bootstrap: Json) -> Json:
    layers = _part(bootstrap, "layered_runtime").get("layers", [])
    return _named(layers, _RUNTIME_LAYER, ("layered_runtime", "layers"))


def _virtual_host(bootstrap: Json) -> Json:
    hosts = _ingress_parts(bootstrap, "route_config", "virtual_hosts")
    return _named(hosts, _VIRTUAL_HOST, (INGRESS_LISTENER, "virtual_hosts"))


def _ingress_parts(bootstrap: Json, *path: str) -> list[Json]:
    """Return what a list of the listener's connection manager holds."""
    holders = [_part(manager, *path[:-1]) for manager in _ingress_managers(bootstrap)]
    return [part for holder in holders for part in holder.get(path[-1], [])]


def _ingress_managers(bootstrap: Json) -> list[Json]:
    listener = _static(bootstrap, "listeners", INGRESS_LISTENER)
    return [
        network_filter["typed_config"]
        for chain in listener.get("filter_chains", [])
        for network_filter in chain.get("filters", [])
    ]


def _static(bootstrap: Json, kind: str, name: str) -> Json:
    parts = _part(bootstrap, "static_resources").get(kind, [])
    return _named(parts, name, ("static_resources", kind))


def _remove_static(bootstrap: Json, kind: str, name: str) -> None:
    parts = _part(bootstrap, "static_resources").get(kind, [])
    parts.remove(_named(parts, name, ("static_resources", kind)))


def _named(parts: Sequence[Json], name: str, path: Sequence[str]) -> Json:
    for part in parts:
        if part.get("name") == name:
            return part
    raise BootstrapError((*path, name))


def _part(parent: Json, *path: str) -> Json:
    for name in path:
        if not isinstance(parent.get(name), dict):
            raise BootstrapError(path)
        parent = parent[name]
    return parent


def _endpoint(text: str) -> Json:
    if text.startswith("unix:"):
        address: Json = {"pipe": {"path": text.removeprefix("unix:")}}
    else:
        host, _, port = text.rpartition(":")
        address = _socket_address(Address(host.strip("[]"), int(port)))
    return {"endpoint": {"address": address}}


def _socket_address(address: Address) -> Json:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _copy(value: Any) -> Any:
    """Copy deeply, and give every place an object of its own (copy.deepcopy keeps them shared)."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
