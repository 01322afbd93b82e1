import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringback.envoylint import lint, lint_text
from ringback.envoylint.parts import Json, http_filter, manager, named, parts, routes, type_of
from ringback.paths import envoy_dir
from ringback.render.bootstrap import read_bootstrap

BOOTSTRAP = envoy_dir() / "envoy.yaml"
Change = Callable[[Json], object]


@pytest.fixture(scope="module")
def original() -> Json:
    """What envoy/envoy.yaml says."""
    return read_bootstrap(BOOTSTRAP)


@pytest.fixture
def bootstrap(original: Json) -> Json:
    """A copy of it that the test may change."""
    return copy.deepcopy(original)


def change_all(field: str, value: object) -> Change:
    """Return a change of a field wherever it stands."""

    def change(bootstrap: Json) -> None:
        found = [part.value for part in parts(bootstrap) if field in part.value]
        assert found
        for part in found:
            part[field] = value

    return change


def change_type(kind: str, **fields: Any) -> Change:
    """Return a change of fields of all parts of one type."""

    def change(bootstrap: Json) -> None:
        found = [part.value for part in parts(bootstrap) if type_of(part.value) == kind]
        assert found
        for part in found:
            part.update(fields)

    return change


def drop(field: str, kind: str = "") -> Change:
    """Return a change that removes a field wherever it stands, or from all parts of one type."""

    def change(bootstrap: Json) -> None:
        found = [part.value for part in parts(bootstrap) if field in part.value]
        found = [part for part in found if not kind or type_of(part) == kind]
        assert found
        for part in found:
            del part[field]

    return change


def change_route(name: str, **fields: Any) -> Change:
    """Return a change of the first route of a name."""

    def change(bootstrap: Json) -> None:
        next(route for route in routes(bootstrap) if route["name"] == name).update(fields)

    return change


def change_cluster(name: str, **fields: Any) -> Change:
    """Return a change of a cluster."""
    return lambda bootstrap: named(bootstrap["static_resources"]["clusters"], name).update(fields)


def log(**fields: str) -> Change:
    """Return a change of the format of the access log."""

    def change(bootstrap: Json) -> None:
        (found,) = manager(bootstrap)["access_log"]
        found["typed_config"]["log_format"]["json_format"].update(fields)

    return change


def add_host(bootstrap: Json) -> None:
    """Tell hosts apart, and let all others to the upstream all the same."""
    hosts = manager(bootstrap)["route_config"]["virtual_hosts"]
    hosts.append({"name": "other", "domains": ["other.example"], "routes": []})


def open_admin(bootstrap: Json) -> None:
    """Let the world at the admin interface."""
    route = {"name": "all", "match": {"prefix": "/"}, "route": {"cluster": "envoy_admin"}}
    routes(bootstrap).insert(0, route | {"route": {"cluster": "envoy_admin", "timeout": "5s"}})


# What is broken, where the rule finds it, and the word that says what to do.
TRAPS = [
    # Realistic
    pytest.param(
        change_type("ExtAuthz", failure_mode_allow=True),
        "envoy.filters.http.ext_authz/typed_config/failure_mode_allow",
        "set it to false",
        id="failure-mode",
    ),
    pytest.param(
        change_type("ExternalProcessor", failure_mode_allow=True),
        "envoy.filters.http.ext_proc/typed_config/failure_mode_allow",
        "set it to false",
        id="failure-mode-of-ext_proc",
    ),
    pytest.param(drop("failure_mode_allow"), "ext_authz", "write it", id="failure-mode-unsaid"),
    pytest.param(
        change_all("allow_partial_message", value=True),
        "with_request_body/allow_partial_message",
        "set it to false",
        id="partial-bodies",
    ),
    pytest.param(
        change_type("RBAC", shadow_mode=True), "shadow_mode", "set it to false", id="shadow-mode"
    ),
    pytest.param(
        change_type("RBAC", shadow_rules={"action": "ALLOW"}), "shadow", "remove", id="shadow-rules"
    ),
    pytest.param(
        change_type("ExternalProcessor", observability_mode=True),
        "observability_mode",
        "set it to false",
        id="observe",
    ),
    pytest.param(
        change_all("request_body_mode", "BUFFERED_PARTIAL"),
        "processing_mode/request_body_mode",
        "set BUFFERED",
        id="partial-offer",
    ),
    pytest.param(
        change_all("response_body_mode", "STREAMED"),
        "processing_mode/response_body_mode",
        "set BUFFERED",
        id="streamed-answer",
    ),
    pytest.param(
        change_route("healthy", match={"prefix": "/healthz"}),
        "routes/healthy",
        "match path: and one :method",
        id="prefix-opt-out",
    ),
    pytest.param(
        change_route("healthy", match={"path": "/healthz"}),
        "routes/healthy",
        "match path: and one :method",
        id="opt-out-for-all-methods",
    ),
    pytest.param(add_host, "virtual_hosts/ringback", "name the hosts", id="other-hosts"),
    pytest.param(
        change_type("CorsPolicy", allow_origin_string_match=[{"safe_regex": {"regex": ".*"}}]),
        "allow_origin_string_match/0",
        "name the origins",
        id="any-origin",
    ),
    pytest.param(
        lambda b: b["admin"]["address"]["socket_address"].update(address="0.0.0.0"),
        "admin/address",
        "127.0.0.1",
        id="open-admin",
    ),
    pytest.param(
        drop("validate_mutations"), "ext_authz", "validate_mutations: true", id="unvalidated"
    ),
    pytest.param(
        change_type("ExtAuthz", validate_mutations=False),
        "ext_authz",
        "validate_mutations: true",
        id="not-validated",
    ),
    pytest.param(drop("message_timeout"), "ext_proc", "write it", id="default-message-timeout"),
    pytest.param(
        lambda b: http_filter(b, "envoy.filters.http.ext_authz")["grpc_service"].pop("timeout"),
        "ext_authz/typed_config/grpc_service",
        "timeout is missing",
        id="default-timeout",
    ),
    pytest.param(
        change_route("upstream", route={"cluster_header": "x"}),
        "routes/upstream/route",
        "timeout is missing",
        id="no-route-timeout",
    ),
    pytest.param(
        change_route("upstream", route={"cluster_header": "x", "timeout": "0s"}),
        "routes/upstream/route",
        "timeout is missing",
        id="endless-route",
    ),
    pytest.param(
        change_route(
            "upstream", route={"cluster_header": "x", "timeout": "9s", "max_stream_duration": {}}
        ),
        "routes/upstream/route/max_stream_duration",
        "choose one",
        id="void-timeout",
    ),
    pytest.param(
        change_route(
            "upstream_websocket",
            route={"cluster_header": "x", "idle_timeout": "9s", "upgrade_configs": []},
        ),
        "routes/upstream_websocket/route",
        "max_stream_duration is missing",
        id="endless-websockets",
    ),
    pytest.param(drop("connect_timeout"), "clusters/extauthz", "connect_timeout", id="connecting"),
    pytest.param(
        drop("request_headers_timeout"), "listeners/ingress_http", "set 3s", id="slow-headers"
    ),
    pytest.param(drop("request_timeout"), "connection_manager", "write it", id="slow-bodies"),
    pytest.param(
        change_type("HttpConnectionManager", normalize_path=False),
        "normalize_path",
        "set it to true",
        id="dot-segments",
    ),
    pytest.param(
        log(credential="%REQ(AUTHORIZATION)%"), "json_format/credential", "remove", id="logged-key"
    ),
    pytest.param(log(path="%REQ(:PATH)%"), "json_format/path", "remove it", id="logged-path"),
    pytest.param(
        log(at="%DOWNSTREAM_REMOTE_ADDRESS%"), "json_format/at", "remove it", id="logged-address"
    ),
    # Synthetic
    pytest.param(
        change_type("HttpConnectionManager", internal_address_config={}),
        "internal_address_config",
        "name ranges",
        id="private-is-trusted",
    ),
    pytest.param(
        change_type("ExtAuthz", filter_enabled={}), "filter_enabled", "remove it", id="sampled"
    ),
    pytest.param(
        change_type("ExtAuthz", status_on_error={"code": "OK"}),
        "status_on_error",
        "set code: ServiceUnavailable",
        id="blamed",
    ),
]
HOUSE = [
    pytest.param(
        lambda b: named(b["static_resources"]["listeners"], "egress_http")["address"].update(
            socket_address={"address": "0.0.0.0", "port_value": 4001}
        ),
        "egress_http",
        "127.0.0.1 only",
        id="open-egress",
    ),
    pytest.param(
        lambda b: manager(b)["http_filters"].pop(-2), "http_filters", "expected", id="no-interlock"
    ),
    pytest.param(
        lambda b: manager(b)["http_filters"].reverse(), "http_filters", "expected", id="order"
    ),
    pytest.param(
        lambda b: named(manager(b)["http_filters"], "authz_interlock").update(disabled=True),
        "http_filters/authz_interlock",
        "remove disabled",
        id="interlock-off",
    ),
    pytest.param(
        change_route("calls", typed_per_filter_config={}),
        "route calls",
        "must switch ext_proc on",
        id="calls-unprocessed",
    ),
    pytest.param(
        change_route(
            "upstream", typed_per_filter_config={"proc_interlock": {"rbac": {"rules": {}}}}
        ),
        "route upstream",
        "processing_mode alone",
        id="override-upstream",
    ),
    pytest.param(
        change_route("upstream", typed_per_filter_config={}),
        "route upstream",
        "processing_mode alone",
        id="unshown-offers",
    ),
    pytest.param(
        lambda b: named(routes(b), "upstream")["typed_per_filter_config"][
            "envoy.filters.http.ext_proc"
        ]["overrides"]["processing_mode"].update(response_header_mode="SKIP"),
        "route upstream",
        "processing_mode alone",
        id="unread-answer-headers",
    ),
    pytest.param(
        change_route(
            "upstream_form", typed_per_filter_config={"proc_interlock": {"rbac": {"rules": {}}}}
        ),
        "route upstream_form",
        "remove the override",
        id="override-upstream-form",
    ),
    pytest.param(
        change_route(
            "client_secrets",
            route={"cluster": "upstream_x", "timeout": "1s"},
            typed_per_filter_config={"x": {}},
        ),
        "route client_secrets",
        "remove the override",
        id="opened-route",
    ),
    pytest.param(
        change_route("upstream_websocket", match={"prefix": "/", "headers": []}),
        "route upstream_websocket",
        "must want all of its headers",
        id="open-websockets",
    ),
    pytest.param(
        change_route(
            "upstream_websocket", typed_per_filter_config={"proc_interlock": {"rbac": {}}}
        ),
        "route upstream_websocket",
        "must want extauthz's word",
        id="unchecked-websockets",
    ),
    pytest.param(
        lambda b: http_filter(b, "envoy.filters.http.ext_proc")["processing_mode"].update(
            response_body_mode="NONE"
        ),
        "processing_mode",
        "BUFFERED",
        id="unread-answer",
    ),
    pytest.param(
        change_cluster("nowhere", load_assignment={"endpoints": [{}]}),
        "clusters/nowhere",
        "no endpoints",
        id="nowhere-is-somewhere",
    ),
    pytest.param(open_admin, "ingress_http", "opens the admin interface", id="admin-for-all"),
    pytest.param(
        lambda b: routes(b, "metrics_http")[0]["match"].update(headers=[]),
        "metrics_http",
        "opens the admin interface",
        id="stats-with-queries",
    ),
    # Pathological
    pytest.param(
        lambda b: b["static_resources"].pop("clusters"), "the file", "is not laid out", id="hollow"
    ),
]


def test_nothing_fails_open(bootstrap: Json) -> None:
    """envoy/envoy.yaml breaks none of the rules."""
    assert lint(bootstrap) == []


@pytest.mark.parametrize(("change", "path", "advice"), TRAPS + HOUSE)
def test_each_rule_can_be_broken(bootstrap: Json, change: Change, path: str, advice: str) -> None:
    """Each mistake that would open the door is found, with its place and what to change."""
    change(bootstrap)
    found = [str(offence) for offence in lint(bootstrap)]
    assert [line for line in found if path in line.partition(": ")[0] and advice in line], found


@pytest.mark.parametrize(("change", "path", "advice"), TRAPS)
def test_traps_are_found_in_any_file(
    bootstrap: Json, change: Change, path: str, advice: str
) -> None:
    """The same holds for an Envoy that is laid out otherwise."""
    change(bootstrap)
    named(bootstrap["static_resources"]["listeners"], "ingress_http")["name"] = "listener_0"
    found = [str(offence) for offence in lint(bootstrap)]
    path = path.replace("ingress_http", "listener_0")
    assert [line for line in found if path in line.partition(": ")[0] and advice in line], found


def test_a_place_has_its_line() -> None:
    """The line is that of the field in the file as it was written, also behind an alias."""
    text = BOOTSTRAP.read_text()
    bad = text.replace("failure_mode_allow: false", "failure_mode_allow: true", 1)
    (offence,) = lint_text(bad)
    line = int(offence.removeprefix("line ").partition(":")[0])
    assert bad.splitlines()[line - 1].strip() == "failure_mode_allow: true"
    (offence,) = lint_text(json.dumps(yaml.safe_load(bad), indent=1))
    line = int(offence.removeprefix("line ").partition(":")[0])
    assert "failure_mode_allow" in json.dumps(yaml.safe_load(bad), indent=1).splitlines()[line - 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a: [", "is no YAML", id="no-yaml"),
        pytest.param("[]", "expected an object", id="no-object"),
        pytest.param("", "expected an object", id="empty"),
        pytest.param("static_resources: []", "is not laid out", id="no-listeners"),
    ],
)
def test_what_is_no_bootstrap_is_said_to_be_none(text: str, expected: str) -> None:
    """A file that cannot be checked does not pass."""
    assert expected in lint_text(text)[0]


COMMAND = "from ringback.cli import main; main()"


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``ringback check``."""
    command = [sys.executable, "-c", COMMAND, "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_lints(tmp_path: Path) -> None:
    """``ringback check --envoy`` takes several files, and names file, line, path and remedy."""
    bad = tmp_path / "bad.yaml"
    text = BOOTSTRAP.read_text()
    bad.write_text(text.replace("validate_mutations: true", "validate_mutations: false"))
    good = check("--envoy", BOOTSTRAP, "--envoy", BOOTSTRAP)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("nothing fails open in")
    refused = check("--envoy", BOOTSTRAP, "--envoy", bad, "--envoy", tmp_path / "none.yaml")
    assert refused.returncode == 2
    _, first, second = refused.stderr.splitlines()
    assert first.startswith(f"  {bad}: line ")
    assert "set validate_mutations: true" in first
    assert second == f"  {tmp_path / 'none.yaml'}: cannot be read: No such file or directory"
