"""What of envoy/envoy.yaml no resource of Istio can say: patches of an EnvoyFilter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ringback.contract import AUTHZ_CLUSTER, AUTHZ_NAMESPACE, PROC_CLUSTER
from ringback.envoylint.parts import manager, named, routes
from ringback.render.istio.services import Place
from ringback.render.istio.virtualservice import is_patched_in

Json = dict[str, Any]

_TYPES: Final = "type.googleapis.com/envoy.extensions.filters"
_MANAGER: Final = "envoy.filters.network.http_connection_manager"
_MANAGER_TYPE: Final = f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER: Final = "envoy.filters.http.router"
# Filters that Istio has, too, behind the question to extauthz; ours have to stand before it.
_RENAMED: Final = {
    "envoy.filters.http.cors": "ringback.cors",
    "envoy.filters.http.fault": "ringback.fault",
}
# Istio's own parts of a connection manager, and what a merge would double.
_ISTIOS: Final = frozenset(
    {"stat_prefix", "codec_type", "route_config", "http_filters", "upgrade_configs"}
)
# Nobody gets there; `ringback check --envoy` wants an end to everything that leads anywhere.
_TUNNEL: Final = {"cluster": "BlackHoleCluster", "timeout": "1s"}
_NO_WEBSOCKETS: Final = [{"upgrade_type": "websocket", "enabled": False}]


@dataclass(frozen=True, slots=True)
class Patch:
    """One entry of ``configPatches``.

    Attributes:
        comment: Why it is there.
        value: The entry.
    """

    comment: str
    value: Json


def gateway_patches(bootstrap: Json, places: Mapping[str, Place]) -> list[Patch]:
    """Return what turns Istio's configuration of our gateway into that of envoy.yaml.

    Args:
        bootstrap: envoy.yaml as the settings want it.
        places: Where its clusters for our services are in the mesh.
    """
    bootstrap = _moved(bootstrap, places)
    return [
        *_listener(bootstrap),
        *_filters(bootstrap),
        *_virtual_host(bootstrap),
        *_routes(bootstrap),
        *(
            _health(bootstrap, cluster, places[cluster].host)
            for cluster in (AUTHZ_CLUSTER, PROC_CLUSTER)
        ),
    ]


def _moved(value: Any, places: Mapping[str, Place]) -> Any:
    """Return a copy in which services are asked where they are in the mesh."""
    if isinstance(value, list):
        return [_moved(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("cluster_name") in places and value.keys() == {"cluster_name"}:
        place = places[value["cluster_name"]]
        # Envoy would send the name of the cluster, and a | in it is refused.
        return {"cluster_name": place.cluster, "authority": place.host}
    return {name: _moved(item, places) for name, item in value.items()}


def _health(bootstrap: Json, cluster: str, host: str) -> Patch:
    own = named(bootstrap["static_resources"]["clusters"], cluster)
    value = {name: own[name] for name in ("health_checks", "common_lb_config")}
    # An endpoint that Kubernetes takes away is gone, whatever its health.
    value["ignore_health_on_host_removal"] = True
    return Patch(
        f"{cluster}: who hangs or drains gets no new requests; Istio asks nobody for their health.",
        {
            "applyTo": "CLUSTER",
            "match": {"context": "GATEWAY", "cluster": {"service": host}},
            "patch": {"operation": "MERGE", "value": value},
        },
    )


def _listener(bootstrap: Json) -> Iterator[Patch]:
    own = named(bootstrap["static_resources"]["listeners"], "ingress_http")
    limit = {"per_connection_buffer_limit_bytes": own["per_connection_buffer_limit_bytes"]}
    yield Patch(
        "How much of one connection is held.",
        {
            "applyTo": "LISTENER",
            "match": {"context": "GATEWAY"},
            "patch": {"operation": "MERGE", "value": limit},
        },
    )
    fields = {name: value for name, value in manager(bootstrap).items() if name not in _ISTIOS}
    config = {"@type": _MANAGER_TYPE} | {n: v for n, v in fields.items() if n != "@type"}
    yield Patch(
        "The connection manager: headers that only we may set are removed before anything reads\n"
        "them, one canonical path, limits, errors in JSON, one line of log for each request.",
        {
            "applyTo": "NETWORK_FILTER",
            "match": {"context": "GATEWAY", "listener": _in_manager()},
            "patch": {"operation": "MERGE", "value": {"name": _MANAGER, "typed_config": config}},
        },
    )


def _filters(bootstrap: Json) -> Iterator[Patch]:
    filters = manager(bootstrap)["http_filters"]
    names = [part["name"] for part in filters]
    authz, router = names.index(AUTHZ_NAMESPACE), names.index(_ROUTER)
    # Each goes to the front, so the last one of them stands there first.
    for part in reversed(filters[:authz]):
        yield _inserted(part, "INSERT_FIRST", "Before extauthz is asked.")
    yield Patch(
        "What an extension provider has no word for: values that would split a header are an\n"
        "error, and a worker that cannot be reached, or dies with the request, costs another try.",
        _merged(AUTHZ_NAMESPACE, _authz_config(filters[authz]["typed_config"])),
    )
    for part in filters[authz + 1 : router]:
        yield _inserted(part, "INSERT_BEFORE", "After extauthz has consented.")
    yield Patch(
        "Nobody is told what Envoy knows.",
        _merged(_ROUTER, filters[router]["typed_config"]),
    )


def _authz_config(own: Json) -> Json:
    return {
        "@type": own["@type"],
        "validate_mutations": own["validate_mutations"],
        "grpc_service": {"retry_policy": own["grpc_service"]["retry_policy"]},
    }


def _virtual_host(bootstrap: Json) -> Iterator[Patch]:
    (host,) = manager(bootstrap)["route_config"]["virtual_hosts"]
    yield Patch(
        "Pages of which origins may call, and read what they are answered.",
        {
            "applyTo": "VIRTUAL_HOST",
            "match": {"context": "GATEWAY"},
            "patch": {
                "operation": "MERGE",
                "value": {"typed_per_filter_config": _per_filter(host)},
            },
        },
    )


def _routes(bootstrap: Json) -> Iterator[Patch]:
    seen: dict[str, Json] = {}
    for route in routes(bootstrap):
        name = route["name"]
        if is_patched_in(route):
            yield Patch(
                "CONNECT: refused at once.",
                _route_patch(None, "INSERT_FIRST", route | {"route": _TUNNEL}),
            )
            continue
        value = _route_value(route)
        if name in seen:
            # One patch is for all routes of a name.
            if seen[name] != value:
                raise AssertionError(name)
            continue
        seen[name] = value
        if value:
            yield Patch(f"The routes {name}.", _route_patch(name, "MERGE", value))


def _route_value(route: Json) -> Json:
    value: Json = {}
    if "route" in route:
        action = route["route"]
        kept = ("priority", "idle_timeout", "max_stream_duration")
        value["route"] = {name: action[name] for name in kept if name in action}
        # Istio takes WebSockets on every route.
        value["route"]["upgrade_configs"] = action.get("upgrade_configs", _NO_WEBSOCKETS)
        if "response_headers_to_add" in route:
            value["response_headers_to_add"] = route["response_headers_to_add"]
    if config := _per_filter(route):
        value["typed_per_filter_config"] = config
    return value


def _per_filter(holder: Json) -> Json:
    return {
        _RENAMED.get(name, name): config
        for name, config in holder.get("typed_per_filter_config", {}).items()
    }


def _inserted(part: Json, operation: str, comment: str) -> Patch:
    part = part | {"name": _RENAMED.get(part["name"], part["name"])}
    listener = _in_manager(_ROUTER if operation == "INSERT_BEFORE" else None)
    return Patch(
        comment,
        {
            "applyTo": "HTTP_FILTER",
            "match": {"context": "GATEWAY", "listener": listener},
            "patch": {"operation": operation, "value": part},
        },
    )


def _merged(name: str, config: Json) -> Json:
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": _in_manager(name)},
        "patch": {"operation": "MERGE", "value": {"name": name, "typed_config": config}},
    }


def _route_patch(name: str | None, operation: str, value: Json) -> Json:
    match: Json = {"context": "GATEWAY"}
    if name is not None:
        match["routeConfiguration"] = {"vhost": {"route": {"name": name}}}
    return {
        "applyTo": "HTTP_ROUTE",
        "match": match,
        "patch": {"operation": operation, "value": value},
    }


def _in_manager(http_filter: str | None = None) -> Json:
    network_filter: Json = {"name": _MANAGER}
    if http_filter is not None:
        network_filter["subFilter"] = {"name": http_filter}
    return {"filterChain": {"filter": network_filter}}
