import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from envoyapi.service.cluster.v3.cds_pb2_grpc import ClusterDiscoveryServiceStub
from envoyapi.service.discovery.v3.discovery_pb2 import DiscoveryRequest
from extauthz.clusters import as_json, build_clusters
from helpers.apart import Apart, envoy_tls, free_ports, places, server_tls
from helpers.door import origin_of
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import check_refusal
from helpers.gateway import CallerAt
from helpers.gatewayfiles import Files, openai_entry
from helpers.load import Load
from helpers.load import flood as pour
from helpers.recording import CLIENT_SECRETS, RecordingUpstream, minted_reply
from helpers.svids import DOMAIN, GATEWAY, SERVICES, Authority, Identity
from ringback.contract import AUTHZ_CLUSTERS, PROC_CLUSTER
from ringback.render.services import secret_files
from ringback.settings import UpstreamSettings, load_settings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

# So that a change is felt soon; connections are made anew again and again.
CONNECTION_AGE_S: Final = 1
# For clients that, unlike Envoy, insist on a host name.
NAME: Final = "services.test"
PAST: Final = timedelta(days=-1)
SETTLED_S: Final = 20.0
# Equal answers until it is certain that no connection of before is left.
IN_A_ROW: Final = 10


@dataclass(slots=True)
class House:
    """An Envoy and both services, each with certificates of their own; clusters come by CDS."""

    folder: Path
    authority: Authority
    envoy_side: Identity
    service_side: Identity
    files: Files
    upstream: RecordingUpstream
    apart: Apart = field(init=False)
    envoy: EnvoyProcess = field(init=False)

    @property
    def caller(self) -> CallerAt:
        """Somebody in front of it."""
        return CallerAt(self.envoy.port("ingress_http"))

    def restore(self) -> None:
        """Give both sides certificates that the other one accepts."""
        self.envoy_side.write(self.authority.issue(GATEWAY), self.authority)
        self.service_side.write(self.authority.issue(SERVICES, NAME), self.authority)

    async def until_all(self, status: int) -> None:
        """Wait until mints get this status at every worker, over whatever connection."""
        in_a_row = 0
        async with asyncio.timeout(SETTLED_S):
            while in_a_row < IN_A_ROW:
                in_a_row = in_a_row + 1 if (await self.caller.mint()).status == status else 0
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def shared_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Give the one of this file; use `house`."""
    folder = tmp_path_factory.mktemp("apart")
    for name in ("files", "logs", "envoy"):
        (folder / name).mkdir()
    async with RecordingUpstream() as upstream:
        house = House(
            folder,
            Authority(),
            Identity(folder / "envoy-side"),
            Identity(folder / "service-side"),
            Files(folder / "files"),
            upstream,
        )
        house.restore()
        ports = free_ports(extauthz=2)
        house.files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
        house.files.write_keys()
        house.files.write_settings(
            services={
                **places("127.0.0.1", ports),
                "tls": server_tls(
                    house.service_side, GATEWAY, max_connection_age_s=CONNECTION_AGE_S
                ),
                "envoy": envoy_tls(house.envoy_side, folder, SERVICES),
            },
            upstream={"egress": "direct"},
        )
        settings = load_settings(house.files.settings).services
        for name, content in secret_files(settings.envoy).items():
            (folder / name).write_text(json.dumps(content))
        async with (
            Apart(house.files, folder / "logs", ports) as house.apart,
            EnvoyProcess(local_bootstrap(services=settings), folder / "envoy") as house.envoy,
        ):
            await house.caller.until_ready()
            yield house


@pytest_asyncio.fixture(loop_scope="session")
async def house(shared_house: House) -> AsyncIterator[House]:
    """A house in which everything works, and does so again after the test."""
    shared_house.upstream.reset()
    yield shared_house
    shared_house.restore()
    await shared_house.until_all(200)
    await shared_house.caller.until_ready()


async def check_nothing_passes(
    caller: CallerAt, upstream: RecordingUpstream, token: str, calls: int
) -> None:
    """Check that calls and mints are refused in a way that pages can read, and go nowhere."""
    upstream.reset()
    answers = await pour(lambda: caller.call(token), calls)
    answers += await pour(caller.mint, 20)
    for answer in answers:
        check_refusal(answer, 503)
    assert upstream.received == []


async def test_clusters_come_over_tls(house: House) -> None:
    """Envoy gets its clusters, and what changes in them, from the service that it believes."""
    async with RecordingUpstream() as other:
        entries = [
            openai_entry("voice", f"{house.upstream.url()}/v1"),
            openai_entry("second", f"{other.url()}/v1"),
        ]
        house.files.write_config(entries)
        async with asyncio.timeout(SETTLED_S):
            while (minted := await house.caller.mint("second")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert (await house.caller.call(minted.json()["value"])).status == 201
        assert other.received
    house.files.write_config(entries[:1])


@pytest.mark.parametrize("side", ["envoy_side", "service_side"])
@pytest.mark.parametrize("wrong", ["other-id", "expired", "other-authority"])
async def test_nobody_else_is_believed(house: House, flood: int, side: str, wrong: str) -> None:
    """Whichever side shows the wrong certificate, nothing passes: no call, no mint, no cluster."""
    token = await house.caller.token()
    name = GATEWAY if side == "envoy_side" else SERVICES
    stranger = Authority()
    pairs = {
        "other-id": lambda: house.authority.issue(f"{DOMAIN}/ns/other/sa/other"),
        "expired": lambda: house.authority.issue(name, lifetime=PAST),
        "other-authority": lambda: stranger.issue(name),
    }
    identity: Identity = getattr(house, side)
    identity.write(pairs[wrong](), house.authority)
    await house.until_all(503)
    await check_nothing_passes(house.caller, house.upstream, token, flood)


async def test_strangers_get_no_clusters(house: House) -> None:
    """The stream of clusters, which names every upstream, is for the same peers alone."""
    address, *_ = load_settings(house.files.settings).services.extauthz
    found: list[object] = []
    for name in (GATEWAY, f"{DOMAIN}/ns/other/sa/other"):
        certificate, key = house.authority.issue(name)
        credentials = grpc.ssl_channel_credentials(house.authority.pem, key, certificate)
        options = [("grpc.ssl_target_name_override", NAME)]
        async with aio.secure_channel(address, credentials, options) as channel:
            stub: Any = ClusterDiscoveryServiceStub(channel)
            stream = stub.StreamClusters()
            try:
                await stream.write(DiscoveryRequest())
                found.append(len((await stream.read()).resources) > 0)
            except aio.AioRpcError:
                found.append(await stream.code())
    assert found == [True, grpc.StatusCode.PERMISSION_DENIED]


async def test_without_a_certificate_nothing_passes(
    house: House, flood: int, tmp_path: Path
) -> None:
    """An Envoy that shows no certificate at all is not listened to."""
    settings = load_settings(house.files.settings).services
    clusters = build_clusters([origin_of(house.upstream.port)], UpstreamSettings())
    bootstrap = local_bootstrap(
        services=settings, upstreams=[as_json(cluster) for cluster in clusters]
    )
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"] in {*AUTHZ_CLUSTERS, PROC_CLUSTER}:
            context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
            del context["tls_certificate_sds_secret_configs"]
    token = await house.caller.token()
    async with EnvoyProcess(bootstrap, tmp_path) as envoy:
        caller = CallerAt(envoy.port("ingress_http"))
        await check_nothing_passes(caller, house.upstream, token, flood)


async def test_certificates_rotate_under_load(house: House) -> None:
    """Both sides get certificates of a new authority, in three steps: no request fails."""
    house.upstream.script[CLIENT_SECRETS] = minted_reply("ek_upstream_0001", lifetime_s=7200)
    old, new = house.authority, Authority()
    steps = [(old, (old, new)), (new, (old, new)), (new, (new,))]
    workers = {"extauthz": 2, "sdpfilter": 1}
    before = {name: len(house.apart.logged(name, "certificates_changed")) for name in workers}
    refused = [len(house.apart.logged(name, "peer_refused")) for name in workers]
    async with Load(await house.caller.mixed(), 6) as load:
        await load.more(50)
        for signer, trusted in steps:
            house.envoy_side.write(signer.issue(GATEWAY), *trusted)
            house.service_side.write(signer.issue(SERVICES, NAME), *trusted)
            await asyncio.sleep(2 * CONNECTION_AGE_S)
            await load.more(50)
        house.authority = new
    assert load.failures == []
    assert load.statuses.keys() == {200, 201}
    for name, count in workers.items():
        changes = len(house.apart.logged(name, "certificates_changed")) - before[name]
        assert changes >= count * len(steps)
    assert [len(house.apart.logged(name, "peer_refused")) for name in workers] == refused
