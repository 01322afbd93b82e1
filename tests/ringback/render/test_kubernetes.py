"""The manifests of the target ``kubernetes``, as a cluster would get them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from extauthz.keys import hash_key
from extauthz.keys.keyfile import load_keys
from extauthz.litellm import load_config
from helpers.manifests import (
    Manifest,
    build,
    check_restricted,
    containers,
    mistakes,
    read_manifests,
)
from ringback.cli import app
from ringback.envoylint import lint_text
from ringback.paths import ENVOY_VERSION
from ringback.secrets import Secret
from ringback.settings import Settings, SupervisionSettings, load_settings
from ringback.settings.overload import OverloadSettings

ROOT = Path(__file__).parents[3]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/development", "overlays/production")
CONFIG = """
model_list:
- model_name: voice
  litellm_params: {model: openai/gpt-realtime, api_key: os.environ/VOICE_KEY}
"""

every_overlay = pytest.mark.parametrize("folder", OVERLAYS)


@pytest.fixture(scope="module")
def built(pytestconfig: pytest.Config) -> Mapping[str, list[Manifest]]:
    """What kustomize makes of the base and of each overlay."""
    return {folder: build(KUBERNETES / folder, pytestconfig.cache) for folder in OVERLAYS}


def find(documents: list[Manifest], kind: str, name: str = "ringback") -> Manifest:
    """Return the one resource of a kind and name."""
    (found,) = [
        document
        for document in documents
        if document["kind"] == kind and document["metadata"]["name"] == name
    ]
    return found


def pods(documents: list[Manifest]) -> Iterator[Manifest]:
    """Give the ``spec`` of each pod that would run."""
    for document in documents:
        if document["kind"] in {"Deployment", "Job"}:
            yield document["spec"]["template"]["spec"]


def render(config: Path, *arguments: str | Path) -> str:
    """Return what the command prints for a configuration."""
    command = ["render", "kubernetes", "--config", config, *arguments]
    result = CliRunner().invoke(app, [str(word) for word in command])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A small configuration."""
    path = tmp_path / "litellm.yaml"
    path.write_text(CONFIG)
    return path


@every_overlay
def test_what_kustomize_makes_fits_the_schemas(
    built: Mapping[str, list[Manifest]], folder: str, pytestconfig: pytest.Config
) -> None:
    """Each overlay builds, and what comes out is as valid as the base."""
    assert mistakes(built[folder], pytestconfig.cache) == []
    assert {document["metadata"]["namespace"] for document in built[folder]} == {"ringback"}


@every_overlay
def test_pods_keep_to_the_restricted_profile(
    built: Mapping[str, list[Manifest]], folder: str
) -> None:
    """No root, no capability, nothing to write to."""
    for pod in pods(built[folder]):
        check_restricted(pod)


@every_overlay
def test_services_outlive_envoy(built: Mapping[str, list[Manifest]], folder: str) -> None:
    """All are sidecars, which start before Envoy and end after it, with time enough for all."""
    pod = find(built[folder], "Deployment")["spec"]["template"]["spec"]

    names = [container["name"] for container in pod["initContainers"]]
    assert names == ["extauthz", "sdpfilter", "callkeeper"]
    assert {container["restartPolicy"] for container in pod["initContainers"]} == {"Always"}
    (envoy,) = pod["containers"]
    seconds = {entry["name"]: int(entry["value"]) for entry in envoy["env"]}
    drained = seconds["NOTICE_S"] + seconds["DRAIN_S"]
    # Each service waits 15 s at most (ringback/grpcserver.py); callkeeper 10 s more for those who
    # take its calls, and 5 s for its sinks.
    assert pod["terminationGracePeriodSeconds"] >= drained + 3 * 15 + 10 + 5


@every_overlay
def test_images_and_files_are_named_alike(built: Mapping[str, list[Manifest]], folder: str) -> None:
    """Envoy is the one that was tested; each volume that is mounted exists, and its source."""
    documents = built[folder]
    pod = find(documents, "Deployment")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == f"envoyproxy/envoy:v{ENVOY_VERSION}"
    config_maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    for pod in pods(documents):
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        mounted = {
            mount["name"] for part in containers(pod) for mount in part.get("volumeMounts", [])
        }
        assert mounted == volumes.keys()
        for volume in volumes.values():
            for source in (volume, *volume.get("projected", {}).get("sources", [])):
                if reference := source.get("configMap"):
                    data = config_maps[reference["name"]]
                    assert {item["key"] for item in reference.get("items", [])} <= data.keys()


def test_production_scales_and_is_watched(built: Mapping[str, list[Manifest]]) -> None:
    """The autoscaler alone says how many pods there are; each worker is scraped, under its job."""
    documents = built["overlays/production"]
    deployment = find(documents, "Deployment")
    scaler = find(documents, "HorizontalPodAutoscaler")["spec"]
    endpoints = find(documents, "PodMonitor")["spec"]["podMetricsEndpoints"]

    assert "replicas" not in deployment["spec"]
    assert scaler["minReplicas"] == 3
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    pod = deployment["spec"]["template"]["spec"]
    ports = {port["name"] for container in containers(pod) for port in container["ports"]}
    assert {endpoint["port"] for endpoint in endpoints} == ports - {"http"}
    for endpoint in endpoints:
        (relabeling,) = endpoint["relabelings"]
        assert endpoint["port"].startswith(relabeling["replacement"])
    alerts = yaml.safe_load((ROOT / "deploy/observability/alerts.yaml").read_text())
    assert find(documents, "PrometheusRule")["spec"] == alerts


def test_the_configuration_of_development_can_be_used(
    built: Mapping[str, list[Manifest]], tmp_path: Path
) -> None:
    """The demo's files are read without a mistake, for models at the emulator's Service."""
    documents = built["overlays/development"]
    for name, text in find(documents, "ConfigMap", "ringback-config")["data"].items():
        (tmp_path / name).write_text(text)

    config = load_config(tmp_path / "litellm.yaml", {"LITELLM_MASTER_KEY": "sk-demo"})
    (key,) = load_keys(tmp_path / "keys.yaml")

    (port,) = find(documents, "Service", "emulator")["spec"]["ports"]
    assert {str(entry.origin) for entry in config.deployments} == {
        f"http://emulator:{port['port']}"
    }
    assert set(key.models) == {entry.model_name for entry in config.deployments}
    assert key.hash == hash_key(Secret("sk-ringback-demo"))
    settings = load_settings(tmp_path / "ringback.yaml")
    assert (settings.mode, settings.supervision.mode) == ("development", "auto")


@every_overlay
def test_nothing_fails_open_in_the_bootstrap(
    built: Mapping[str, list[Manifest]], folder: str
) -> None:
    """What `ringback check --envoy` looks for is not in it."""
    assert lint_text(find(built[folder], "ConfigMap", "ringback-envoy")["data"]["envoy.yaml"]) == []


def test_the_autoscaler_scales_before_requests_are_refused(
    built: Mapping[str, list[Manifest]],
) -> None:
    """At half of what the workers of a pod let in, by the metric that the comment explains."""
    in_flight, cpu = find(built["overlays/production"], "HorizontalPodAutoscaler")["spec"][
        "metrics"
    ]
    limits = OverloadSettings()

    name = in_flight["pods"]["metric"]["name"]
    assert (
        name in (KUBERNETES / "components/autoscaling/hpa.yaml").read_text().partition("\napi")[0]
    )
    target = int(in_flight["pods"]["target"]["averageValue"])
    assert target == min(limits.max_mints, limits.max_calls) * Settings().workers / 2
    assert cpu["resource"]["target"]["averageUtilization"] == 60


def test_development_has_an_emulator(built: Mapping[str, list[Manifest]]) -> None:
    """One replica, no budget, demo secrets, and an upstream that pods may reach."""
    documents = built["overlays/development"]

    assert find(documents, "Deployment")["spec"]["replicas"] == 1
    assert "PodDisruptionBudget" not in {document["kind"] for document in documents}
    find(documents, "Deployment", "emulator")
    needed = find(built["base"], "Deployment")["spec"]["template"]["spec"]["volumes"]
    (items,) = [v["secret"]["items"] for v in needed if v["name"] == "secrets"]
    secret = find(documents, "Secret", "ringback-secrets")
    assert secret["data"].keys() == {item["key"] for item in items}
    *_, upstreams = find(documents, "NetworkPolicy")["spec"]["egress"]
    assert upstreams["ports"] == [{"port": 8090}]


@every_overlay
def test_only_pods_of_the_gateway_are_selected(
    built: Mapping[str, list[Manifest]], folder: str
) -> None:
    """Service, budget, policy and monitor mean the Deployment's pods, and not those of the Job."""
    documents = built[folder]
    labels = find(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    job = find(documents, "Job", "ringback-check")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        find(documents, "Service")["spec"]["selector"],
        find(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            document["spec"]["selector"]["matchLabels"]
            for document in documents
            if document["kind"] in {"PodDisruptionBudget", "PodMonitor"}
        ),
    ]

    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= job.items()


def test_traffic_is_let_through_where_it_is_needed(built: Mapping[str, list[Manifest]]) -> None:
    """In: 4000 for all, metrics for Prometheus. Out: names, and the ports of the upstreams."""
    policy = find(built["base"], "NetworkPolicy")["spec"]
    callers, scrapers = policy["ingress"]
    names, upstreams = policy["egress"]
    pod = find(built["base"], "Deployment")["spec"]["template"]["spec"]

    assert callers == {"ports": [{"port": 4000}]}
    metrics = {port["containerPort"] for part in containers(pod) for port in part["ports"]} - {4000}
    assert {port["port"] for port in scrapers["ports"]} == metrics
    assert scrapers["from"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert upstreams["ports"] == [{"port": 443}]
    nobody = find(built["base"], "NetworkPolicy", "ringback-check")["spec"]
    assert nobody["policyTypes"] == ["Ingress", "Egress"]
    assert nobody.keys() == {"podSelector", "policyTypes"}


def test_secrets_are_files_that_their_readers_need(config: Path) -> None:
    """Who decides gets every variable that the configuration names, sdpfilter the salt alone."""
    documents = read_manifests(render(config, "--set", "secrets=RINGBACK_STORE__URL"))

    pod = find(documents, "Deployment")["spec"]["template"]["spec"]
    variables = {part["name"]: part["env"] for part in pod["initContainers"]}
    names = ["LITELLM_SALT_KEY", "RINGBACK_STORE__URL", "VOICE_KEY"]
    assert variables["extauthz"] == [
        {"name": f"{name}_FILE", "value": f"/etc/ringback/secrets/{name}"} for name in names
    ]
    assert [entry["name"] for entry in variables["sdpfilter"]] == ["LITELLM_SALT_KEY_FILE"]
    assert "Secret" not in {document["kind"] for document in documents}


def test_no_secret_is_mounted_where_none_is_needed(config: Path, tmp_path: Path) -> None:
    """A volume of a Secret that names no keys would have all of them."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text("token: {jwk_set_file: /etc/ringback/set/keys.json}\n")

    for pod in pods(read_manifests(render(config, "--settings", settings))):
        for volume in pod["volumes"]:
            assert volume["name"] != "sealing"
            assert "secret" not in volume or volume["secret"]["items"]
        for container in containers(pod):
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts <= {volume["name"] for volume in pod["volumes"]}


def test_another_sealing_secret_replaces_that_of_litellm(config: Path) -> None:
    """With RINGBACK_TOKEN__SECRET nobody is asked for a salt."""
    documents = read_manifests(render(config, "--set", "secrets=RINGBACK_TOKEN__SECRET"))

    pod = find(documents, "Deployment")["spec"]["template"]["spec"]
    names = {
        part["name"]: [entry["name"] for entry in part["env"]] for part in pod["initContainers"]
    }
    assert names["extauthz"] == ["RINGBACK_TOKEN__SECRET_FILE", "VOICE_KEY_FILE"]
    assert names["sdpfilter"] == ["RINGBACK_TOKEN__SECRET_FILE"]


def test_a_managed_identity_may_ask_its_node(config: Path) -> None:
    """Where a deployment logs in with it, the metadata service is an upstream."""
    config.write_text(
        "model_list:\n- model_name: voice\n"
        "  litellm_params: {model: azure/v, api_base: 'https://v.openai.azure.com'}\n"
        "  model_info: {ringback: {credential: managed_identity}}\n"
    )

    *_, upstreams = find(read_manifests(render(config)), "NetworkPolicy")["spec"]["egress"]

    assert [port["port"] for port in upstreams["ports"]] == [80, 443]
    assert {"ipBlock": {"cidr": "0.0.0.0/0"}} in upstreams["to"]


def test_values_go_where_they_belong(config: Path, pytestconfig: pytest.Config) -> None:
    """Each value that can be set changes its part, and all of it stays valid."""
    pairs = {
        "namespace": "voice",
        "image": "registry.test/services:1",
        "envoy_image": "registry.test/envoy:1",
        "envoy_threads": "4",
        "replicas": "5",
        "secret": "voice-secrets",
        "keys_secret": "voice-keys",
        "monitoring_namespace": "observability",
        "egress_ports": "5432,6379",
    }
    arguments = [word for pair in pairs.items() for word in ("--set", "=".join(pair))]

    documents = read_manifests(render(config, *arguments))

    assert mistakes(documents, pytestconfig.cache) == []
    assert {document["metadata"]["namespace"] for document in documents} == {"voice"}
    deployment = find(documents, "Deployment")
    assert deployment["spec"]["replicas"] == 5
    pod = deployment["spec"]["template"]["spec"]
    assert [part["image"] for part in containers(pod)] == [
        "registry.test/services:1",
        "registry.test/services:1",
        "registry.test/envoy:1",
    ]
    args = pod["containers"][0]["args"]
    assert args[args.index("--concurrency") + 1] == "4"
    text = yaml.safe_dump(pod)
    assert "voice-secrets" in text
    assert "voice-keys" in text
    assert {"name": "RINGBACK_KEYS_FILE", "value": "/etc/ringback/keys/keys.yaml"} in (
        pod["initContainers"][0]["env"]
    )
    policy = find(documents, "NetworkPolicy")["spec"]
    _, scrapers = policy["ingress"]
    assert "observability" in str(scrapers["from"])
    assert [port["port"] for port in policy["egress"][1]["ports"]] == [443, 5432, 6379]


def test_settings_go_where_they_belong(config: Path, tmp_path: Path) -> None:
    """Workers, limits, the page and what is passed through are those of ringback.yaml."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text(
        "workers: 3\nplayground: true\noverload: {max_calls: 10}\n"
        "passthrough: {url: 'http://litellm.litellm.svc:4100'}\n"
    )

    documents = read_manifests(render(config, "--settings", settings))

    pod = find(documents, "Deployment")["spec"]["template"]["spec"]
    for service in pod["initContainers"]:
        name = service["name"]
        sockets = [f"--listen=unix:/run/ringback/{name}-{index}.sock" for index in range(3)]
        assert [word for word in service["args"] if word.startswith("--listen")] == sockets
        assert len(service["ports"]) == 3
        assert len(service["livenessProbe"]["exec"]["command"]) == 3 + 3
    data = find(documents, "ConfigMap", "ringback-envoy")["data"]
    assert "playground.html" in data
    bootstrap: Any = yaml.safe_load(data["envoy.yaml"])
    clusters = {part["name"]: part for part in bootstrap["static_resources"]["clusters"]}
    assert "passthrough" in clusters
    (locality,) = clusters["sdpfilter"]["load_assignment"]["endpoints"]
    assert len(locality["lb_endpoints"]) == 3
    ports = find(documents, "NetworkPolicy")["spec"]["egress"][1]["ports"]
    assert [port["port"] for port in ports] == [443, 4100]


@pytest.fixture
def supervised(config: Path, tmp_path: Path) -> list[Manifest]:
    """The base for calls that are supervised, with whatever can be set."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text(
        "supervision:\n"
        "  {mode: required, spool_folder: /var/spool/ringback, sinks: [litellm],\n"
        "   webhook: {url: 'https://hooks.example.com:8443/ringback'},\n"
        "   collector: {url: 'http://collector.observability:4318'}}\n"
    )
    secrets = "secrets=RINGBACK_SUPERVISION__DATABASE_URL,RINGBACK_STORE__URL"
    return read_manifests(render(config, "--settings", settings, "--set", secrets))


def test_callkeeper_is_there_if_calls_are_supervised(
    supervised: list[Manifest], pytestconfig: pytest.Config
) -> None:
    """Whom it needs and who needs it are told where each other is."""
    assert mistakes(supervised, pytestconfig.cache) == []
    pod = find(supervised, "Deployment")["spec"]["template"]["spec"]
    check_restricted(pod)
    services = {part["name"]: part for part in pod["initContainers"]}
    assert list(services) == ["extauthz", "sdpfilter", "callkeeper"]
    assert services["callkeeper"]["image"] == services["extauthz"]["image"]
    for service in services.values():
        environ = {entry["name"]: entry["value"] for entry in service["env"]}
        for name in ("callkeeper", "extauthz"):
            addresses = json.loads(environ[f"RINGBACK_SUPERVISION__{name.upper()}"])
            listens = [f"--listen={address}" for address in addresses]
            assert [word for word in services[name]["args"] if word[:8] == "--listen"] == listens
    _, scrapers = find(supervised, "NetworkPolicy")["spec"]["ingress"]
    assert {"port": 9467} in scrapers["ports"]


def test_callkeeper_has_what_it_needs_and_no_more(supervised: list[Manifest]) -> None:
    """Its own secrets and a folder for what waits; nobody else has its secrets."""
    pod = find(supervised, "Deployment")["spec"]["template"]["spec"]
    services = {part["name"]: part for part in pod["initContainers"]}
    secrets = {
        name: {entry["name"] for entry in part["env"] if entry["name"].endswith("_FILE")}
        for name, part in services.items()
    }
    own = "RINGBACK_SUPERVISION__DATABASE_URL_FILE"
    assert secrets["callkeeper"] == {own, "RINGBACK_STORE__URL_FILE"}
    assert own not in secrets["extauthz"] | secrets["sdpfilter"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in services["callkeeper"]["volumeMounts"]}
    assert mounts["spool"] == {"name": "spool", "mountPath": "/var/spool/ringback"}
    size = int(volumes["spool"]["emptyDir"]["sizeLimit"].removesuffix("Mi"))
    assert size * 1024 * 1024 > 3 * SupervisionSettings().spool_max_bytes
    _, upstreams = find(supervised, "NetworkPolicy")["spec"]["egress"]
    assert [port["port"] for port in upstreams["ports"]] == [443, 4318, 8443]
    assert [mount for mount in mounts.values() if not mount.get("readOnly")] == [
        {"name": "sockets", "mountPath": "/run/ringback"},
        mounts["spool"],
    ]


def test_without_supervision_nobody_is_asked(config: Path) -> None:
    """There is no callkeeper, and nothing that only it needs."""
    documents = read_manifests(render(config))
    pod = find(documents, "Deployment")["spec"]["template"]["spec"]
    assert [part["name"] for part in pod["initContainers"]] == ["extauthz", "sdpfilter"]
    assert "callkeeper" not in yaml.safe_dump(pod)
    assert {volume["name"] for volume in pod["volumes"]} & {"keeping", "spool"} == set()


def test_included_files_come_along(config: Path, tmp_path: Path) -> None:
    """They are found beside the first one, in the folders that it names."""
    config.write_text(f"include: [models/azure.yaml]\n{CONFIG}")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "azure.yaml").write_text("model_list: []\n")

    documents = read_manifests(render(config))

    data = find(documents, "ConfigMap", "ringback-config")["data"]
    assert data["models__azure.yaml"] == "model_list: []\n"
    for pod in pods(documents):
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "config"]
        (source,) = volume["projected"]["sources"]
        assert {"key": "models__azure.yaml", "path": "models/azure.yaml"} in (
            source["configMap"]["items"]
        )


def test_a_configuration_with_secrets_comes_from_a_secret(config: Path) -> None:
    """Nothing of it is written, and pods mount what the operator has made."""
    config.write_text(CONFIG.replace("os.environ/VOICE_KEY", "sk-of-the-provider"))

    text = render(config, "--set", "config_secret=voice-config")

    assert "sk-of-the-provider" not in text
    documents = read_manifests(text)
    assert find(documents, "ConfigMap", "ringback-config")["data"].keys() == {"ringback.yaml"}
    for pod in pods(documents):
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "config"]
        assert {"secret": {"name": "voice-config"}} in volume["projected"]["sources"]


@pytest.mark.parametrize(
    ("config_text", "settings_text", "place"),
    [
        pytest.param(
            CONFIG.replace("os.environ/VOICE_KEY", "made-up"),
            "",
            "model_list[0].litellm_params.api_key",
            id="key",
        ),
        pytest.param(
            f"{CONFIG}general_settings: {{database_url: 'postgresql://u:made-up@h/d'}}",
            "",
            "general_settings.database_url",
            id="password-in-url",
        ),
        pytest.param(
            f"{CONFIG}environment_variables: {{REDIS_PASSWORD: made-up}}",
            "",
            "environment_variables.REDIS_PASSWORD",
            id="variable",
        ),
        pytest.param(CONFIG, "store: {url: 'redis://:made-up@h'}", "store.url", id="setting"),
        pytest.param(
            CONFIG.replace(
                "os.environ/VOICE_KEY", "os.environ/V, extra_headers: {X-Token: made-up}"
            ),
            "",
            "model_list[0].litellm_params.extra_headers.X-Token",
            id="header",
        ),
    ],
)
def test_secrets_are_never_written(
    tmp_path: Path, config_text: str, settings_text: str, place: str
) -> None:
    """A secret in what would go into a ConfigMap is refused, with its place and a way out."""
    config, settings = tmp_path / "litellm.yaml", tmp_path / "ringback.yaml"
    config.write_text(config_text)
    settings.write_text(settings_text)
    command = ["render", "kubernetes", "--config", str(config), "--settings", str(settings)]

    result = CliRunner().invoke(app, command)

    assert result.exit_code == 2
    assert f"{place}: " in result.stderr
    assert "--set" in result.stderr
    assert "made-up" not in result.output
