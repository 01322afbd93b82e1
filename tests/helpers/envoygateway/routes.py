"""Routes: internal/gatewayapi/route.go, sort.go, internal/xds/translator/route.go."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from helpers.envoygateway import filters
from helpers.envoygateway.clusters import backend_cluster
from helpers.envoygateway.resources import Json, Resources, header_options, known, name_of

# Exact paths come first, then regular expressions, then prefixes.
_KINDS: Final = ("PathPrefix", "RegularExpression", "Exact")


@dataclass(frozen=True, slots=True)
class IrRoute:
    """One match of one rule, with the policies that hold for it."""

    name: str
    rule_name: str
    match: Mapping[str, Any]
    rule: Mapping[str, Any]
    security: Json | None
    extension: Json | None
    traffic: Json | None

    @property
    def headers(self) -> list[Json]:
        """What it demands of headers; Envoy Gateway takes the method for one."""
        method = self.match.get("method")
        own = [{"name": ":method", "type": "Exact", "value": method}] if method else []
        return [*own, *self.match.get("headers", [])]

    @property
    def precedence(self) -> tuple[Any, ...]:
        """The smallest is looked at first: the Gateway API's order, then the name's."""
        path, headers = self.match["path"], self.headers
        exact = [header for header in headers if header.get("type", "Exact") == "Exact"]
        return (
            -_KINDS.index(path["type"]),
            -len(path["value"]),
            -len(headers),
            -len(exact),
            self.name,
        )


def read_routes(resources: Resources) -> list[IrRoute]:
    """Return all matches of all HTTPRoutes, in the order in which Envoy looks at them."""
    return sorted(_read(resources), key=lambda route: route.precedence)


def _read(resources: Resources) -> Iterator[IrRoute]:
    for route in resources.all("HTTPRoute"):
        known(route["spec"], "parentRefs", "rules")
        for number, rule in enumerate(route["spec"]["rules"]):
            known(rule, "name", "matches", "filters", "backendRefs")
            rule_name = f"{name_of(route)}/rule/{number}"
            policies = [
                resources.policy(kind, route, rule)
                for kind in ("SecurityPolicy", "EnvoyExtensionPolicy", "BackendTrafficPolicy")
            ]
            for index, match in enumerate(rule["matches"]):
                known(match, "path", "method", "headers")
                yield IrRoute(f"{rule_name}/match/{index}/*", rule_name, match, rule, *policies)


def xds_route(route: IrRoute, resources: Resources) -> Json:
    """Return a route of Envoy."""
    made: Json = {"name": route.name, "match": _match(route)}
    direct = _modify(made, route, resources)
    if direct is not None:
        made["direct_response"] = direct
    else:
        made["route"] = _action(route)
    policies = (route.security, route.extension, route.traffic)
    made["typed_per_filter_config"] = filters.per_route(*policies)
    return made


def route_clusters(routes: list[IrRoute], resources: Resources) -> Iterator[Json]:
    """Give a cluster for each rule that has a backend."""
    seen = set()
    for route in routes:
        for reference in route.rule.get("backendRefs", []):
            if route.rule_name not in seen:
                seen.add(route.rule_name)
                backend = resources.get("Backend", reference["name"])
                traffic = route.traffic["spec"] if route.traffic else {}
                yield backend_cluster(route.rule_name, backend, traffic, resources)


def _match(route: IrRoute) -> Json:
    path = route.match["path"]
    match path["type"], path["value"]:
        case "Exact", value:
            made: Json = {"path": value}
        case "PathPrefix", "/":
            made = {"prefix": "/"}
        case "PathPrefix", value:
            made = {"path_separated_prefix": value.removesuffix("/")}
        case _, value:
            made = {"safe_regex": {"regex": value}}
    made["headers"] = [
        {"name": header["name"], "string_match": _string_match(header)} for header in route.headers
    ]
    return made


def _string_match(header: Mapping[str, Any]) -> Json:
    if header.get("type", "Exact") == "Exact":
        return {"exact": header["value"]}
    return {"safe_regex": {"regex": header["value"]}}


def _modify(made: Json, route: IrRoute, resources: Resources) -> Json | None:
    """Apply the filters of a rule, and return the direct response, if there is one."""
    direct = None
    added: list[Json] = []
    for one in route.rule.get("filters", []):
        match one["type"]:
            case "RequestHeaderModifier":
                changes = known(one["requestHeaderModifier"], "remove")
                made["request_headers_to_remove"] = list(changes["remove"])
            case "ResponseHeaderModifier":
                changes = known(one["responseHeaderModifier"], "set", "remove")
                added += header_options(changes.get("set", []))
                made["response_headers_to_remove"] = list(changes.get("remove", []))
            case "ExtensionRef":
                reference = resources.get("HTTPRouteFilter", one["extensionRef"]["name"])
                spec = reference["spec"]["directResponse"]
                known(spec, "statusCode", "contentType", "body")
                content_type = {"name": "Content-Type", "value": spec["contentType"]}
                added += header_options([content_type])
                direct = {
                    "status": spec["statusCode"],
                    "body": {"inline_string": spec["body"]["inline"]},
                }
    made["response_headers_to_add"] = added
    return direct


def _action(route: IrRoute) -> Json:
    traffic = route.traffic["spec"] if route.traffic else {}
    http = traffic.get("timeout", {}).get("http", {})
    action: Json = {"cluster": route.rule_name}
    if "requestTimeout" in http:
        action["timeout"] = http["requestTimeout"]
        action["idle_timeout"] = "0s" if http["requestTimeout"] == "0s" else "3600s"
    if "streamIdleTimeout" in http:
        action["idle_timeout"] = http["streamIdleTimeout"]
    upgrades = [upgrade["type"] for upgrade in traffic.get("httpUpgrade", [])]
    if not upgrades and "requestBuffer" not in traffic:
        upgrades = ["websocket"]
    if upgrades:
        action["upgrade_configs"] = [{"upgrade_type": upgrade} for upgrade in upgrades]
    # `numRetries: 0` is what Envoy does by itself.
    known(traffic.get("retry", {"numRetries": 0}), "numRetries")
    assert not traffic.get("retry", {}).get("numRetries")
    return action
