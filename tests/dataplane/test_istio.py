"""What Istio makes of our manifests, beside what envoy.yaml says."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.dataplanes import ISTIO, make_istio
from helpers.envoyproc import local_changes, validate
from helpers.gatewayfiles import Files, azure_entry, openai_entry
from helpers.istiod.listeners import GATEWAY_LISTENER
from helpers.istiod.patches import Patches, merge
from ringback.envoylint import lint_text
from ringback.envoylint.parts import manager, parts
from ringback.render.bootstrap import Changes, own_bootstrap
from ringback.render.envoytypes import check_types
from ringback.settings import Settings

pytestmark = pytest.mark.dataplane

Json = dict[str, Any]

PAGE: Final = (Path(__file__).parents[2] / "docs" / "mesh" / "istio.md").read_text()
OWN: Final = Changes(cors_origins=Settings().cors_origins)
ENDPOINTS: Final = {name: [f"unix:/run/{name}"] for name in ("extauthz", "sdpfilter")}
# Istio's own, which does nothing to a request of ours that it lets through.
ISTIOS: Final = {
    "envoy.filters.http.rbac",
    "envoy.filters.http.grpc_stats",
    "envoy.filters.http.fault",
    "envoy.filters.http.cors",
}


@pytest.fixture(scope="module", params=["mesh", "direct"])
def bootstrap(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Json:
    """What the proxies are sent, with an upstream for each kind of host."""
    files = Files(tmp_path_factory.mktemp("istio"))
    files.write_config(
        [
            openai_entry("address", "http://127.0.0.1:7001/v1"),
            openai_entry("port", "https://voice.example.com:8443/v1"),
            azure_entry("name", "https://voice.example.com"),
        ]
    )
    files.write_settings()
    return make_istio(files, local_changes(endpoints=ENDPOINTS), egress=request.param)


def told(bootstrap: Json) -> Json:
    """Return the gateway's configuration with our names for filters and clusters."""
    text = json.dumps(manager(bootstrap, GATEWAY_LISTENER))
    text = re.sub(r'"ringback\.(cors|fault)"', r'"envoy.filters.http.\1"', text)
    for port, name in (
        (9001, "extauthz"),
        (9003, "extauthz_mints"),
        (9005, "extauthz_calls"),
        (9002, "sdpfilter"),
    ):
        service = f"ringback-{name.partition('_')[0]}.ringback.svc.cluster.local"
        cluster = f"outbound|{port}||{service}"
        text = text.replace(
            f'"cluster_name": "{cluster}", "authority": "{service}"', f'"cluster_name": "{name}"'
        )
    renamed: Json = json.loads(text)
    return renamed


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # Istio sets such fields
def test_envoy_takes_it(bootstrap: Json, tmp_path: Path) -> None:
    """Envoy starts with it, and every part is of the type that it should be."""
    file = tmp_path / "bootstrap.json"
    file.write_text(json.dumps(bootstrap))

    done = validate(file)

    assert done.returncode == 0, done.stderr
    check_types(bootstrap)


def test_the_check_of_a_dump_finds_what_is_istios(bootstrap: Json) -> None:
    """`ringback check --envoy` reads what a gateway says it has, and says what the page says.

    docs/mesh/istio.md: extauthz is asked by a filter that Istio's rules switch on, behind which
    the interlock wants its word.
    """
    gateway, _ = bootstrap["static_resources"]["listeners"]
    dump = {
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
                "dynamic_listeners": [
                    {"name": GATEWAY_LISTENER, "active_state": {"listener": gateway}}
                ],
            }
        ]
    }

    text = json.dumps(dump)
    found = lint_text(text)

    fields = [line.partition(": ")[2].partition(":")[0].rpartition("/")[2] for line in found]
    assert fields == ["shadow_rules", "filter_enabled_metadata"]
    if not (program := shutil.which("jq")):
        return
    (command,) = re.findall(r"^jq -r '(.*)' gateway.json$", PAGE, re.MULTILINE)
    done = subprocess.run(
        [program, "-r", command], input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    (listed,) = re.findall(r"^has to say (.*), with Istio's own", PAGE, re.MULTILINE)
    names = re.findall(r"`([\w.]+)`", listed)
    assert [name for name in done.stdout.split() if name in names] == names


def test_the_page_lists_all_differences() -> None:
    """What tests allow Istio's Envoy to do otherwise is told to operators in the same words."""
    for difference in ISTIO.differences.values():
        assert f"\n- {difference}\n" in PAGE


def test_filters_are_ours_in_our_order(bootstrap: Json) -> None:
    """Each filter of envoy.yaml is there, with the same configuration, and in the same order."""
    own = {part["name"]: part for part in manager(own_bootstrap(OWN))["http_filters"]}
    filters = told(bootstrap)["http_filters"]
    # Istio's of these names stand behind ours.
    seen: dict[str, Json] = {}
    for part in filters:
        seen.setdefault(part["name"], part)

    assert [name for name in seen if name in own] == list(own)
    assert seen.keys() - own.keys() <= ISTIOS
    authz = "envoy.filters.http.ext_authz"
    for name in own.keys() - {authz}:
        assert seen[name] == own[name]
    # This one is Istio's, and says the same; when it is asked is a matter of the policy.
    config = copy.deepcopy(seen[authz]["typed_config"])
    config["grpc_service"]["envoy_grpc"].pop("authority")
    assert config.pop("filter_enabled_metadata")["value"] == {
        "string_match": {"prefix": "istio-ext-authz"}
    }
    expected = copy.deepcopy(own[authz]["typed_config"])
    expected["grpc_service"]["envoy_grpc"] = {
        "cluster_name": "outbound|9001||ringback-extauthz.ringback.svc.cluster.local"
    }
    assert config == expected


def test_routes_switch_on_and_off_what_ours_do(bootstrap: Json) -> None:
    """By name, each route has the filters' settings that it has in envoy.yaml."""
    (own,) = manager(own_bootstrap(OWN))["route_config"]["virtual_hosts"]
    (host,) = told(bootstrap)["route_config"]["virtual_hosts"]

    assert host["typed_per_filter_config"] == own["typed_per_filter_config"]
    expected = {route["name"]: route.get("typed_per_filter_config") for route in own["routes"]}
    for route in host["routes"]:
        assert route.get("typed_per_filter_config") == expected[route["name"]], route["name"]
        if "route" in route and route["name"] != "tunnel":
            takes = route["name"] in {"websocket", "upstream_websocket"}
            configs = [{"upgrade_type": "websocket", "enabled": takes}]
            assert route["route"]["upgrade_configs"] == configs


def test_every_cluster_that_is_named_is_there(bootstrap: Json) -> None:
    """No route and no filter leads to a cluster that nobody has made, but CONNECT's."""
    made = {cluster["name"] for cluster in bootstrap["static_resources"]["clusters"]}
    named = {
        part[name]
        for _, _, part in parts(bootstrap["static_resources"]["listeners"])
        for name in ("cluster", "cluster_name")
        if isinstance(part.get(name), str) and "%" not in part[name]
    }
    # These two are for TLS of extauthz itself, which sidecars pass on as it comes.
    passed_on = {f"outbound|{port}||voice.example.com" for port in (443, 8443)}
    assert named == (made - passed_on | (named & passed_on)) | {"BlackHoleCluster"}


def test_upstreams_are_proven(bootstrap: Json) -> None:
    """TLS towards an upstream checks the name, or the address, and has a server name if it can."""
    proofs = {}
    for cluster in bootstrap["static_resources"]["clusters"]:
        if "transport_socket" in cluster:
            context = cluster["transport_socket"]["typed_config"]
            validation = context["common_tls_context"]["validation_context"]
            proofs[cluster["name"]] = (context["sni"], validation["match_subject_alt_names"])
    assert len(proofs) == 2
    for name, proof in proofs.items():
        assert name.endswith("||voice.example.com")
        assert proof == ("voice.example.com", [{"exact": "voice.example.com"}])


def test_a_patch_that_matches_nothing_is_noticed() -> None:
    """A filter or route that Istio calls otherwise would leave out what a patch is for."""
    patch = {
        "applyTo": "CLUSTER",
        "match": {"context": "GATEWAY", "cluster": {"service": "nobody"}},
        "patch": {"operation": "MERGE", "value": {"connect_timeout": "1s"}},
    }
    patches = Patches([patch])

    patches.apply_to_cluster({"name": "outbound|80||somebody"})

    assert patches.unused == [patch]


def test_messages_are_merged_as_istio_does() -> None:
    """Lists grow, messages join, maps and scalars are replaced, and so is what has a type."""
    target: Json = {
        "list": [1],
        "message": {"a": 1, "b": 1},
        "typed_per_filter_config": {"x": {"a": 1}, "y": {"a": 1}},
        "duration": "0s",
        "any": {"@type": "t", "a": 1},
    }

    merge(
        target,
        {
            "list": [2],
            "message": {"b": 2},
            "typed_per_filter_config": {"x": {"b": 2}},
            "duration": "2s",
            "any": {"@type": "t", "b": 2},
        },
    )

    assert target == {
        "list": [1, 2],
        "message": {"a": 1, "b": 2},
        "typed_per_filter_config": {"x": {"b": 2}, "y": {"a": 1}},
        "duration": "2s",
        "any": {"@type": "t", "b": 2},
    }
