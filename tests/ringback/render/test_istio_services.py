"""extauthz and sdpfilter in the manifests of the target ``istio``."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.istiomanifests import OPENAI, port_policy, render, specs
from helpers.manifests import Manifest, check_restricted, containers, mistakes
from ringback.render.apart import UnservedError
from ringback.render.embedding import EmbeddingError

SERVICES: Final = ("ringback-extauthz", "ringback-sdpfilter")
METRICS: Final = {"ringback-extauthz": 9464, "ringback-sdpfilter": 9465}
GATEWAY: Final = "ringback-gateway"


def template(manifests: list[Manifest], name: str) -> Any:
    """Return what the pods of a Deployment are made from."""
    return specs(manifests, "Deployment")[name]["template"]


def environ(manifests: list[Manifest], name: str) -> dict[str, str]:
    """Return the variables of a service."""
    (container,) = template(manifests, name)["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def egress_ports(manifests: list[Manifest], name: str) -> list[list[int]]:
    """Return where a NetworkPolicy lets pods connect to, rule by rule."""
    rules = specs(manifests, "NetworkPolicy")[name]["egress"]
    return [sorted({port["port"] for port in rule["ports"]}) for rule in rules]


def test_a_service_has_a_sidecar_and_a_name(tmp_path: Path) -> None:
    """Its own account is in its certificate; the service itself leaves TLS to the sidecar."""
    manifests = render(tmp_path, OPENAI)

    accounts = {m["metadata"]["name"] for m in manifests if m.get("kind") == "ServiceAccount"}
    assert accounts == {*SERVICES, GATEWAY}
    for name in SERVICES:
        pod = template(manifests, name)
        check_restricted(pod["spec"])
        assert pod["spec"]["serviceAccountName"] == name
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
        assert environ(manifests, name)["RINGBACK_SERVICES__PLAINTEXT"] == "true"


def test_only_the_gateway_may_ask_a_service(tmp_path: Path) -> None:
    """Mutual TLS, the gateway's account, and a network that lets nobody else through."""
    manifests = render(tmp_path, OPENAI, values=("namespace=voice",))

    peers = specs(manifests, "PeerAuthentication")["ringback"]
    allowed = specs(manifests, "AuthorizationPolicy")["ringback-services"]
    for name, metrics in METRICS.items():
        pod = template(manifests, name)
        labels = pod["metadata"]["labels"]
        (container,) = pod["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == metrics
        assert peers["selector"]["matchLabels"].items() <= labels.items()
        assert allowed["selector"]["matchLabels"].items() <= labels.items()
        policy = specs(manifests, "NetworkPolicy")[name]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        asking, scraping = policy["ingress"]
        (peer,) = asking["from"]
        gateway = template(manifests, GATEWAY)["metadata"]["labels"]
        assert peer["podSelector"]["matchLabels"].items() <= gateway.items()
        assert asking["ports"] == [{"port": ports["grpc"]}]
        assert scraping["ports"] == [{"port": metrics}]
    assert peers["mtls"] == {"mode": "STRICT"}
    assert peers["portLevelMtls"].keys() == {str(port) for port in METRICS.values()}
    assert allowed["action"] == "ALLOW"
    asking, scraping = allowed["rules"]
    assert asking["from"] == [{"source": {"principals": [f"cluster.local/ns/voice/sa/{GATEWAY}"]}}]
    assert asking["to"] == [{"operation": {"ports": ["9001", "9002"]}}]
    assert scraping == {"to": [{"operation": {"ports": [str(p) for p in METRICS.values()]}}]}
    assert template(manifests, GATEWAY)["spec"]["serviceAccountName"] == GATEWAY


def test_each_port_is_grpc_and_has_limits(tmp_path: Path) -> None:
    """Istio knows protocols by names of ports; a port without a rule would have no limits."""
    manifests = render(tmp_path, OPENAI)

    for name in SERVICES:
        service = specs(manifests, "Service")[name]
        pod = template(manifests, name)
        assert service["selector"].items() <= pod["metadata"]["labels"].items()
        assert "clusterIP" not in service
        rule = specs(manifests, "DestinationRule")[name]
        for port in service["ports"]:
            assert port["name"].partition("-")[0] == "grpc"
            assert port["targetPort"] == "grpc"
            assert port_policy(rule, port["port"])["tls"] == {"mode": "ISTIO_MUTUAL"}
        assert len(rule["trafficPolicy"]["portLevelSettings"]) == len(service["ports"])


def test_a_sidecar_that_does_tls_passes_on_nothing_else(tmp_path: Path) -> None:
    """A provider that the mesh does not know must not be sent its key in the clear."""
    manifests = render(tmp_path, OPENAI, values=("egress=mesh",))

    assert environ(manifests, "ringback-extauthz")["RINGBACK_UPSTREAM__EGRESS"] == "mesh"
    sidecar = specs(manifests, "Sidecar")["ringback-extauthz"]
    assert sidecar["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    labels = template(manifests, "ringback-extauthz")["metadata"]["labels"]
    assert sidecar["workloadSelector"]["labels"].items() <= labels.items()
    assert egress_ports(manifests, "ringback-extauthz") == [[53], [15012], [443]]

    manifests = render(tmp_path, OPENAI)
    assert environ(manifests, "ringback-extauthz")["RINGBACK_UPSTREAM__EGRESS"] == "direct"
    assert specs(manifests, "Sidecar") == {}


def test_services_connect_to_what_they_need(tmp_path: Path) -> None:
    """Upstreams, stores, collectors and istiod; sdpfilter only if it has something to tell."""
    values = ("egress_ports=5432,6379", "istio_namespace=mesh")
    tracing = {"endpoint": "http://collector.observability:4318"}
    manifests = render(tmp_path, OPENAI, values=values, tracing=tracing)

    assert egress_ports(manifests, "ringback-extauthz") == [
        [53],
        [15012],
        [443, 4318, 5432, 6379],
    ]
    _, istiod, _ = specs(manifests, "NetworkPolicy")["ringback-extauthz"]["egress"]
    (peer,) = istiod["to"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "mesh"}
    assert egress_ports(manifests, "ringback-sdpfilter")[:2] == [[53], [15012]]
    assert 4318 in egress_ports(manifests, "ringback-sdpfilter")[2]
    without = egress_ports(render(tmp_path, OPENAI), "ringback-sdpfilter")
    assert without == [[53], [15012]]


def test_values_of_pods_go_where_they_belong(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each value that can be set changes its part, and all of it stays valid."""
    values = {
        "image": "registry.test/services:1",
        "replicas": "5",
        "secret": "voice-secrets",
        "secrets": "RINGBACK_STORE__URL,RINGBACK_TOKEN__SECRET",
        "keys_secret": "voice-keys",
        "config_secret": "voice-config",
        "monitoring_namespace": "observability",
    }
    pairs = tuple("=".join(pair) for pair in values.items())

    manifests = render(tmp_path, OPENAI, values=pairs, overload={"max_connections": 77})

    assert mistakes([m for m in manifests if "kind" in m], pytestconfig.cache) == []
    for name in SERVICES:
        assert specs(manifests, "Deployment")[name]["replicas"] == 5
        pod = template(manifests, name)["spec"]
        assert [container["image"] for container in containers(pod)] == [values["image"]]
        _, scraping = specs(manifests, "NetworkPolicy")[name]["ingress"]
        (peer,) = scraping["from"]
        labels = peer["namespaceSelector"]["matchLabels"]
        assert labels == {"kubernetes.io/metadata.name": "observability"}
    assert {"RINGBACK_STORE__URL_FILE", "RINGBACK_KEYS_FILE"} <= environ(
        manifests, "ringback-extauthz"
    ).keys()
    assert environ(manifests, "ringback-sdpfilter").keys() == {
        "RINGBACK_TOKEN__SECRET_FILE",
        "RINGBACK_SERVICES__PLAINTEXT",
    }
    (config,) = [m for m in manifests if m.get("kind") == "ConfigMap"]
    assert config["data"].keys() == {"ringback.yaml"}
    rule = specs(manifests, "DestinationRule")["ringback-sdpfilter"]
    assert port_policy(rule, 9002)["connectionPool"]["http"]["http2MaxRequests"] == 5 * 128
    gateway = template(manifests, GATEWAY)["metadata"]["annotations"]["proxy.istio.io/config"]
    assert 'overload.global_downstream_max_connections: "77"' in gateway


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"supervision": {"mode": "required"}}, r"supervision\.mode: .* egress=direct"),
        ({"playground": True}, r"playground: .* `ringback up`"),
    ],
)
def test_what_is_not_served_is_refused(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    """A setting is not passed over: with it nothing is rendered."""
    with pytest.raises(UnservedError, match=problem):
        render(tmp_path, OPENAI, values=("egress=mesh",), **settings)


def test_callkeeper_is_asked_by_the_services_alone(tmp_path: Path) -> None:
    """Where calls are supervised: by their accounts, and by nobody else."""
    manifests = render(
        tmp_path, OPENAI, values=("namespace=voice",), supervision={"mode": "best_effort"}
    )
    name, accounts = "ringback-callkeeper", "cluster.local/ns/voice/sa/ringback-"
    pod = template(manifests, name)
    check_restricted(pod["spec"])
    assert pod["spec"]["serviceAccountName"] == name
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    variables = environ(manifests, name)
    assert variables["RINGBACK_UPSTREAM__EGRESS"] == "direct"
    host = json.dumps(["ringback-callkeeper.voice.svc:9003"])
    assert variables["RINGBACK_SUPERVISION__CALLKEEPER"] == host
    rules = specs(manifests, "AuthorizationPolicy")["ringback-services"]["rules"]
    asking = {
        port: rule.get("from", [{}])[0].get("source", {}).get("principals")
        for rule in rules[2:]
        for port in rule["to"][0]["operation"]["ports"]
    }
    assert asking == {
        "9001": [f"{accounts}sdpfilter", f"{accounts}callkeeper"],
        "9003": [f"{accounts}sdpfilter", f"{accounts}extauthz"],
    }
    assert rules[1]["to"][0]["operation"]["ports"] == ["9464", "9465", "9467"]
    assert "9467" in specs(manifests, "PeerAuthentication")["ringback"]["portLevelMtls"]
    assert "ringback-callkeeper" in specs(manifests, "DestinationRule")
    assert egress_ports(manifests, name) == [[53], [15012], [443], [9001]]
    assert egress_ports(manifests, "ringback-sdpfilter") == [[53], [15012], [9001], [9003]]
    assert egress_ports(manifests, "ringback-extauthz") == [[53], [15012], [443], [9003]]


@pytest.mark.parametrize(("store", "replicas"), [("memory", 1), ("valkey", 3)])
def test_several_callkeepers_have_to_know_each_other(
    tmp_path: Path, store: str, replicas: int
) -> None:
    """There is one in all, unless they share their calls."""
    supervision = {"mode": "auto", "store": store}
    manifests = render(tmp_path, OPENAI, values=("replicas=3",), supervision=supervision)
    deployments = specs(manifests, "Deployment")
    assert deployments["ringback-callkeeper"]["replicas"] == replicas
    assert deployments["ringback-sdpfilter"]["replicas"] == 3


def test_a_secret_is_not_written(tmp_path: Path) -> None:
    """A configuration that holds one is refused, whatever else could be rendered."""
    with pytest.raises(EmbeddingError, match=r"token\.secret: is a secret"):
        render(tmp_path, OPENAI, token={"secret": "a secret of this test alone"})
