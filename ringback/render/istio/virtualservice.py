"""Routes of envoy/envoy.yaml as routes of a VirtualService."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ringback.contract import CLUSTER_HEADER
from ringback.errors import StartError

Json = dict[str, Any]

NOWHERE: Final = "nowhere"
# Envoy's own default, for what leads nowhere.
_TIMEOUT: Final = "15s"


class RouteError(StartError):
    """A route of envoy.yaml that a VirtualService has no words for.

    Args:
        route: Its name.
        part: What of it.
    """

    def __init__(self, route: str, part: str) -> None:
        self.route, self.part = route, part

    def __str__(self) -> str:
        return f"envoy.yaml: {self.route}: Istio has no words for {self.part}."


def virtual_routes(
    routes: Sequence[Json], upstreams: Mapping[str, Json], destinations: Mapping[str, Json]
) -> Iterator[Json]:
    """Give the ``http`` routes of a VirtualService, in the order of ``routes``.

    A route to the cluster that a header names becomes one for each upstream. What a VirtualService
    cannot say is left to `ringback.render.istio.envoyfilter`.

    Args:
        routes: Of the listener for downstreams.
        upstreams: Destinations by the cluster that extauthz names.
        destinations: Destinations by the cluster that a route names.

    Raises:
        RouteError: If there is no such way to match.
    """
    last: Json = {}
    for written in _one_by_one(routes, upstreams, destinations):
        if "match" in written and written | {"match": None} == last | {"match": None}:
            # The same under another path.
            last["match"] += written["match"]
            continue
        if last:
            yield last
        last = written
    yield last


def _one_by_one(
    routes: Sequence[Json], upstreams: Mapping[str, Json], destinations: Mapping[str, Json]
) -> Iterator[Json]:
    for route in routes:
        if is_patched_in(route):
            continue
        if "cluster_header" in route.get("route", {}):
            for cluster, destination in upstreams.items():
                yield _to_destination(route, destination, cluster)
        elif "direct_response" in route:
            yield _direct_response(route)
        else:
            yield _to_destination(route, destinations[route["route"]["cluster"]])


def is_patched_in(route: Json) -> bool:
    """Tell whether a VirtualService has no match for a route at all: CONNECT."""
    return "connect_matcher" in route["match"]


def _to_destination(route: Json, destination: Json, cluster: str | None = None) -> Json:
    action = route["route"]
    written: Json = {"name": route["name"]}
    if match := _match(route, cluster):
        written["match"] = [match]
    if removed := route.get("request_headers_to_remove"):
        written["headers"] = {"request": {"remove": list(removed)}}
    written["route"] = [{"destination": dict(destination)}]
    timeout = action.get("timeout", _TIMEOUT)
    # Without one there is none, and 0s is refused.
    written |= {} if timeout == "0s" else {"timeout": timeout}
    # Two by default.
    return written | {"retries": {"attempts": 0}}


def _direct_response(route: Json) -> Json:
    response = route["direct_response"]
    headers = {
        option["header"]["key"]: option["header"]["value"]
        for option in route.get("response_headers_to_add", [])
    }
    return {
        "name": route["name"],
        "match": [_match(route)],
        "headers": {"response": {"set": headers}},
        "directResponse": {
            "status": response["status"],
            "body": {"string": response["body"]["inline_string"]},
        },
    }


def _match(route: Json, cluster: str | None = None) -> Json:
    match = route["match"]
    if unknown := match.keys() - {"path", "prefix", "safe_regex", "headers"}:
        raise RouteError(route["name"], ", ".join(sorted(unknown)))
    written: Json = {}
    if "path" in match:
        written["uri"] = {"exact": match["path"]}
    elif "safe_regex" in match:
        written["uri"] = {"regex": match["safe_regex"]["regex"]}
    elif match["prefix"] != "/":
        written["uri"] = {"prefix": match["prefix"]}
    for header in match.get("headers", []):
        if header["name"] == ":method":
            written["method"] = _text_match(route, header)
        elif header["name"] == CLUSTER_HEADER and cluster is not None:
            written.setdefault("headers", {})[CLUSTER_HEADER] = {"exact": cluster}
        else:
            written.setdefault("headers", {})[header["name"]] = _text_match(route, header)
    return written


def _text_match(route: Json, header: Json) -> Json:
    if header.get("range_match", {}).get("start") == 1:
        # Of a length: the buffer filter knows the other end.
        return {"regex": "[1-9][0-9]*"}
    match dict(header.get("string_match", {})):
        case {"exact": text, **rest} if not rest:
            return {"exact": text}
        case {"prefix": text, **rest} if not rest:
            return {"prefix": text}
        case {"exact": text, "ignore_case": True, **rest} if not rest:
            return {"regex": f"(?i){_literal(text)}"}
        case {"prefix": text, "ignore_case": True, **rest} if not rest:
            return {"regex": f"(?i){_literal(text)}.*"}
        case {"contains": text, "ignore_case": True, **rest} if not rest:
            return {"regex": f"(?i).*{_literal(text)}.*"}
    raise RouteError(route["name"], header["name"])


def _literal(text: str) -> str:
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)
