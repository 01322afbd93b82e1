import copy
import re
from pathlib import Path
from typing import Any

import pytest

from ringback.contract import AUTHZ_CLUSTERS
from ringback.paths import envoy_dir
from ringback.render.bootstrap import (
    Address,
    BootstrapError,
    Changes,
    Json,
    adapt_bootstrap,
    read_bootstrap,
)
from ringback.render.envoytypes import check_types
from ringback.settings import check_origin_pattern
from ringback.settings.origins import origin_regex
from ringback.settings.overload import OverloadSettings

MANAGER = "envoy.filters.network.http_connection_manager"
PAGE = Path("/somewhere/playground.html")
EVERYTHING = Changes(
    ingress=Address("127.0.0.1", 14000),
    egress=Address("127.0.0.1", 14001),
    admin=Address("127.0.0.1", 19901),
    endpoints={
        "extauthz": ["unix:/run/a-0.sock", "unix:/run/a-1.sock", "unix:/run/a-2.sock"],
        "sdpfilter": ["127.0.0.1:9002", "[::1]:9012"],
    },
    cors_origins=["https://app.example.com", "https://*.example.com:*"],
    playground=PAGE,
)


@pytest.fixture(scope="module")
def original() -> Json:
    """The bootstrap that people write; tests leave it as it is."""
    return read_bootstrap(envoy_dir() / "envoy.yaml")


def find(parts: list[Json], name: str) -> Json:
    """Return the one part with a name."""
    (part,) = [part for part in parts if part["name"] == name]
    return part


def virtual_host(bootstrap: Json) -> Json:
    """Return the virtual host that downstreams reach."""
    listener = find(bootstrap["static_resources"]["listeners"], "ingress_http")
    manager: Json = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return find(manager["route_config"]["virtual_hosts"], "ringback")


def cluster(bootstrap: Json, name: str) -> Json:
    """Return a static cluster."""
    return find(bootstrap["static_resources"]["clusters"], name)


def differences(left: Any, right: Any, path: str = "") -> set[str]:
    """Return the paths at which two JSON values differ; named parts of lists by their names."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = left.keys() | right.keys()
        return {
            found
            for key in keys
            for found in differences(left.get(key), right.get(key), f"{path}/{key}")
        }
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return {
            found
            for index, (a, b) in enumerate(zip(left, right, strict=True))
            for found in differences(a, b, f"{path}/{name_of(a) or index}")
        }
    return set() if left == right else {path}


def test_limits_of_the_file_are_the_defaults_of_the_settings(original: Json) -> None:
    """Whoever runs envoy.yaml as it is has the limits that docs/configuration.md names."""
    adapted = adapt_bootstrap(original, Changes(overload=OverloadSettings()))
    assert adapted == adapt_bootstrap(original, Changes())


def test_limits_are_of_each_worker(original: Json) -> None:
    """Three workers wait for three times as much; connections are limited for all together."""
    settings = OverloadSettings(
        max_decisions=10, max_mints=5, max_checks=7, max_calls=20, max_connections=30
    )
    changes = Changes(endpoints=EVERYTHING.endpoints, overload=settings)

    adapted = adapt_bootstrap(original, changes)

    limits_of_all = {"extauthz": 30, "extauthz_mints": 15, "extauthz_calls": 21, "sdpfilter": 40}
    for name, limit in limits_of_all.items():
        (limits,) = cluster(adapted, name)["circuit_breakers"]["thresholds"]
        assert limits == {
            "max_requests": limit,
            "max_pending_requests": limit,
            "max_retries": 4096,
        }
    (layer,) = adapted["layered_runtime"]["layers"]
    limit = layer["static_layer"]["envoy.resource_limits.listener.ingress_http.connection_limit"]
    assert limit == 30


def name_of(part: Any) -> str | None:
    """Return the name of a part that has one."""
    return part.get("name") if isinstance(part, dict) else None


def test_listeners_and_admin_get_their_addresses(original: Json) -> None:
    """Each listener is found by its name, and its address is replaced."""
    adapted = adapt_bootstrap(original, EVERYTHING)

    listeners = adapted["static_resources"]["listeners"]
    assert find(listeners, "ingress_http")["address"] == {
        "socket_address": {"address": "127.0.0.1", "port_value": 14000}
    }
    assert find(listeners, "egress_http")["address"]["socket_address"]["port_value"] == 14001
    assert adapted["admin"]["address"]["socket_address"]["port_value"] == 19901


def test_every_worker_is_an_endpoint(original: Json) -> None:
    """A socket becomes a pipe and a host with a port a socket address, one endpoint each."""
    adapted = adapt_bootstrap(original, EVERYTHING)

    def addresses(name: str) -> list[Json]:
        (group,) = cluster(adapted, name)["load_assignment"]["endpoints"]
        return [endpoint["endpoint"]["address"] for endpoint in group["lb_endpoints"]]

    assert addresses("extauthz") == [
        {"pipe": {"path": f"/run/a-{worker}.sock"}} for worker in range(3)
    ]
    assert addresses("sdpfilter") == [
        {"socket_address": {"address": "127.0.0.1", "port_value": 9002}},
        {"socket_address": {"address": "::1", "port_value": 9012}},
    ]


def test_origins_replace_those_of_the_file(original: Json) -> None:
    """The settings' origins are the whole list, each as a regular expression."""
    adapted = adapt_bootstrap(original, EVERYTHING)

    policy = virtual_host(adapted)["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert policy["allow_origin_string_match"] == [
        {"safe_regex": {"regex": origin_regex(origin)}}
        for origin in ("https://app.example.com", "https://*.example.com:*")
    ]
    assert policy["expose_headers"] == "location, x-request-id, retry-after"


def test_no_origin_is_an_empty_list(original: Json) -> None:
    """Without origins no page may call, which is not the same as the defaults of the file."""
    adapted = adapt_bootstrap(original, Changes(cors_origins=[]))

    policy = virtual_host(adapted)["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert policy["allow_origin_string_match"] == []


def test_the_playground_is_served_from_its_file(original: Json) -> None:
    """Switched on, the page's route is open and reads the file that was given."""
    adapted = adapt_bootstrap(original, EVERYTHING)

    (layer,) = adapted["layered_runtime"]["layers"]
    assert layer["static_layer"]["ringback"]["playground"] == 100
    route = find(virtual_host(adapted)["routes"], "playground")
    assert route["direct_response"]["body"] == {"filename": str(PAGE)}


def test_without_the_playground_no_page_is_needed(original: Json) -> None:
    """Switched off, the route is gone: Envoy would read the file even so."""
    adapted = adapt_bootstrap(original, Changes())

    (layer,) = adapted["layered_runtime"]["layers"]
    assert layer["static_layer"]["ringback"]["playground"] == 0
    assert "playground" not in [route["name"] for route in virtual_host(adapted)["routes"]]


def test_static_upstreams_take_the_place_of_cds(original: Json) -> None:
    """With upstream clusters given, nothing is dynamic and the services' clusters stay."""
    adapted = adapt_bootstrap(original, Changes(upstreams=[{"name": "upstream_x"}]))

    assert "dynamic_resources" not in adapted
    clusters = original["static_resources"]["clusters"]
    assert adapted["static_resources"]["clusters"] == [*clusters, {"name": "upstream_x"}]


def test_the_rest_stays_as_it_is(original: Json) -> None:
    """Changes touch what they name and nothing else; the bootstrap given is not touched at all."""
    before = copy.deepcopy(original)

    adapted = adapt_bootstrap(original, EVERYTHING)

    assert original == before
    static, host = "/static_resources", "/route_config/virtual_hosts/ringback"
    origins = f"{host}/typed_per_filter_config/envoy.filters.http.cors/allow_origin_string_match"
    memory = "/http_filters/envoy.filters.http.header_to_metadata/typed_config"
    kept_origin = f"{memory}/request_rules/0/on_header_present"
    socket = "/address/socket_address"
    workers = "/load_assignment/endpoints/0/lb_endpoints"
    manager = f"{static}/listeners/ingress_http/filter_chains/0/filters/{MANAGER}/typed_config"
    assert {path.replace(manager, "") for path in differences(original, adapted)} == {
        f"/admin{socket}/port_value",
        "/layered_runtime/layers/ringback/static_layer/ringback/playground",
        f"{static}/listeners/ingress_http{socket}/address",
        f"{static}/listeners/ingress_http{socket}/port_value",
        f"{static}/listeners/egress_http{socket}/port_value",
        f"{origins}/0/safe_regex/regex",
        f"{origins}/1/safe_regex/regex",
        f"{kept_origin}/regex_value_rewrite/pattern/regex",
        f"{host}/routes/playground/direct_response/body/filename",
        *(f"{static}/clusters/{name}{workers}" for name in AUTHZ_CLUSTERS),
        f"{static}/clusters/envoy_admin{workers}/0/endpoint{socket}/port_value",
        f"{static}/clusters/sdpfilter{workers}/1/endpoint{socket}/address",
    }


@pytest.mark.parametrize(
    "changes", [pytest.param(Changes(), id="nothing"), pytest.param(EVERYTHING, id="everything")]
)
def test_the_result_is_typed(original: Json, changes: Changes) -> None:
    """Envoy's own message types accept the result, field by field."""
    check_types(adapt_bootstrap(original, changes))


def test_types_refuse_what_envoy_does_not_know(original: Json) -> None:
    """A misspelt field does not pass, also not deep inside of a filter."""
    wrong = adapt_bootstrap(original, Changes())
    virtual_host(wrong)["typed_per_filter_config"]["envoy.filters.http.cors"]["max_agee"] = "1"

    with pytest.raises((TypeError, ValueError, KeyError)):
        check_types(wrong)


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        pytest.param(
            ("static_resources", "listeners"),
            Changes(ingress=Address("127.0.0.1", 1)),
            "envoy.yaml has no static_resources > listeners > ingress_http.",
            id="listener",
        ),
        pytest.param(
            ("static_resources", "clusters"),
            Changes(endpoints={"sdpfilter": []}),
            "envoy.yaml has no static_resources > clusters > sdpfilter.",
            id="cluster",
        ),
        pytest.param(
            ("layered_runtime", "layers"),
            Changes(),
            "envoy.yaml has no layered_runtime > layers > ringback.",
            id="runtime-layer",
        ),
    ],
)
def test_a_missing_name_is_an_error(
    original: Json, path: tuple[str, str], changes: Changes, message: str
) -> None:
    """What is not found by its name is named in the error; no neighbour is taken instead."""
    bootstrap = copy.deepcopy(original)
    parent, kind = path
    for part in bootstrap[parent][kind]:
        part["name"] = f"other_{part['name']}"

    with pytest.raises(BootstrapError) as caught:
        adapt_bootstrap(bootstrap, changes)

    assert str(caught.value) == f"{message} Install Ringback again."


def test_a_missing_route_is_an_error(original: Json) -> None:
    """The playground's route is found by its name too."""
    bootstrap = copy.deepcopy(original)
    find(virtual_host(bootstrap)["routes"], "playground")["name"] = "other"

    with pytest.raises(BootstrapError, match="ingress_http > routes > playground"):
        adapt_bootstrap(bootstrap, Changes())


def test_a_missing_part_is_an_error(original: Json) -> None:
    """A part that is no object is as good as missing."""
    bootstrap = copy.deepcopy(original)
    del bootstrap["admin"]

    with pytest.raises(BootstrapError, match=r"envoy\.yaml has no admin"):
        adapt_bootstrap(bootstrap, Changes(admin=Address("127.0.0.1", 1)))


@pytest.mark.parametrize(
    ("pattern", "origins", "others"),
    [
        # Realistic
        pytest.param(
            "https://app.example.com",
            ["https://app.example.com"],
            [
                "http://app.example.com",
                "https://app.example.com:8443",
                "https://app.example.com.evil.test",
                "https://appxexample.com",
                "https://evil.test/https://app.example.com",
            ],
            id="one-origin",
        ),
        pytest.param(
            "http://localhost:*",
            ["http://localhost", "http://localhost:3000", "http://localhost:65535"],
            ["http://localhost.evil.test:3000", "http://localhost:", "http://localhost:3000x"],
            id="any-port",
        ),
        pytest.param(
            "https://*.example.com",
            ["https://app.example.com", "https://my_app-1.example.com"],
            [
                "https://example.com",
                "https://a.b.example.com",
                "https://.example.com",
                "https://evil.test?.example.com",
                "https://app.example.com:444",
            ],
            id="any-label",
        ),
        # Synthetic
        pytest.param(
            "https://*.preview.*.example.com:8443",
            ["https://a.preview.b.example.com:8443"],
            ["https://a.preview.example.com:8443", "https://a.preview.b.c.example.com:8443"],
            id="two-labels-and-a-port",
        ),
        pytest.param(
            "http://127.0.0.1:*",
            ["http://127.0.0.1", "http://127.0.0.1:8080"],
            ["http://127x0.0.1:8080", "http://127.0.0.1:123456"],
            id="address",
        ),
        pytest.param("http://[::1]", ["http://[::1]"], ["http://[::1]:80", "http://1"], id="ipv6"),
        pytest.param("http://[::1]:*", ["http://[::1]:80"], ["http://[::2]:80"], id="ipv6-port"),
    ],
)
def test_an_origin_pattern_matches_in_full(
    pattern: str, origins: list[str], others: list[str]
) -> None:
    """A pattern stands for its origins and for nothing that merely contains or resembles one."""
    regex = re.compile(origin_regex(check_origin_pattern(pattern)))

    assert [origin for origin in origins if not regex.fullmatch(origin)] == []
    assert [origin for origin in others if regex.fullmatch(origin)] == []
