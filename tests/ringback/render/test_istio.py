import json
from pathlib import Path
from typing import Any

import pytest

from extauthz.deployments import Origin
from helpers.istiomanifests import OPENAI, port_policy, render, specs
from helpers.manifests import read_manifests
from ringback.envoylint.parts import manager, routes
from ringback.render.bootstrap import Changes, own_bootstrap
from ringback.render.inputs import load_inputs
from ringback.render.istio.upstreams import PortConflictError, ServiceTlsError
from ringback.render.istio.virtualservice import RouteError, virtual_routes
from ringback.render.targets import render_manifests


def test_an_upstream_with_tls_is_checked_by_its_name(tmp_path: Path) -> None:
    """The registry has it at a port for plain HTTP, behind which is TLS with SNI and name."""
    manifests = render(tmp_path, OPENAI, values=("egress=mesh",))

    name = "https-api-openai-com-443"
    entry = specs(manifests, "ServiceEntry")[name]
    assert entry["hosts"] == ["api.openai.com"]
    assert entry["resolution"] == "DNS"
    (port,) = entry["ports"]
    assert port == {"name": "http-80", "number": 80, "protocol": "HTTP", "targetPort": 443}
    tls = port_policy(specs(manifests, "DestinationRule")[name], 80)["tls"]
    assert tls == {
        "mode": "SIMPLE",
        "sni": "api.openai.com",
        "subjectAltNames": ["api.openai.com"],
    }


def test_settings_of_upstreams_hold_in_the_mesh(tmp_path: Path) -> None:
    """Authorities, limits, timeouts and the port for plain HTTP are those of ringback.yaml."""
    upstream = {
        "ca_file": "/etc/ca.pem",
        "max_requests": 7,
        "connect_timeout_s": 1.5,
        "mesh_port": 8080,
    }
    manifests = render(tmp_path, OPENAI, upstream=upstream)

    (rule,) = [
        rule
        for name, rule in specs(manifests, "DestinationRule").items()
        if name.startswith("https-")
    ]
    policy = port_policy(rule, 8080)
    assert policy["tls"]["caCertificates"] == "/etc/ca.pem"
    pool = policy["connectionPool"]
    assert (pool["tcp"]["connectTimeout"], pool["tcp"]["maxConnections"]) == ("1.5s", 7)
    assert (pool["http"]["http1MaxPendingRequests"], pool["http"]["http2MaxRequests"]) == (7, 7)


def test_a_host_with_several_ports_is_one_host(tmp_path: Path) -> None:
    """Istio heeds one resource of a kind for a host: it has all ports."""
    manifests = render(
        tmp_path,
        OPENAI,
        "https://api.openai.com:8443/v1",
        "http://api.openai.com:8080/v1",
        values=("egress=mesh",),
    )

    (entry,) = [
        e for e in specs(manifests, "ServiceEntry").values() if "nowhere" not in e["hosts"][0]
    ]
    assert [(port["number"], port["targetPort"]) for port in entry["ports"]] == [
        (8080, 8080),
        (80, 443),
        (8443, 8443),
    ]
    (rule,) = [
        rule
        for rule in specs(manifests, "DestinationRule").values()
        if rule["host"] == "api.openai.com"
    ]
    modes = {port: port_policy(rule, port)["tls"]["mode"] for port in (8080, 80, 8443)}
    assert modes == {8080: "DISABLE", 80: "SIMPLE", 8443: "SIMPLE"}
    (service,) = [
        service
        for service in specs(manifests, "VirtualService").values()
        if service["hosts"] == ["api.openai.com"]
    ]
    assert [route["match"] for route in service["http"]] == [
        [{"port": 8080}],
        [{"port": 80}],
        [{"port": 8443}],
    ]


def test_by_default_extauthz_does_tls_itself(tmp_path: Path) -> None:
    """Its TLS has a port of its own; only what is plain HTTP anyway is for the sidecar to route."""
    manifests = render(
        tmp_path, OPENAI, "https://api.openai.com:8443/v1", "http://plain.example.com:8080/v1"
    )

    entries = specs(manifests, "ServiceEntry")
    ports = {
        entry["hosts"][0]: [
            (p["protocol"], p["number"], p.get("targetPort")) for p in entry["ports"]
        ]
        for entry in entries.values()
    }
    assert ports == {
        "nowhere.ringback.internal": [("HTTP", 80, None)],
        "plain.example.com": [("HTTP", 8080, 8080)],
        "api.openai.com": [
            ("HTTP", 80, 443),
            ("HTTP", 18443, 8443),
            ("TLS", 443, None),
            ("TLS", 8443, None),
        ],
    }
    inside = [s for s in specs(manifests, "VirtualService").values() if s["gateways"] == ["mesh"]]
    assert [service["hosts"] for service in inside] == [["plain.example.com"]]


def test_a_sidecar_adds_no_tls_to_a_service(tmp_path: Path) -> None:
    """Where extauthz would speak plain HTTP to a port with TLS, nothing is rendered."""
    render(tmp_path, "https://litellm.ai.svc:4000/v1")

    with pytest.raises(ServiceTlsError, match=r"https://litellm.ai.svc:4000 is a Service with TLS"):
        render(tmp_path, "https://litellm.ai.svc:4000/v1", values=("egress=mesh",))


def test_two_origins_at_one_port_are_refused(tmp_path: Path) -> None:
    """Where the mesh could not tell them apart nothing is rendered."""
    with pytest.raises(PortConflictError) as caught:
        render(tmp_path, OPENAI, "http://api.openai.com/v1")

    assert str(caught.value) == (
        "http://api.openai.com and https://api.openai.com are both port 80 of one host in the "
        "mesh. Set upstream.mesh_port to a port that neither of them has."
    )


@pytest.mark.parametrize(
    ("base", "address"),
    [("https://192.0.2.7/v1", "192.0.2.7"), ("https://[2001:db8::7]:8443/v1", "2001:db8::7")],
)
def test_an_address_has_a_name_in_the_registry(tmp_path: Path, base: str, address: str) -> None:
    """An address is no host of a registry and no server name, and is checked in the certificate."""
    manifests = render(tmp_path, base)

    ((name, entry),) = [
        item for item in specs(manifests, "ServiceEntry").items() if item[0] != "nowhere"
    ]
    assert entry["hosts"] == [f"{name}.ringback.internal"]
    assert entry["addresses"] == [address]
    assert entry["endpoints"] == [{"address": address}]
    assert entry["resolution"] == "STATIC"
    rule = specs(manifests, "DestinationRule")[name]
    tls = port_policy(rule, entry["ports"][0]["number"])["tls"]
    assert tls == {"mode": "SIMPLE", "subjectAltNames": [address]}


@pytest.mark.parametrize(
    ("base", "host"),
    [
        # Realistic
        ("http://litellm:4000/v1", "litellm.voice.svc.cluster.local"),
        ("http://litellm.ai.svc:4000/v1", "litellm.ai.svc.cluster.local"),
        ("http://litellm.ai.svc.cluster.local:4000", "litellm.ai.svc.cluster.local"),
    ],
)
def test_a_service_of_the_cluster_is_known_already(tmp_path: Path, base: str, host: str) -> None:
    """A Service is in the registry, and its mutual TLS is the mesh's business."""
    manifests = render(tmp_path, base, values=("namespace=voice",))

    assert list(specs(manifests, "ServiceEntry")) == ["nowhere"]
    assert not [r for r in specs(manifests, "DestinationRule").values() if r["host"] == host]
    routes = specs(manifests, "VirtualService")["ringback"]["http"]
    (destination,) = next(r["route"] for r in routes if r["name"] == "upstream")
    assert destination["destination"] == {"host": host, "port": {"number": 4000}}


def test_routes_to_upstreams_want_the_header_of_extauthz(tmp_path: Path) -> None:
    """No route leads to an upstream but by the header, in full, that downstreams cannot send."""
    manifests = render(tmp_path, OPENAI, "https://voice.openai.azure.com")

    upstreams = {
        Origin("https", host, 443).cluster: host
        for host in (
            "api.openai.com",
            "voice.openai.azure.com",
        )
    }
    for route in specs(manifests, "VirtualService")["ringback"]["http"]:
        if "route" not in route:
            continue
        (target,) = route["route"]
        host = target["destination"]["host"]
        if host != "nowhere.ringback.internal":
            (match,) = route["match"]
            assert upstreams[match["headers"]["x-ringback-cluster"]["exact"]] == host
            assert "x-ringback-cluster" in route["headers"]["request"]["remove"]


def test_every_route_of_our_envoy_is_there_in_its_place(tmp_path: Path) -> None:
    """The VirtualService has envoy.yaml's routes by name, in order; CONNECT is a patch."""
    manifests = render(tmp_path, OPENAI)

    own = [route["name"] for route in routes(own_bootstrap(Changes())) if route["name"] != "tunnel"]
    written = [route["name"] for route in specs(manifests, "VirtualService")["ringback"]["http"]]
    assert list(dict.fromkeys(written)) == list(dict.fromkeys(own))
    patches = specs(manifests, "EnvoyFilter")["ringback"]["configPatches"]
    assert [
        patch["patch"]["value"]["name"]
        for patch in patches
        if patch["patch"]["operation"] == "INSERT_FIRST" and patch["applyTo"] == "HTTP_ROUTE"
    ] == ["tunnel"]


def test_no_default_of_istio_is_left_to_chance(tmp_path: Path) -> None:
    """No route is retried or waits for ever, and the provider fails closed, soon, with 503."""
    manifests = render(tmp_path, OPENAI)

    for service in specs(manifests, "VirtualService").values():
        for route in service["http"]:
            if "route" in route:
                assert route["retries"] == {"attempts": 0}
                assert route["name"] == "upstream_websocket" or route["timeout"] in {"15s", "14.5s"}
    (snippet,) = [manifest for manifest in manifests if "kind" not in manifest]
    (provider,) = snippet["meshConfig"]["extensionProviders"]
    # The names are those of EnvoyExternalAuthorizationGrpcProvider in istio/api,
    # mesh/v1alpha1/config.proto, for which there is no schema.
    assert provider == {
        "name": "ringback",
        "envoyExtAuthzGrpc": {
            "service": "ringback/ringback-extauthz.ringback.svc.cluster.local",
            "port": 9001,
            "timeout": "15s",
            "failOpen": False,
            "statusOnError": "503",
            "clearRouteCache": True,
            "includeRequestBodyInCheck": {
                "maxRequestBytes": 65536,
                "allowPartialMessage": False,
                "packAsBytes": True,
            },
        },
    }
    assert specs(manifests, "AuthorizationPolicy")["ringback"]["action"] == "CUSTOM"


def test_what_is_no_resource_is_not_applied(tmp_path: Path) -> None:
    """The snippet for MeshConfig is a file, and no part of what goes to a cluster."""
    config = tmp_path / "litellm.yaml"
    render(tmp_path, OPENAI)

    manifests = render_manifests("istio", load_inputs(config, None, {}), ())

    assert "extensionProviders" in manifests.files["mesh-config/extension-providers.yaml"]
    assert "extensionProviders" not in manifests.stream


def test_what_protects_calls_is_applied_first(tmp_path: Path) -> None:
    """In the order in which `kubectl apply -f` takes a folder's files, and on the terminal."""
    render(tmp_path, OPENAI)

    manifests = render_manifests("istio", load_inputs(tmp_path / "litellm.yaml", None, {}), ())

    names = sorted(name for name in manifests.files if "/" not in name)
    from_files = "---\n".join(manifests.files[name] for name in names)
    for text in (from_files, manifests.stream):
        kinds = [manifest["kind"] for manifest in read_manifests(text)]
        # With the first nothing passes that extauthz and sdpfilter have not seen.
        assert kinds.index("EnvoyFilter") < kinds.index("VirtualService")
        assert kinds.index("AuthorizationPolicy") < kinds.index("VirtualService")


def test_tls_of_the_gateway_may_be_somebody_elses(tmp_path: Path) -> None:
    """By default a Secret has the certificate; without one there is plain HTTP."""
    with_tls, without = render(tmp_path, OPENAI), render(tmp_path, OPENAI, values=("tls_secret=",))

    (server,) = specs(with_tls, "Gateway")["ringback"]["servers"]
    assert server["tls"]["credentialName"] == "ringback-tls"
    assert server["port"] == {"name": "https", "number": 443, "protocol": "HTTPS"}
    (server,) = specs(without, "Gateway")["ringback"]["servers"]
    assert server == {
        "port": {"name": "http", "number": 80, "protocol": "HTTP"},
        "hosts": ["./*"],
    }
    (port,) = specs(without, "Service")["ringback-gateway"]["ports"]
    assert port == {"name": "http", "port": 80, "targetPort": 8080}


def test_host_names_are_those_that_are_asked_for(tmp_path: Path) -> None:
    """Gateway and routes take requests to these hosts, and to no others."""
    manifests = render(tmp_path, OPENAI, values=("hosts=voice.example.com, voice.example.org",))

    (server,) = specs(manifests, "Gateway")["ringback"]["servers"]
    assert server["hosts"] == ["./voice.example.com", "./voice.example.org"]
    service = specs(manifests, "VirtualService")["ringback"]
    assert service["hosts"] == ["voice.example.com", "voice.example.org"]


def test_everything_else_goes_to_a_proxy_that_the_settings_name(tmp_path: Path) -> None:
    """With passthrough.url its host is an upstream, to which no header leads."""
    manifests = render(tmp_path, OPENAI, passthrough={"url": "https://litellm.example.com"})

    written = specs(manifests, "VirtualService")["ringback"]["http"]
    (route,) = [route for route in written if route["name"] == "passthrough"]
    (target,) = route["route"]
    assert target["destination"] == {"host": "litellm.example.com", "port": {"number": 80}}
    assert "https-litellm-example-com-443" in specs(manifests, "ServiceEntry")
    clusters = [
        match["headers"].get("x-ringback-cluster")
        for route in written
        for match in route.get("match", [])
        if "headers" in match
    ]
    assert {"exact": Origin("https", "litellm.example.com", 443).cluster} not in clusters


def test_limits_of_envoy_are_those_of_the_settings(tmp_path: Path) -> None:
    """What waits for the services is limited by kind, as in envoy.yaml, and pages by origin."""
    overload = {"max_decisions": 5, "max_mints": 4, "max_checks": 3, "max_calls": 6}
    manifests = render(
        tmp_path, OPENAI, overload=overload, cors_origins=["https://app.example.com"]
    )

    rules = specs(manifests, "DestinationRule")
    limits = {
        port: port_policy(rules[name], port)["connectionPool"]["http"]["http2MaxRequests"]
        for name, port in (
            ("ringback-extauthz", 9001),
            ("ringback-extauthz", 9003),
            ("ringback-extauthz", 9005),
            ("ringback-sdpfilter", 9002),
        )
    }
    # Of two workers.
    assert limits == {9001: 10, 9003: 8, 9005: 6, 9002: 12}
    patches = specs(manifests, "EnvoyFilter")["ringback"]["configPatches"]
    (host,) = [patch for patch in patches if patch["applyTo"] == "VIRTUAL_HOST"]
    policy = host["patch"]["value"]["typed_per_filter_config"]["ringback.cors"]
    assert policy["allow_origin_string_match"] == [
        {"safe_regex": {"regex": r"https://app\.example\.com"}}
    ]


def test_everything_is_in_the_namespace(tmp_path: Path) -> None:
    """No resource is left elsewhere, and no name is of another namespace."""
    manifests = render(tmp_path, OPENAI, values=("namespace=voice", "cluster_domain=example.org"))

    assert {m["metadata"]["namespace"] for m in manifests if "kind" in m} == {"voice"}
    text = json.dumps(manifests)
    assert ".ringback.svc" not in text
    assert "ringback-sdpfilter.voice.svc.example.org" in text


@pytest.mark.parametrize(
    "match",
    [
        # Synthetic
        {"path_separated_prefix": "/x"},
        {"prefix": "/", "headers": [{"name": "x", "string_match": {"suffix": "y"}}]},
        {"prefix": "/", "headers": [{"name": "x", "present_match": True}]},
        {"prefix": "/", "query_parameters": [{"name": "x"}]},
        {"prefix": "/", "headers": [{"name": "x", "string_match": {"contains": "y"}}]},
    ],
)
def test_a_match_without_words_in_istio_is_refused(match: dict[str, Any]) -> None:
    """A new kind of match in envoy.yaml is not passed over: nothing is rendered."""
    route = {"name": "new", "match": match, "route": {"cluster": "nowhere"}}

    with pytest.raises(RouteError, match=r"envoy.yaml: new: Istio has no words for"):
        list(virtual_routes([route], {}, {"nowhere": {"host": "x"}}))


def test_all_of_the_connection_manager_is_told_to_istio(tmp_path: Path) -> None:
    """What is not Istio's own of a connection manager is in the patch of it."""
    manifests = render(tmp_path, OPENAI)

    own = manager(own_bootstrap(Changes()))
    patches = specs(manifests, "EnvoyFilter")["ringback"]["configPatches"]
    (patch,) = [patch for patch in patches if patch["applyTo"] == "NETWORK_FILTER"]
    told = patch["patch"]["value"]["typed_config"]
    istios = {"stat_prefix", "codec_type", "route_config", "http_filters", "upgrade_configs"}
    assert own.keys() - told.keys() == istios
    assert all(own[name] == told[name] for name in told if name != "local_reply_config")
