"""Patches of EnvoyFilters: pilot/pkg/networking/core/envoyfilter, pkg/proto/merge."""

import copy
from collections.abc import Sequence
from typing import Any, Final

from helpers.istiod.registry import known

Json = dict[str, Any]

_MANAGER: Final = "envoy.filters.network.http_connection_manager"
# Of the types that we patch: maps, whose values a merge replaces.
_MAPS: Final = frozenset({"typed_per_filter_config", "typed_extension_protocol_options"})


class Patches:
    """The ``configPatches`` of an EnvoyFilter for a gateway, in their order."""

    def __init__(self, patches: Sequence[Json]) -> None:
        for patch in patches:
            known(patch, "applyTo", "match", "patch")
            assert patch["match"]["context"] == "GATEWAY"
        self._patches = patches
        self._used: set[int] = set()

    @property
    def unused(self) -> list[Json]:
        """Patches that have changed nothing: whose match is wrong."""
        return [p for index, p in enumerate(self._patches) if index not in self._used]

    def apply_to_listener(self, listener: Json) -> None:
        """Patch a listener with one connection manager, and its routes."""
        for value in self._merges("LISTENER", {}):
            merge(listener, value)
        ((network_filter,),) = [chain["filters"] for chain in listener["filter_chains"]]
        manager = network_filter["typed_config"]
        for value in self._merges("NETWORK_FILTER", _in_manager()):
            assert value["name"] == network_filter["name"] == _MANAGER
            merge_any(manager, value["typed_config"])
        self._apply_to_filters(manager["http_filters"])
        for host in manager["route_config"]["virtual_hosts"]:
            for value in self._merges("VIRTUAL_HOST", {}):
                merge(host, value)
            self._apply_to_routes(host["routes"])

    def apply_to_cluster(self, cluster: Json) -> None:
        """Patch a cluster."""
        host = cluster["name"].rpartition("|")[2]
        for value in self._merges("CLUSTER", {"cluster": {"service": host}}):
            merge(cluster, value)

    def _apply_to_filters(self, filters: list[Json]) -> None:
        # First all that comes in, then what changes.
        for index, patch in self._of("HTTP_FILTER"):
            operation, value = patch["patch"]["operation"], copy.deepcopy(patch["patch"]["value"])
            listener = patch["match"]["listener"]
            if operation == "INSERT_FIRST":
                assert listener == _in_manager()["listener"]
                filters.insert(0, value)
                self._used.add(index)
            elif operation == "INSERT_BEFORE":
                place = _names(filters).index(_sub_filter(listener))
                filters.insert(place, value)
                self._used.add(index)
            else:
                assert operation == "MERGE"
        for part in filters:
            for value in self._merges("HTTP_FILTER", _in_manager(part["name"])):
                assert value["name"] == part["name"]
                merge_any(part["typed_config"], value["typed_config"])

    def _apply_to_routes(self, routes: list[Json]) -> None:
        for route in routes:
            match = {"routeConfiguration": {"vhost": {"route": {"name": route["name"]}}}}
            for value in self._merges("HTTP_ROUTE", match):
                merge(route, value)
        for index, patch in self._of("HTTP_ROUTE"):
            if patch["patch"]["operation"] == "INSERT_FIRST":
                assert patch["match"].keys() == {"context"}
                routes.insert(0, copy.deepcopy(patch["patch"]["value"]))
                self._used.add(index)
            else:
                assert patch["patch"]["operation"] == "MERGE"

    def _of(self, kind: str) -> list[tuple[int, Json]]:
        return [(i, p) for i, p in enumerate(self._patches) if p["applyTo"] == kind]

    def _merges(self, kind: str, match: Json) -> list[Json]:
        found = [
            (index, patch["patch"]["value"])
            for index, patch in self._of(kind)
            if patch["patch"]["operation"] == "MERGE"
            and patch["match"] == {"context": "GATEWAY"} | match
        ]
        self._used |= {index for index, _ in found}
        return [copy.deepcopy(value) for _, value in found]


def merge(target: Json, value: Json) -> None:
    """Merge a message into another one: lists grow, maps and scalars are replaced."""
    for name, new in value.items():
        old = target.get(name)
        if name in _MAPS:
            target.setdefault(name, {}).update(new)
        elif isinstance(new, list):
            target[name] = [*(old or []), *new]
        elif isinstance(new, dict) and isinstance(old, dict):
            # What has a type of its own is replaced as a whole.
            if "@type" in new:
                target[name] = new
            else:
                merge(old, new)
        else:
            target[name] = new


def merge_any(target: Json, value: Json) -> None:
    """Merge the configuration of a filter into another one of its type."""
    assert target["@type"] == value["@type"]
    merge(target, value)


def _names(filters: list[Json]) -> list[str]:
    return [part["name"] for part in filters]


def _in_manager(http_filter: str | None = None) -> Json:
    part: Json = {"name": _MANAGER}
    if http_filter is not None:
        part["subFilter"] = {"name": http_filter}
    return {"listener": {"filterChain": {"filter": part}}}


def _sub_filter(listener: Json) -> str:
    name: str = listener["filterChain"]["filter"]["subFilter"]["name"]
    assert _in_manager(name)["listener"] == listener
    return name
