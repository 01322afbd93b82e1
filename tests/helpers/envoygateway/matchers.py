"""What decides: internal/xds/translator/authorization.go, custom_response.go."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from helpers.envoygateway import cel
from helpers.envoygateway.resources import Json, header_options, known, name_of

_MATCHER: Final = "type.googleapis.com/xds.type.matcher.v3"
_INPUT: Final = "type.googleapis.com/envoy.type.matcher.v3"
_POLICY: Final = (
    "type.googleapis.com/envoy.extensions.http.custom_response.local_response_policy.v3"
)
_ATTRIBUTES: Final = {"@type": f"{_MATCHER}.HttpAttributesCelMatchInput"}


def authorization(spec: Mapping[str, Any]) -> Json:
    """Return the matcher of RBAC: the first rule that holds decides, else the default."""
    known(spec, "defaultAction", "rules")
    matchers = []
    for rule in spec.get("rules", []):
        known(rule, "name", "action", "cel")
        custom = {"name": "cel_matcher", "typed_config": _cel(cel.parse(rule["cel"]))}
        predicate = _single("cel", _ATTRIBUTES, custom_match=custom)
        action = {"action": _action(rule["name"], rule["action"])}
        matchers.append({"predicate": predicate, "on_match": action})
    made: Json = {"on_no_match": {"action": _action("default", spec["defaultAction"])}}
    if matchers:
        made["matcher_list"] = {"matchers": matchers}
    return made


def overrides(policy: Json) -> Json:
    """Return the matcher of ``responseOverride``: the first rule that fits answers instead."""
    matchers = []
    for number, rule in enumerate(policy["spec"]["responseOverride"]):
        known(rule, "match", "source", "response")
        predicates = [
            *_statuses(rule["match"].get("statusCodes", [])),
            *map(_header, rule["match"].get("responseHeaders", [])),
        ]
        if rule.get("source", "All") != "All":
            predicates.append(_origin(is_local=rule["source"] == "Local"))
        action = {
            "name": f"{name_of(policy)}/responseoverride/rule/{number}",
            "typed_config": _response(rule["response"]),
        }
        matchers.append({"predicate": _all_of(predicates), "on_match": {"action": action}})
    return {"matcher_list": {"matchers": matchers}}


def _action(name: str, action: str) -> Json:
    url = "type.googleapis.com/envoy.config.rbac.v3.Action"
    word = action.upper()
    return {"name": name, "typed_config": {"@type": url, "name": word, "action": word}}


def _statuses(codes: Sequence[Mapping[str, Any]]) -> list[Json]:
    predicates = [_status(code) for code in codes]
    if len(predicates) > 1:
        return [{"or_matcher": {"predicate": predicates}}]
    return predicates


def _status(code: Mapping[str, Any]) -> Json:
    if code["type"] == "Value":
        url = {"@type": f"{_INPUT}.HttpResponseStatusCodeMatchInput"}
        exact = {"exact": str(code["value"])}
        return _single("http-response-status-code-match-input", url, value_match=exact)
    bounds = [_bound("_>=_", code["range"]["start"]), _bound("_<=_", code["range"]["end"])]
    expr = {"call_expr": {"function": "_&&_", "args": bounds}}
    custom = {"name": "cel-matcher", "typed_config": _cel({"expr": expr})}
    return _single("http-attributes-cel-match-input", _ATTRIBUTES, custom_match=custom)


def _bound(function: str, value: int) -> Json:
    response = {"ident_expr": {"name": "response"}}
    code = {"select_expr": {"operand": response, "field": "code"}}
    limit = {"const_expr": {"int64_value": value}}
    return {"call_expr": {"function": function, "args": [code, limit]}}


def _header(header: Mapping[str, Any]) -> Json:
    value = known(header, "name", "value")["value"]
    url = {"@type": f"{_INPUT}.HttpResponseHeaderMatchInput", "header_name": header["name"]}
    match = {value.get("type", "Exact").lower(): value["value"]}
    return _single("http-response-header-match-input", url, value_match=match)


def _origin(*, is_local: bool) -> Json:
    url = {"@type": f"{_INPUT}.HttpResponseLocalReplyMatchInput"}
    match = {"exact": str(is_local).lower()}
    return _single("http-response-local-reply-match-input", url, value_match=match)


def _response(response: Mapping[str, Any]) -> Json:
    known(response, "statusCode", "contentType", "body", "header")
    headers = [{"name": "Content-Type", "value": response["contentType"]}]
    headers += known(response.get("header", {}), "set").get("set", [])
    return {
        "@type": f"{_POLICY}.LocalResponsePolicy",
        "status_code": response["statusCode"],
        "body_format": {"text_format": response["body"]["inline"]},
        "response_headers_to_add": header_options(headers),
    }


def _all_of(predicates: list[Json]) -> Json:
    if len(predicates) == 1:
        return predicates[0]
    return {"and_matcher": {"predicate": predicates}}


def _single(name: str, matcher: Json, **match: Json) -> Json:
    return {"single_predicate": {"input": {"name": name, "typed_config": matcher}, **match}}


def _cel(parsed: Json) -> Json:
    return {"@type": f"{_MATCHER}.CelMatcher", "expr_match": {"cel_expr_parsed": parsed}}
