"""The rendered pods for Istio, and a gateway with TLS in front of them: all but the mesh itself."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio
import trustme
import yaml
from typer.testing import CliRunner

from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.curlpage import check_page
from helpers.descriptions import OFFERS
from helpers.envoyproc import EnvoyProcess, local_changes
from helpers.istiod import istiod_bootstrap
from helpers.istiod.listeners import TLS_LISTENER
from helpers.manifests import Manifest, read_manifests
from helpers.pod import Pod, Volumes, get
from helpers.podhost import POD_ADDRESS, PodHost
from helpers.recording import RecordingUpstream
from helpers.waiting import until
from ringback.cli import app
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PAGE: Final = (Path(__file__).parents[2] / "docs" / "mesh" / "istio.md").read_text()
KEY: Final = "sk-of-a-team-in-the-mesh"
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
PORTS: Final = {"extauthz": 9001, "sdpfilter": 9002}
METRICS: Final = {"extauthz": 9464, "sdpfilter": 9465, "callkeeper": 9467}
SECRETS: Final = {"LITELLM_SALT_KEY": "a salt of this mesh alone", "VOICE_KEY": "sk-upstream-key"}


@dataclass(slots=True)
class Mesh:
    """Pods of the services, and a gateway.

    Attributes:
        pods: By the name of the service.
        upstreams: The provider that the manifests know, and one that they do not.
        base: Where callers come in.
        ca_file: Who vouches for it.
    """

    pods: dict[str, Pod]
    upstreams: tuple[RecordingUpstream, RecordingUpstream]
    base: str
    ca_file: Path

    def client(self) -> httpx.AsyncClient:
        """Return a client of the gateway."""
        context = ssl.create_default_context(cafile=self.ca_file)
        return httpx.AsyncClient(base_url=self.base, verify=context, trust_env=False)

    async def mint(self, model: str) -> httpx.Response:
        """Ask for a token."""
        async with self.client() as client:
            return await client.post(
                "/v1/realtime/client_secrets",
                headers={"authorization": f"Bearer {KEY}"},
                json={"session": {"type": "realtime", "model": model}},
            )

    async def call(self, token: str) -> httpx.Response:
        """Send an offer."""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/sdp"}
        async with self.client() as client:
            return await client.post("/v1/realtime/calls", headers=headers, content=OFFER)


def config_of(**bases: str) -> str:
    """Return LiteLLM's configuration with a model for each base URL."""
    entries = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/gpt-realtime",
                "api_base": f"{base}/v1",
                "api_key": "os.environ/VOICE_KEY",
            },
        }
        for name, base in bases.items()
    ]
    return yaml.safe_dump({"model_list": entries})


def render(folder: Path, base: str) -> list[Manifest]:
    """Return all that the command writes for one deployment."""
    config, output = folder / "litellm.yaml", folder / "manifests"
    config.write_text(config_of(**{"gpt-realtime": base}))
    settings = folder / "ringback.yaml"
    settings.write_text("supervision: {mode: required}\n")
    command = ["render", "istio", "--config", str(config), "--output", str(output)]
    command += ["--settings", str(settings)]
    result = CliRunner().invoke(app, [*command, "--set", "keys_secret=voice-keys"])
    assert result.exit_code == 0, result.output
    return [m for file in sorted(output.rglob("*.yaml")) for m in read_manifests(file.read_text())]


@pytest.fixture(scope="module")
def host() -> Iterator[PodHost]:
    """Where pods run."""
    with PodHost() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(host: PodHost, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Pods that are ready, and what istiod would make of the same manifests."""
    folder = tmp_path_factory.mktemp("mesh")
    keys, ca_file = folder / "keys.yaml", folder / "ca.pem"
    save_keys(keys, [VirtualKey(hash_key(Secret(KEY)), alias="team")])
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    certificate = authority.issue_cert("127.0.0.1")
    tls = {
        "tls.crt": certificate.cert_chain_pems[0].bytes().decode(),
        "tls.key": certificate.private_key_pem.bytes().decode(),
    }
    with host.entered():
        async with RecordingUpstream() as upstream, RecordingUpstream() as unknown:
            manifests = render(folder, upstream.url())
            pods = {name: pod_of(host, name, manifests, keys, folder / name) for name in METRICS}
            for pod in pods.values():
                await pod.start()
            endpoints = {name: [f"{POD_ADDRESS}:{port}"] for name, port in PORTS.items()}
            changes = local_changes(endpoints=endpoints)
            bootstrap = istiod_bootstrap(manifests, changes, {"ringback-tls": tls})
            async with EnvoyProcess(bootstrap, folder) as envoy:
                base = f"https://127.0.0.1:{envoy.port(TLS_LISTENER)}"
                yield Mesh(pods, (upstream, unknown), base, ca_file)


def pod_of(host: PodHost, name: str, manifests: list[Manifest], keys: Path, folder: Path) -> Pod:
    """Return a pod of a service, with what a cluster has for it."""
    (spec,) = [
        manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest.get("kind") == "Deployment"
        and manifest["metadata"]["name"] == f"ringback-{name}"
    ]
    for entry in spec["containers"][0]["env"]:
        # What a cluster's DNS would say.
        for service in METRICS:
            entry["value"] = entry["value"].replace(f"ringback-{service}.ringback.svc", POD_ADDRESS)
    (config,) = [manifest for manifest in manifests if manifest.get("kind") == "ConfigMap"]
    sources = {
        ("ConfigMap", config["metadata"]["name"]): config["data"],
        ("Secret", "ringback-secrets"): SECRETS,
        ("Secret", "voice-keys"): {"keys.yaml": keys.read_text()},
    }
    (folder / "volumes").mkdir(parents=True)
    return Pod(host, spec, Volumes(folder / "volumes", spec, sources), folder)


@pytest.fixture(autouse=True)
def inside(host: PodHost) -> Iterator[None]:
    """Let tests make their connections where the pods are."""
    with host.entered():
        yield


async def test_a_call_passes_the_mesh(mesh: Mesh) -> None:
    """A token from extauthz itself, the offer by way of the gateway, and sdpfilter has seen it."""
    minted = await mesh.mint("gpt-realtime")
    assert minted.status_code == 200, minted.text

    answer = await mesh.call(minted.json()["value"])

    assert answer.status_code == 201, answer.text
    assert answer.headers["content-type"] == "application/sdp"
    upstream, _ = mesh.upstreams
    assert [message.target for message in upstream.received][:2] == [
        "/v1/realtime/client_secrets",
        "/v1/realtime/calls",
    ]
    # Private addresses do not leave.
    assert b".local" not in upstream.received[1].body
    # Whoever keeps the call listens to it, on a way of its own.
    sideband = "/v1/realtime?call_id=rtc_upstream_"
    await until(lambda: any(m.target.startswith(sideband) for m in upstream.received))
    assert b"x-ringback" not in b"".join(message.raw for message in upstream.received).lower()


async def test_all_probes_pass_and_metrics_are_open(mesh: Mesh) -> None:
    """At the ports that stay open without mutual TLS."""
    for name, pod in mesh.pods.items():
        (container,) = pod.spec["containers"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert await pod.probe(container, kind), f"{kind} of {name}"
        answer = await get(METRICS[name], "/metrics")
        assert answer.status == 200
        assert b"ringback_" in answer.body


async def test_the_page_says_what_the_gateway_answers(mesh: Mesh) -> None:
    """Each curl line of docs/mesh/istio.md, with the answer that stands below it."""
    environ = {"BASE": mesh.base, "KEY": KEY, "CURL_CA_BUNDLE": str(mesh.ca_file)}

    assert await check_page(PAGE, environ) == 7


async def test_a_provider_that_the_mesh_does_not_know_gets_no_call(mesh: Mesh) -> None:
    """The configuration has it already, and the manifests were not applied yet: 503."""
    known, unknown = mesh.upstreams
    pod = mesh.pods["extauthz"]
    config = config_of(**{"gpt-realtime": known.url(), "gpt-new": unknown.url()})
    pod.volumes.update("ConfigMap", "ringback-config", **{"litellm.yaml": config})
    async with asyncio.timeout(30):
        while True:
            minted = await mesh.mint("gpt-new")
            if minted.status_code == 200:
                break
            await asyncio.sleep(0.2)
    known.reset()
    unknown.reset()

    answer = await mesh.call(minted.json()["value"])

    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"]
    assert known.received == unknown.received == []


# The last one: nothing runs afterwards.
async def test_pods_end_well(mesh: Mesh) -> None:
    """Each within its grace, and with the code of a good end."""
    for name, pod in mesh.pods.items():
        assert await pod.stop() < pod.spec["terminationGracePeriodSeconds"]
        assert pod.exit_codes() == {name: 0}
