"""The manifests of the target ``envoy-gateway``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from helpers.envoygateway.cel import parse
from helpers.envoygateway.differences import DIFFERENCES
from helpers.manifests import Manifest, mistakes, read_manifests
from ringback.cli import app
from ringback.contract import AUTHZ_NAMESPACE, CHECKED, CLUSTER_HEADER, PROC_NAMESPACE
from ringback.paths import envoy_dir

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/mesh/envoy-gateway.md"
CONFIG = """
model_list:
- model_name: voice
  litellm_params: {model: openai/gpt-realtime, api_key: os.environ/VOICE_KEY}
"""


@pytest.fixture
def render(tmp_path: Path) -> Any:
    """Return what renders a configuration, or gives the error's text."""

    def run(*pairs: str, config: str = CONFIG, **settings: object) -> list[Manifest] | str:
        (tmp_path / "litellm.yaml").write_text(config)
        (tmp_path / "ringback.yaml").write_text(json.dumps(settings))
        arguments = ["--config", "litellm.yaml", "--settings", "ringback.yaml"]
        arguments = [a if a[0] == "-" else str(tmp_path / a) for a in arguments]
        given = [word for pair in pairs for word in ("--set", pair)]
        result = CliRunner().invoke(app, ["render", "envoy-gateway", *arguments, *given])
        return read_manifests(result.stdout) if result.exit_code == 0 else result.output

    return run


def find(documents: list[Manifest], kind: str, name: str = "ringback") -> Manifest:
    """Return the one resource of a kind and name."""
    (found,) = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == name
    ]
    return found


def of_kind(documents: list[Manifest], kind: str) -> list[Manifest]:
    """Return all resources of a kind."""
    return [document for document in documents if document["kind"] == kind]


def overrides(documents: list[Manifest]) -> Iterator[dict[str, Any]]:
    """Give each rule that says what Envoy answers instead of somebody else."""
    for policy in of_kind(documents, "BackendTrafficPolicy"):
        yield from policy["spec"].get("responseOverride", [])


def test_every_call_has_to_be_checked_by_both(render: Any) -> None:
    """No route that reaches a provider is without the interlock, and it is what it should be."""
    documents = render()
    guards = {
        (target["kind"], target["name"]): policy["spec"]["authorization"]
        for policy in of_kind(documents, "SecurityPolicy")
        for target in policy["spec"]["targetRefs"]
    }
    lead = [
        route
        for route in of_kind(documents, "HTTPRoute")
        if any(
            reference["name"].startswith("ringback-https")
            for rule in route["spec"]["rules"]
            for reference in rule.get("backendRefs", [])
        )
    ]
    assert [route["metadata"]["name"] for route in lead] == ["ringback-https-api-openai-com-443"]
    for route in lead:
        name = route["metadata"]["name"]
        guard = guards.get(("HTTPRoute", name), guards["Gateway", "ringback"])
        assert guard["defaultAction"] == "Deny"
        assert all(f"['{CHECKED}'] == true" in rule["cel"] for rule in guard["rules"])
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                assert CLUSTER_HEADER in {header["name"] for header in match["headers"]}
    both, websocket = guards["Gateway", "ringback"]["rules"]
    assert AUTHZ_NAMESPACE in both["cel"]
    assert PROC_NAMESPACE in both["cel"]
    assert "outcome" in websocket["cel"]
    for rule in (both, websocket):
        assert parse(rule["cel"])
    client = find(documents, "ClientTrafficPolicy")["spec"]["headers"]["earlyRequestHeaders"]
    assert {"type": "Prefix", "value": "x-ringback-"} in client["removeOnMatch"]


def test_errors_are_worded_as_our_own_envoys(render: Any) -> None:
    """Each text that Envoy says itself stands in envoy.yaml, too, with its code."""
    own = re.sub(r"\s+", " ", (envoy_dir() / "envoy.yaml").read_text())
    texts = [rule["response"]["body"]["inline"] for rule in overrides(render())]
    assert texts
    for text in texts:
        error = json.loads(text)["error"]
        assert error["message"].replace("'", "''") in own or error["message"] in own, text
        assert error["code"] in own


def test_pages_read_what_is_refused(render: Any) -> None:
    """What no filter passes has its CORS headers from the policy itself."""
    for rule in overrides(render()):
        names = [header["name"] for header in rule["response"]["header"]["set"]]
        assert {"access-control-allow-origin", "x-request-id", "server"} <= set(names)
        assert len(names) == len(set(names))


def test_only_what_takes_calls_is_an_upstream_of_the_gateway(render: Any) -> None:
    """A LiteLLM proxy is asked by extauthz itself."""
    documents = render(litellm={"url": "https://litellm.example.com"})
    names = {backend["metadata"]["name"] for backend in of_kind(documents, "Backend")}
    assert names == {
        "ringback-nowhere",
        "ringback-extauthz",
        "ringback-sdpfilter",
        "ringback-https-api-openai-com-443",
    }
    (environ,) = [
        container["env"]
        for deployment in of_kind(documents, "Deployment")
        for container in deployment["spec"]["template"]["spec"]["containers"]
        if container["name"] == "extauthz"
    ]
    assert {"name": "RINGBACK_UPSTREAM__EGRESS", "value": "direct"} in environ


def test_callkeeper_and_the_services_know_each_other(render: Any) -> None:
    """Each shows its certificate, and lets in those who ask it."""
    documents = render(supervision={"mode": "required"})
    allowed = {}
    for deployment in of_kind(documents, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        environ = {entry["name"]: entry["value"] for entry in container["env"]}
        peers = json.loads(environ["RINGBACK_SERVICES__TLS__ALLOWED_PEERS"])
        allowed[container["name"]] = {peer.rpartition("/ringback-")[2] for peer in peers}
    assert allowed == {
        "extauthz": {"gateway", "sdpfilter", "callkeeper"},
        "sdpfilter": {"gateway"},
        "callkeeper": {"sdpfilter", "extauthz"},
    }
    # Envoy does not know it.
    assert "ringback-callkeeper" not in {
        document["metadata"]["name"] for document in of_kind(documents, "Backend")
    }


def test_values_take_effect(render: Any, pytestconfig: pytest.Config) -> None:
    """Every value is where it belongs, and the manifests still fit their kinds."""
    documents = render(
        *("namespace=voice", "gateway_class=public", "tls_secret=", "upstream_ca=authorities"),
        *("plaintext=true", "replicas=3", "image=img:1", "secret=s", "keys_secret=k"),
        *("secrets=RINGBACK_STORE__URL", "envoy_namespace=envoys", "monitoring_namespace=m"),
        "egress_ports=6379",
    )
    assert mistakes(documents, pytestconfig.cache) == []
    assert {document["metadata"]["namespace"] for document in documents} == {"voice"}
    gateway = find(documents, "Gateway")["spec"]
    assert gateway["gatewayClassName"] == "public"
    assert gateway["listeners"][0]["protocol"] == "HTTP"
    grpc = find(documents, "SecurityPolicy")["spec"]["extAuth"]["grpc"]
    assert grpc["backendRefs"] == [
        {"group": "", "kind": "Service", "name": "ringback-extauthz", "port": 9001}
    ]
    assert grpc["backendSettings"]["circuitBreaker"]["maxParallelRequests"] == 3 * (128 + 64)
    deployment = find(documents, "Deployment", "ringback-extauthz")["spec"]
    assert deployment["replicas"] == 3
    pod = yaml.safe_dump(deployment["template"]["spec"])
    for word in ("img:1", "secretName: s\n", "keys.yaml", "RINGBACK_STORE__URL", "authorities"):
        assert word in pod
    assert "SERVICES__TLS" not in pod
    policy = yaml.safe_dump(find(documents, "NetworkPolicy", "ringback-extauthz"))
    for word in ("envoys", "name: m\n", "port: 6379"):
        assert word in policy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cors_origins": ["http://localhost:*"]}, "Name each origin"),
        ({"cors_origins": ["https://app.*.example.com"]}, "Name each origin"),
        ({"passthrough": {"url": "http://litellm.example:4000"}}, "passthrough.url: is not served"),
        ({"playground": True}, "playground: is not served"),
    ],
)
def test_what_cannot_be_served_is_refused(
    render: Any, change: dict[str, object], said: str
) -> None:
    """A setting that Envoy Gateway has no means for is an error, not left out."""
    assert said in render(**change)


def test_upstream_whose_certificate_could_not_be_checked_is_refused(render: Any) -> None:
    """Envoy Gateway checks by name."""
    config = CONFIG.replace("api_key:", "api_base: 'https://192.0.2.7/v1', api_key:")
    assert "Give it a name in DNS" in render(config=config)


def test_without_origins_no_page_may_call(render: Any) -> None:
    """The default is for pages on the developer's own machine, and is not a gateway's."""
    assert "allowOrigins" not in find(render(), "SecurityPolicy")["spec"]["cors"]


def test_the_page_lists_every_difference() -> None:
    """What tests know as a difference of this data plane is told, with its reason."""
    page = re.sub(r"\s+", " ", PAGE.read_text())
    for text in DIFFERENCES.values():
        assert text in page
