"""The rendered pods for Envoy Gateway, with certificates between all of them.

In front of them is an Envoy of our own, with the certificate of the Gateway's.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
import yaml
from typer.testing import CliRunner

from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.apart import envoy_tls, places
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.gateway import CallerAt
from helpers.gatewayfiles import KEY
from helpers.manifests import Manifest, check_restricted, read_manifests
from helpers.pod import Pod, Volumes
from helpers.podhost import PodHost
from helpers.recording import RecordingUpstream
from helpers.svids import Authority, Identity
from helpers.waiting import until
from ringback.cli import app
from ringback.render.services import secret_files
from ringback.secrets import Secret
from ringback.settings import ServiceSettings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

ACCOUNTS: Final = "spiffe://cluster.local/ns/ringback/sa/ringback-"
SERVICES: Final = ("extauthz", "sdpfilter", "callkeeper")
PORTS: Final = {"extauthz": [9001], "sdpfilter": [9002]}
# Stands for the names of the Services, which are one pod each here.
HOST: Final = "localhost"


@dataclass(slots=True)
class Cluster:
    """Pods, a provider, and somebody in front of them."""

    pods: dict[str, Pod]
    upstream: RecordingUpstream
    caller: CallerAt


def render(folder: Path, base: str) -> list[Manifest]:
    """Return the manifests for one deployment whose calls have to be supervised."""
    params = {"model": "openai/gpt-realtime", "api_base": base, "api_key": "os.environ/VOICE_KEY"}
    config, settings = folder / "litellm.yaml", folder / "ringback.yaml"
    config.write_text(
        yaml.safe_dump({"model_list": [{"model_name": "voice", "litellm_params": params}]})
    )
    settings.write_text("supervision: {mode: required}\n")
    command = ["render", "envoy-gateway", "--config", str(config), "--settings", str(settings)]
    result = CliRunner().invoke(app, [*command, "--set", "keys_secret=voice-keys"])
    assert result.exit_code == 0, result.output
    return read_manifests(result.stdout)


def pod_of(
    host: PodHost, service: str, manifests: list[Manifest], authority: Authority, folder: Path
) -> Pod:
    """Return a pod of a service, with what a cluster has for it."""
    (spec,) = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] == "Deployment"
        and manifest["metadata"]["name"] == f"ringback-{service}"
    ]
    check_restricted(spec)
    (container,) = spec["containers"]
    for entry in container["env"]:
        for other in SERVICES:
            entry["value"] = entry["value"].replace(f"ringback-{other}.ringback.svc", HOST)
    certificate, key = authority.issue(f"{ACCOUNTS}{service}", HOST)
    (config,) = [manifest for manifest in manifests if manifest["kind"] == "ConfigMap"]
    keys = folder.parent / "keys.yaml"
    if not keys.exists():
        save_keys(keys, [VirtualKey(hash_key(Secret(KEY)), alias="team")])
    sources = {
        ("ConfigMap", config["metadata"]["name"]): config["data"],
        ("Secret", "ringback-secrets"): {
            "LITELLM_SALT_KEY": "a salt of this cluster alone",
            "VOICE_KEY": "sk-upstream",
        },
        ("Secret", "voice-keys"): {"keys.yaml": keys.read_text()},
        ("Secret", f"ringback-{service}-tls"): {
            "tls.crt": certificate.decode(),
            "tls.key": key.decode(),
            "ca.crt": authority.pem.decode(),
        },
    }
    (folder / "volumes").mkdir(parents=True)
    return Pod(host, spec, Volumes(folder / "volumes", spec, sources), folder)


@pytest.fixture(scope="module")
def host() -> Iterator[PodHost]:
    """Where pods run."""
    with PodHost() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(
    host: PodHost, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """Pods that are ready, and an Envoy in front of them."""
    folder, authority = tmp_path_factory.mktemp("cluster"), Authority()
    envoy_side = Identity(folder / "envoy-side")
    envoy_side.write(authority.issue(f"{ACCOUNTS}gateway"), authority)
    services = ServiceSettings.model_validate(
        {
            **places("127.0.0.1", PORTS),
            "envoy": envoy_tls(envoy_side, folder, *(f"{ACCOUNTS}{name}" for name in PORTS)),
        }
    )
    for name, content in secret_files(services.envoy).items():
        (folder / name).write_text(json.dumps(content))
    with host.entered():
        async with RecordingUpstream() as upstream:
            manifests = render(folder, f"{upstream.url()}/v1")
            pods = {
                name: pod_of(host, name, manifests, authority, folder / name) for name in SERVICES
            }
            await asyncio.gather(*(pod.start() for pod in pods.values()))
            async with EnvoyProcess(local_bootstrap(services=services), folder) as envoy:
                caller = CallerAt(envoy.port("ingress_http"))
                await caller.until_ready()
                yield Cluster(pods, upstream, caller)


@pytest.fixture(autouse=True)
def inside(host: PodHost) -> Iterator[None]:
    """Let tests make their connections where the pods are."""
    with host.entered():
        yield


async def test_services_believe_each_other(cluster: Cluster) -> None:
    """With the certificates that the page asks for a call is registered, and listened to."""
    token = (await cluster.caller.mint("voice")).json()["value"]
    assert (await cluster.caller.call(token)).status == 201
    sideband = "/v1/realtime?call_id=rtc_upstream_"
    received = cluster.upstream.received
    await until(lambda: any(message.target.startswith(sideband) for message in received))
    for name, pod in cluster.pods.items():
        assert "peer_refused" not in pod.log(name)


async def test_probes_need_no_certificate(cluster: Cluster) -> None:
    """A kubelet has none."""
    for name, pod in cluster.pods.items():
        (container,) = pod.spec["containers"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert await pod.probe(container, kind), f"{kind} of {name}"
