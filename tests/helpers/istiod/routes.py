"""Routes: pilot/pkg/networking/core/route/route.go."""

from collections.abc import Iterator
from typing import Any

from helpers.istiod.clusters import cluster_name
from helpers.istiod.registry import known

Json = dict[str, Any]


def http_routes(service: Json) -> list[Json]:
    """Return Envoy's routes for the ``http`` of a VirtualService."""
    return [route for written in service["http"] for route in _routes(written)]


def _routes(http: Json) -> Iterator[Json]:
    known(http, "name", "match", "headers", "route", "directResponse", "timeout", "retries")
    for match in http.get("match", [None]):
        route: Json = {"name": http["name"], "match": _match(match)}
        _apply_headers(route, known(http.get("headers", {}), "request", "response"))
        if "directResponse" in http:
            response = known(http["directResponse"], "status", "body")
            body = {"inline_string": known(response["body"], "string")["string"]}
            route["direct_response"] = {"status": response["status"], "body": body}
        else:
            route["route"] = _action(http)
        yield route


def _action(http: Json) -> Json:
    (target,) = http["route"]
    destination = known(known(target, "destination")["destination"], "host", "port")
    timeout = http.get("timeout", "0s")
    action: Json = {
        "cluster": cluster_name(destination["host"], destination["port"]["number"]),
        "timeout": timeout,
        "max_grpc_timeout": timeout,
    }
    # Without a word there would be two retries, of answers with 503 among others.
    assert http["retries"] == {"attempts": 0}
    return action


def _match(match: Json | None) -> Json:
    written: Json = {"prefix": "/"}
    if match is None:
        return written
    known(match, "uri", "method", "headers", "port")
    headers = [
        {"name": name, "string_match": _text(text)}
        for name, text in sorted(match.get("headers", {}).items())
    ]
    if "uri" in match:
        ((kind, text),) = match["uri"].items()
        written = {
            "exact": {"path": text},
            "prefix": {"prefix": text},
            "regex": {"safe_regex": {"regex": text}},
        }[kind]
    written["case_sensitive"] = True
    if "method" in match:
        headers.append({"name": ":method", "string_match": _text(match["method"])})
    if headers:
        written["headers"] = headers
    return written


def _text(match: Json) -> Json:
    ((kind, text),) = match.items()
    return {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}


def _apply_headers(route: Json, headers: Json) -> None:
    request = known(headers.get("request", {}), "remove")
    response = known(headers.get("response", {}), "set")
    if "remove" in request:
        route["request_headers_to_remove"] = list(request["remove"])
    if "set" in response:
        route["response_headers_to_add"] = [
            {
                "header": {"key": name, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for name, value in sorted(response["set"].items())
        ]
