"""The pod of the rendered manifests, run as a kubelet would: volumes, order, probes, rights."""

import asyncio
import re
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
from helpers.callers import LINES, Callers
from helpers.curlpage import check_page
from helpers.descriptions import OFFERS
from helpers.http11 import Message, request_bytes, send
from helpers.manifests import Manifest, read_manifests
from helpers.pod import Pod, Volumes, get
from helpers.podhost import PodHost
from helpers.recording import CALLS, CLIENT_SECRETS, RecordingUpstream, Reply, call_reply
from helpers.waiting import until
from ringback.cli import app
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

PAGE: Final = (Path(__file__).parents[2] / "docs" / "mesh" / "kubernetes.md").read_text()
CONTAINERS: Final = ("extauthz", "sdpfilter", "callkeeper", "envoy")
PORT: Final = 4000
KEY: Final = "sk-of-a-team-in-the-cluster"
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
FIRST, SECOND = "sk-upstream-key-of-today", "sk-upstream-key-of-tomorrow"


@dataclass(slots=True)
class Cluster:
    """A pod, and what else there is."""

    pod: Pod
    upstream: RecordingUpstream
    job: Manifest
    volumes_of_job: Volumes

    async def mint(self) -> str:
        """Return a token."""
        lines = [("authorization", f"Bearer {KEY}"), ("content-type", "application/json")]
        body = b'{"session":{"type":"realtime","model":"gpt-realtime"}}'
        path = "/v1/realtime/client_secrets"
        answer = await send(PORT, request_bytes("POST", path, lines, body))
        assert answer.status == 200, answer.raw
        return str(answer.json()["value"])

    async def call(self) -> Message:
        """Mint, and return the answer to an offer."""
        return await send(PORT, offer(await self.mint()))

    def kept(self, event: str) -> list[str]:
        """Return the lines of an event that callkeeper has logged."""
        lines = self.pod.log("callkeeper").splitlines()
        return [line for line in lines if f'"event": "{event}"' in line]

    def credentials(self) -> set[str | None]:
        """Return the keys that the provider was shown for minting."""
        return {
            message.header("authorization")
            for message in self.upstream.received
            if message.target.endswith(CLIENT_SECRETS)
        }


def offer(token: str) -> bytes:
    """Return a request for a call."""
    lines = [("authorization", f"Bearer {token}"), ("content-type", "application/sdp")]
    return request_bytes("POST", "/v1/realtime/calls", lines, OFFER)


def render(folder: Path, base: str) -> list[Manifest]:
    """Return the manifests for one deployment at a base URL."""
    params = {"model": "openai/gpt-realtime", "api_base": base, "api_key": "os.environ/VOICE_KEY"}
    config = folder / "litellm.yaml"
    config.write_text(
        yaml.safe_dump({"model_list": [{"model_name": "gpt-realtime", "litellm_params": params}]})
    )
    settings = folder / "ringback.yaml"
    settings.write_text("supervision: {mode: best_effort}\n")
    command = ["render", "kubernetes", "--config", str(config), "--set", "keys_secret=voice-keys"]
    command += ["--settings", str(settings)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return read_manifests(result.stdout)


def spec_of(documents: list[Manifest], kind: str) -> Manifest:
    """Return the ``spec`` of the pods of a kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    spec: Manifest = found["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def host() -> Iterator[PodHost]:
    """Where pods run."""
    with PodHost() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cluster(
    host: PodHost, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """The pod, ready, in front of a recording provider."""
    folder = tmp_path_factory.mktemp("pod")
    keys = folder / "keys.yaml"
    save_keys(keys, [VirtualKey(hash_key(Secret(KEY)), alias="team")])
    with host.entered():
        async with RecordingUpstream() as upstream:
            documents = render(folder, f"{upstream.url()}/v1")
            sources = {
                ("ConfigMap", document["metadata"]["name"]): document["data"]
                for document in documents
                if document["kind"] == "ConfigMap"
            } | {
                ("Secret", "ringback-secrets"): {
                    "LITELLM_SALT_KEY": "a salt of this cluster alone",
                    "VOICE_KEY": FIRST,
                },
                ("Secret", "voice-keys"): {"keys.yaml": keys.read_text()},
            }
            spec, job = spec_of(documents, "Deployment"), spec_of(documents, "Job")
            (notice,) = [e for e in spec["containers"][0]["env"] if e["name"] == "NOTICE_S"]
            notice["value"] = "1"  # ten seconds are for real load balancers
            (folder / "volumes").mkdir()
            (folder / "job").mkdir()
            pod = Pod(host, spec, Volumes(folder / "volumes", spec, sources), folder)
            await pod.start()
            yield Cluster(pod, upstream, job, Volumes(folder / "job", job, sources))


@pytest.fixture(autouse=True)
def inside(host: PodHost) -> Iterator[None]:
    """Let tests make their connections where the pod is."""
    with host.entered():
        yield


async def test_the_pod_serves_calls(cluster: Cluster) -> None:
    """With the commands, files and rights of the manifest a call comes through."""
    answer = await cluster.call()

    assert answer.status == 201
    assert answer.header("location")
    assert [message.target for message in cluster.upstream.received][:2] == [
        "/v1/realtime/client_secrets",
        "/v1/realtime/calls",
    ]


async def test_callkeeper_is_told_of_calls(cluster: Cluster) -> None:
    """It takes a call on by the time that its answer is there, and tries to listen to it."""
    before = len(cluster.kept("call_started"))
    sideband = "/v1/realtime?call_id=rtc_upstream_"
    assert (await cluster.call()).status == 201
    assert len(cluster.kept("call_started")) == before + 1
    await until(lambda: any(m.target.startswith(sideband) for m in cluster.upstream.received))


async def test_calls_are_shown_in_the_pod(cluster: Cluster, host: PodHost) -> None:
    """As the page says, by `kubectl exec`."""
    (container,) = [c for c in cluster.pod.spec["initContainers"] if c["name"] == "callkeeper"]
    command = ["python", "-m", "ringback", "calls", "list"]
    assert " ".join(command) in PAGE
    shown = cluster.pod.confined(container, command)
    pid = cluster.pod.pid("callkeeper")
    assert await asyncio.to_thread(host.execute, pid, shown, 20) == 0


async def test_all_probes_pass(cluster: Cluster) -> None:
    """Each one of each container, at the address of the pod, as a kubelet asks."""
    spec = cluster.pod.spec
    probes = [
        (container, kind)
        for container in [*spec["initContainers"], *spec["containers"]]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        if kind in container
    ]

    assert len(probes) == 9
    for container, kind in probes:
        assert await cluster.pod.probe(container, kind), f"{kind} of {container['name']}"


async def test_containers_have_no_rights(cluster: Cluster) -> None:
    """What the manifest says about users and capabilities is enough for all of them."""
    for name in CONTAINERS:
        status, mounts = cluster.pod.about(name, "status"), cluster.pod.about(name, "mounts")

        assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            assert re.search(rf"^{kind}:\t0{{16}}$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        assert re.search(r"^\S+ / \S+ ro,", mounts, re.MULTILINE)


async def test_metrics_are_where_the_monitor_looks(cluster: Cluster) -> None:
    """Every port of the manifest that is not the callers' answers Prometheus from outside."""
    spec = cluster.pod.spec
    ports = {
        port["name"]: port["containerPort"]
        for container in [*spec["initContainers"], *spec["containers"]]
        for port in container["ports"]
    }

    for name, port in ports.items():
        if name != "http":
            path = "/stats/prometheus" if name == "envoy-stats" else "/metrics"
            answer = await get(port, path)
            assert answer.status == 200
            assert b"ringback_" in answer.body or b"envoy_" in answer.body
    scaled = b'envoy_cluster_upstream_rq_active{envoy_cluster_name="sdpfilter"}'
    assert scaled in (await get(ports["envoy-stats"], "/stats/prometheus")).body


async def test_the_job_checks_the_configuration(cluster: Cluster, host: PodHost) -> None:
    """It ends well, and says what is served."""
    folder = cluster.pod.folder
    job = Pod(host, cluster.job, cluster.volumes_of_job, folder)
    (container,) = cluster.job["containers"]

    code = await asyncio.to_thread(host.run, job.confined(container), 30)

    assert code == 0, job.log("check")
    assert "gpt-realtime" in job.log("check")
    assert FIRST not in job.log("check")


@pytest.mark.usefixtures("cluster")
async def test_the_page_says_what_the_pod_answers() -> None:
    """Each curl line of docs/mesh/kubernetes.md, with the answer that stands below it."""
    local = f"http://127.0.0.1:{PORT}"

    assert await check_page(PAGE, {"KEY": KEY}, old="http://localhost:8080", new=local) == 7


async def test_a_key_changes_without_a_restart(cluster: Cluster) -> None:
    """The Secret changes, and soon the provider is shown the new key; nothing has restarted."""
    await cluster.mint()
    assert f"Bearer {FIRST}" in cluster.credentials()
    pids = {name: cluster.pod.pid(name) for name in CONTAINERS}

    cluster.pod.volumes.update("Secret", "ringback-secrets", VOICE_KEY=SECOND)

    async with asyncio.timeout(20):
        while True:
            cluster.upstream.reset()
            for _ in range(4):  # each worker
                await cluster.mint()
            if cluster.credentials() == {f"Bearer {SECOND}"}:
                break
            await asyncio.sleep(0.1)
    assert cluster.pod.exit_codes() == dict.fromkeys(pids)


# The last one: nothing runs afterwards.
async def test_the_pod_ends_without_losing_a_request(cluster: Cluster) -> None:
    """Under load each request that was sent is answered, and all ends within its grace."""
    reply = call_reply("rtc_upstream_0001")
    cluster.upstream.script[CALLS] = Reply(201, reply.headers, reply.body, delay_s=0.3)
    token = await cluster.mint()
    (envoy,) = cluster.pod.spec["containers"]

    async with Callers(PORT, offer(token), stay_away=True) as callers:
        await callers.more(2 * LINES)
        end = asyncio.create_task(cluster.pod.stop())
        await until(lambda: end.done() or len(callers.statuses) > 3 * LINES)
        # Endpoints are taken out because of this, or because the pod ends, whichever is first.
        assert not await cluster.pod.probe(envoy, "readinessProbe")
        seconds = await end

    assert callers.lost == 0
    assert set(callers.statuses) == {201}
    assert seconds < cluster.pod.spec["terminationGracePeriodSeconds"]
    assert cluster.pod.exit_codes() == dict.fromkeys(CONTAINERS, 0)
