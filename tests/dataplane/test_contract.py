import re
from typing import get_args

import pytest

from extauthz.callcontrol import NoSuchCallError, parse_control_path, parse_state_path
from extauthz.providers.base import Verb
from helpers.envoyproc import BOOTSTRAP
from ringback import contract
from ringback.envoylint.parts import Json, http_filter, manager, named, routes
from ringback.paths import envoy_dir
from ringback.render.bootstrap import read_bootstrap
from ringback.settings import WebSocketSettings
from ringback.upstream import UpstreamRefusedError, UpstreamTimeoutError

pytestmark = pytest.mark.dataplane

AUTHZ, PROC = "envoy.filters.http.ext_authz", "envoy.filters.http.ext_proc"
ANSWER_INTERLOCK = "answer_interlock"
# Routes of endpoints that take POST.
CALLS = {"calls", "calls_form", "calls_with_token"}
POSTS = {"client_secrets", "transcription_sessions", *CALLS}
# What access logs show of a decision.
LOGGED_OF_AUTHZ = {
    contract.OUTCOME,
    contract.KEY_ALIAS,
    contract.TEAM,
    contract.USER,
    contract.MODEL,
    contract.DEPLOYMENT,
    contract.TOKEN_ID,
}


@pytest.fixture
def bootstrap() -> Json:
    """A copy of envoy/envoy.yaml that the test may change."""
    return read_bootstrap(BOOTSTRAP)


def named_by(items: list[Json], field: str, value: str) -> Json:
    """Return the one part with a value."""
    (part,) = [item for item in items if item[field] == value]
    return part


def regex_of(bootstrap: Json, name: str) -> str:
    """Return the expression of the first route of a name."""
    found = next(route for route in routes(bootstrap) if route["name"] == name)
    return str(found["match"]["safe_regex"]["regex"])


def interlock(bootstrap: Json, name: str) -> Json:
    """Return the metadata matcher of an RBAC filter that lets one thing pass."""
    rules = http_filter(bootstrap, name)["rules"]
    assert rules["action"] == "ALLOW"
    (policy,) = rules["policies"].values()
    assert policy["permissions"] == [{"any": True}]
    (principal,) = policy["principals"]
    matcher: Json = principal["sourced_metadata"]["metadata_matcher"]
    assert principal["sourced_metadata"]["metadata_source"] == "DYNAMIC"
    return matcher


def logged(bootstrap: Json) -> str:
    """Return the format of the ingress's access log as text."""
    (log,) = manager(bootstrap)["access_log"]
    return str(log["typed_config"]["log_format"]["json_format"])


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        pytest.param("authz_interlock", contract.AUTHZ_NAMESPACE, id="extauthz"),
        pytest.param("proc_interlock", contract.PROC_NAMESPACE, id="sdpfilter"),
    ],
)
def test_interlocks_want_what_the_services_set(bootstrap: Json, name: str, namespace: str) -> None:
    """Behind each service only its own mark of consent passes."""
    assert interlock(bootstrap, name) == {
        "filter": namespace,
        "path": [{"key": contract.CHECKED}],
        "value": {"bool_match": True},
    }


def test_interlock_of_the_way_back_reads_what_sdpfilter_sets(bootstrap: Json) -> None:
    """The Lua filter names the namespace and both marks of sdpfilter."""
    script = http_filter(bootstrap, ANSWER_INTERLOCK)["default_source_code"]["inline_string"]
    assert f'metadata:get("{contract.PROC_NAMESPACE}")' in script
    assert f"sdpfilter.{contract.ANSWER_CHECKED} or not sdpfilter.{contract.CHECKED}" in script
    assert f'metadata:set("{contract.PROC_NAMESPACE}", "{contract.OUTCOME}"' in script


def test_metadata_travels_under_the_names_of_the_services(bootstrap: Json) -> None:
    """Extauthz's metadata reaches sdpfilter, and sdpfilter's is taken over."""
    assert contract.AUTHZ_NAMESPACE == AUTHZ
    assert http_filter(bootstrap, PROC)["metadata_options"] == {
        "forwarding_namespaces": {"untyped": [contract.AUTHZ_NAMESPACE]},
        "receiving_namespaces": {"untyped": [contract.PROC_NAMESPACE]},
    }


def test_answers_of_the_services_keep_their_bodies(bootstrap: Json) -> None:
    """Every mapper of local replies stays away from what a service answered itself."""
    for mapper in manager(bootstrap)["local_reply_config"]["mappers"]:
        guards = [
            part["metadata_filter"]
            for part in mapper["filter"]["and_filter"]["filters"]
            if "metadata_filter" in part
        ]
        for guard, namespace in zip(
            guards, (contract.AUTHZ_NAMESPACE, contract.PROC_NAMESPACE), strict=False
        ):
            assert guard == {
                "matcher": {
                    "filter": namespace,
                    "path": [{"key": contract.ANSWERED}],
                    "value": {"bool_match": False},
                },
                "match_if_key_not_found": True,
            }


def test_access_log_shows_the_labels(bootstrap: Json) -> None:
    """Access logs name the metadata that the services set, all of it but the hash of the key."""
    found = re.findall(r"%DYNAMIC_METADATA\(([^:]+):(\w+)\)%", logged(bootstrap))
    assert {key for namespace, key in found if namespace == AUTHZ} == LOGGED_OF_AUTHZ
    assert {key for namespace, key in found if namespace == contract.PROC_NAMESPACE} == {
        contract.OUTCOME,
        contract.OFFER_EDITS,
        contract.ANSWER_EDITS,
    }


def test_internal_headers_are_named_alike(bootstrap: Json) -> None:
    """Routes choose clusters by the contract's header, and nobody else may send its prefix."""
    (early,) = manager(bootstrap)["early_header_mutation_extensions"]
    mutations = early["typed_config"]["mutations"]
    removed = [m["remove_on_match"]["key_matcher"] for m in mutations if "remove_on_match" in m]
    assert {"prefix": contract.INTERNAL_HEADER_PREFIX} in removed
    for listener in (contract.INGRESS_LISTENER, contract.EGRESS_LISTENER):
        for upstream in routes(bootstrap, listener):
            if upstream["name"] in {"upstream", "upstream_form"}:
                assert upstream["route"]["cluster_header"] == contract.CLUSTER_HEADER
                assert upstream["match"]["headers"][0] == {
                    "name": contract.CLUSTER_HEADER,
                    "string_match": {"prefix": contract.UPSTREAM_CLUSTER_PREFIX},
                }
    for name in ("upstream", "upstream_form"):
        removed = named(routes(bootstrap), name)["request_headers_to_remove"]
        assert contract.CLUSTER_HEADER in removed
    egress = manager(bootstrap, contract.EGRESS_LISTENER)
    assert contract.CLUSTER_HEADER in egress["route_config"]["request_headers_to_remove"]
    (mapper,) = egress["local_reply_config"]["mappers"]
    (mark,) = mapper["headers_to_add"]
    assert mark["header"]["key"] == contract.EGRESS_MARK_HEADER


def test_paths_are_those_of_the_services(bootstrap: Json) -> None:
    """Envoy asks extauthz about exactly the paths that it serves, POST only; readiness by GET."""
    paths: dict[str, set[str]] = {}
    for route in routes(bootstrap):
        if "path" in route["match"]:
            paths.setdefault(route["name"], set()).add(route["match"]["path"])
            method = route["match"]["headers"][0]
            post = route["name"] in POSTS
            assert method["name"] == ":method"
            assert method["string_match"] == {"exact": "POST" if post else "GET"}
    assert paths["websocket"] == contract.WEBSOCKET_PATHS
    assert paths["client_secrets"] == contract.CLIENT_SECRETS_PATHS
    assert paths["transcription_sessions"] == contract.TRANSCRIPTION_SESSIONS_PATHS
    assert all(paths[name] == contract.CALLS_PATHS for name in CALLS)
    assert paths["ready"] == {contract.READY_PATH}
    other = regex_of(bootstrap, "method_not_allowed")
    for name in POSTS:
        assert all(re.fullmatch(other, path) for path in paths[name])
    assert not re.fullmatch(other, contract.READY_PATH)


def test_commands_are_those_of_extauthz(bootstrap: Json) -> None:
    """Envoy asks extauthz about the commands that it knows, and none else."""
    regex = regex_of(bootstrap, "call_control")
    for prefix in contract.API_PREFIXES:
        for verb in get_args(Verb):
            path = f"{prefix}/calls/rtc_x/{verb}"
            assert re.fullmatch(regex, path)
            assert parse_control_path(path) == ("rtc_x", verb)
    for path in ("/v1/realtime/calls/rtc_x/mute", "/v1/realtime/calls/a/b/hangup"):
        assert not re.fullmatch(regex, path)
        assert parse_control_path(path) is None


def test_states_of_calls_are_asked_of_extauthz(bootstrap: Json) -> None:
    """Envoy asks extauthz about exactly the paths that it serves."""
    regex = regex_of(bootstrap, "call_states")
    for path in contract.CALLS_PATHS:
        for asked, handle in ((path, ""), (f"{path}/rtc_x.y", "rtc_x.y")):
            assert re.fullmatch(regex, asked)
            assert parse_state_path(asked) == handle
    for path in ("/v1/realtime/calls/", "/v1/realtime/calls/a/b", "/v1/realtime/callsx"):
        assert not re.fullmatch(regex, path)
        assert parse_state_path(path) is None


def test_websockets_meet_in_their_names(bootstrap: Json) -> None:
    """The route of WebSockets, its limits and its words are what the code says."""
    route = named(routes(bootstrap), "upstream_websocket")
    matches = {header["name"]: header["string_match"] for header in route["match"]["headers"]}
    assert matches[contract.ROUTE_HEADER] == {"exact": contract.ROUTE_WEBSOCKET}
    assert {contract.CLUSTER_HEADER, contract.ROUTE_HEADER} <= {*route["request_headers_to_remove"]}
    limits = WebSocketSettings()
    assert route["route"]["idle_timeout"] == f"{limits.idle_timeout_s:g}s"
    assert route["route"]["max_stream_duration"] == {
        "max_stream_duration": f"{limits.max_duration_s:g}s"
    }
    override = route["typed_per_filter_config"][ANSWER_INTERLOCK]
    script = override["source_code"]["inline_string"]
    assert f'get("{contract.AUTHZ_NAMESPACE}")' in script
    assert f"decision.{contract.SUBPROTOCOL}" in script
    for error in (NoSuchCallError(), UpstreamRefusedError(), UpstreamTimeoutError()):
        assert f'{error.http_status}, "{error.type}", "{error.code}", "{error}"' in script


def test_websockets_take_no_connection_of_calls(bootstrap: Json) -> None:
    """They alone have the high priority, whose limits `extauthz.clusters` sets apart."""
    high = {route["name"] for route in routes(bootstrap) if route.get("route", {}).get("priority")}
    assert high == {"upstream_websocket"}


def test_refused_upgrades_are_those_that_no_filter_saw(bootstrap: Json) -> None:
    """What reached the filters and was stopped there is not called a refused upgrade."""
    rules = http_filter(bootstrap, "envoy.filters.http.header_to_metadata")["request_rules"]
    assert named_by(rules, "header", "upgrade")["on_header_present"] == {
        "metadata_namespace": contract.CORS_NAMESPACE,
        "key": contract.UPGRADE,
    }
    refused, *_ = manager(bootstrap)["local_reply_config"]["mappers"]
    (seen,) = [
        part["metadata_filter"]
        for part in refused["filter"]["and_filter"]["filters"]
        if part.get("metadata_filter", {}).get("matcher", {}).get("filter")
        == contract.CORS_NAMESPACE
    ]
    assert seen["matcher"]["path"] == [{"key": contract.UPGRADE}]
    assert seen["match_if_key_not_found"] is True


def test_forms_and_nothing_else_are_shown_to_extauthz(bootstrap: Json) -> None:
    """Extauthz gets the body of a call that comes as a form, and no raw offer."""
    found = [route for route in routes(bootstrap) if route["name"] in CALLS]
    names = [route["name"] for route in found]
    assert names == ["calls_form"] * 3 + ["calls_with_token"] * 3 + ["calls"] * 3
    for route in found:
        content_types = [h for h in route["match"]["headers"] if h["name"] == "content-type"]
        settings = route["typed_per_filter_config"][AUTHZ]["check_settings"]
        assert (len(content_types), settings.get("disable_request_body_buffering", False)) == (
            (1, False) if route["name"] == "calls_form" else (0, True)
        )


@pytest.mark.parametrize(
    ("cluster", "names"),
    [
        (contract.AUTHZ_MINTS_CLUSTER, {"client_secrets", "transcription_sessions", "calls"}),
        (contract.AUTHZ_CALLS_CLUSTER, {"calls_with_token"}),
    ],
)
def test_kinds_of_requests_have_clusters_of_their_own(
    bootstrap: Json, cluster: str, names: set[str]
) -> None:
    """What waits for a provider takes no place of what does not; all else is asked as ever."""
    usual = http_filter(bootstrap, AUTHZ)["grpc_service"]
    theirs = {**usual, "envoy_grpc": {"cluster_name": cluster}}
    found = {
        route["name"]
        for route in routes(bootstrap)
        if (own := route.get("typed_per_filter_config", {}).get(AUTHZ))
        and own.get("check_settings", {}).get("grpc_service") == theirs
    }
    assert found - {"calls_form"} == names
    assert ("calls_form" in found) == (cluster == contract.AUTHZ_MINTS_CLUSTER)


def test_listeners_and_clusters_have_the_names_of_the_contract(bootstrap: Json) -> None:
    """Code finds listeners and clusters by these names."""
    static = bootstrap["static_resources"]
    listeners = [contract.INGRESS_LISTENER, contract.EGRESS_LISTENER, contract.METRICS_LISTENER]
    assert [listener["name"] for listener in static["listeners"]] == listeners
    for name in listeners:
        assert manager(bootstrap, name)["stat_prefix"] == name
        assert manager(bootstrap, name)["route_config"]["name"] == name
    clusters = {cluster["name"] for cluster in static["clusters"]}
    services = {*contract.AUTHZ_CLUSTERS, contract.PROC_CLUSTER}
    assert clusters == {"nowhere", contract.ADMIN_CLUSTER, *services}
    for name, cluster in ((AUTHZ, contract.AUTHZ_CLUSTER), (PROC, contract.PROC_CLUSTER)):
        grpc = http_filter(bootstrap, name)["grpc_service"]
        assert grpc["envoy_grpc"] == {"cluster_name": cluster}
    cds = bootstrap["dynamic_resources"]["cds_config"]["api_config_source"]
    (service,) = cds["grpc_services"]
    assert service["envoy_grpc"]["cluster_name"] == contract.AUTHZ_CLUSTER


def test_body_limit_is_the_same_everywhere(bootstrap: Json) -> None:
    """The first filter refuses what ext_authz could not hold, and says how much is allowed."""
    limit = contract.MAX_REQUEST_BODY_BYTES
    assert http_filter(bootstrap, "envoy.filters.http.buffer")["max_request_bytes"] == limit
    assert http_filter(bootstrap, AUTHZ)["with_request_body"]["max_request_bytes"] == limit
    assert f"larger than {limit} bytes" in str(manager(bootstrap)["local_reply_config"])


def test_origins_are_the_same_in_both_places(bootstrap: Json) -> None:
    """The origin that is kept for late refusals is one that the CORS policy allows."""
    (host,) = manager(bootstrap)["route_config"]["virtual_hosts"]
    policy = host["typed_per_filter_config"]["envoy.filters.http.cors"]
    allowed = [match["safe_regex"]["regex"] for match in policy["allow_origin_string_match"]]
    rules = http_filter(bootstrap, "envoy.filters.http.header_to_metadata")["request_rules"]
    kept = named_by(rules, "header", "origin")["on_header_present"]
    assert kept["regex_value_rewrite"] == {
        "pattern": {"regex": f"^({'|'.join(allowed)})$|^.*$"},
        "substitution": "\\1",
    }
    late = named(routes(bootstrap), "upstream")["response_headers_to_add"]
    assert named(routes(bootstrap), "upstream_form")["response_headers_to_add"] == late
    values = {entry["header"]["key"]: entry["header"]["value"] for entry in late}
    assert (kept["metadata_namespace"], kept["key"]) == (
        contract.CORS_NAMESPACE,
        contract.ALLOWED_ORIGIN,
    )
    assert values == {
        "access-control-allow-origin": (
            f"%DYNAMIC_METADATA({contract.CORS_NAMESPACE}:{contract.ALLOWED_ORIGIN})%"
        ),
        "access-control-expose-headers": policy["expose_headers"],
    }


def test_page_of_the_file_is_there(bootstrap: Json) -> None:
    """The playground's route reads a file that the checkout has, and is switched off."""
    route = named(routes(bootstrap), "playground")
    file = envoy_dir().parent / route["direct_response"]["body"]["filename"]
    limit = manager(bootstrap)["route_config"]["max_direct_response_body_size_bytes"]
    assert file.stat().st_size <= limit
    (layer,) = bootstrap["layered_runtime"]["layers"]
    assert layer["static_layer"]["ringback"] == {"playground": 0}


def test_page_about_the_bootstrap_names_filters_and_metadata(bootstrap: Json) -> None:
    """envoy/README.md has each filter, in order, and each key of metadata."""
    page = (envoy_dir() / "README.md").read_text()
    filters = [f"| `{part['name']}` |" for part in manager(bootstrap)["http_filters"]]
    assert sorted(filters, key=page.index) == filters
    keys = {key for _, key in re.findall(r"%DYNAMIC_METADATA\(([^:]+):(\w+)\)%", logged(bootstrap))}
    keys |= {contract.CHECKED, contract.ANSWER_CHECKED, contract.ANSWERED, contract.ALLOWED_ORIGIN}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
