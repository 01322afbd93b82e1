import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from google.rpc.status_pb2 import Status
from grpc import StatusCode, aio
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from envoyapi.service.cluster.v3 import cds_pb2_grpc
from envoyapi.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from extauthz.clusters import CLUSTER_TYPE_URL, Snapshot
from extauthz.discovery import ClusterDiscovery
from extauthz.metrics import CDS_VERSION
from helpers.waiting import SOON_S, until

FIRST = Snapshot("v1", (b"\n\x01a", b"\n\x01b"))
SECOND = Snapshot("v2", (b"\n\x01c",))
# Long enough for a message that must not come.
QUIET_S = 0.2


class Stream:
    """Envoy's side of one CDS stream."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._responses: asyncio.Queue[DiscoveryResponse] = asyncio.Queue()

    async def read_all(self) -> None:
        """Collect what comes until the stream ends."""
        with suppress(aio.AioRpcError, asyncio.CancelledError):
            async for response in self._call:
                self._responses.put_nowait(response)

    async def subscribe(self, **fields: Any) -> DiscoveryResponse:
        """Ask for clusters and return the first answer."""
        await self.send(**fields)
        return await self.read()

    async def send(self, **fields: Any) -> None:
        """Send any request."""
        await self._call.write(DiscoveryRequest(type_url=CLUSTER_TYPE_URL, **fields))

    async def read(self) -> DiscoveryResponse:
        """Return the next answer."""
        return await asyncio.wait_for(self._responses.get(), SOON_S)

    async def accept(self, response: DiscoveryResponse) -> None:
        """Say that the clusters are in force."""
        await self.send(version_info=response.version_info, response_nonce=response.nonce)

    async def refuse(self, response: DiscoveryResponse, reason: str) -> None:
        """Say that the clusters cannot be used, and that v0 stays in force."""
        error = Status(code=13, message=reason)
        await self.send(version_info="v0", response_nonce=response.nonce, error_detail=error)

    async def is_quiet(self) -> bool:
        """Tell whether nothing comes for a while."""
        await asyncio.sleep(QUIET_S)
        return self._responses.empty()

    async def end(self) -> StatusCode:
        """Return how the service ended the stream."""
        code = await asyncio.wait_for(self._call.code(), SOON_S)
        assert isinstance(code, StatusCode)
        return code

    async def leave(self) -> None:
        """Say that nothing more will be asked."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """Break off."""
        self._call.cancel()


class House:
    """A discovery service on a server, and the Envoys that it serves."""

    def __init__(self, discovery: ClusterDiscovery, server: aio.Server, port: int) -> None:
        self.discovery = discovery
        self.server = server
        self.port = port

    @asynccontextmanager
    async def envoy(self) -> AsyncIterator[Stream]:
        """Connect as an Envoy with a channel of its own."""
        async with aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            call = cds_pb2_grpc.ClusterDiscoveryServiceStub(channel).StreamClusters()
            stream = Stream(call)
            reading = asyncio.create_task(stream.read_all())
            yield stream
            call.cancel()
            await reading


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """Serve the first snapshot."""
    discovery = ClusterDiscovery(FIRST)
    server = aio.server()
    cds_pb2_grpc.add_ClusterDiscoveryServiceServicer_to_server(discovery, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield House(discovery, server, port)
    discovery.close()
    await server.stop(None)


@pytest.fixture
async def envoy(house: House) -> AsyncIterator[Stream]:
    """Connect one Envoy."""
    async with house.envoy() as stream:
        yield stream


def count(name: str) -> float:
    """Return a counter."""
    return REGISTRY.get_sample_value(f"ringback_cds_{name}_total") or 0


async def test_an_envoy_gets_the_clusters(envoy: Stream) -> None:
    """The first request is answered with all clusters, under the version of the snapshot."""
    pushes = count("pushes")
    response = await envoy.subscribe()
    assert response.version_info == response.nonce == "v1"
    assert response.type_url == CLUSTER_TYPE_URL
    assert [(item.type_url, item.value) for item in response.resources] == [
        (CLUSTER_TYPE_URL, b"\n\x01a"),
        (CLUSTER_TYPE_URL, b"\n\x01b"),
    ]
    assert count("pushes") == pushes + 1


async def test_an_envoy_that_comes_back_gets_them_again(envoy: Stream) -> None:
    """A new stream starts anew, also if Envoy still has that version from another worker."""
    assert (await envoy.subscribe(version_info="v1")).version_info == "v1"


def versions(state: str) -> list[str]:
    """Return the versions that are shown in a state."""
    (metric,) = CDS_VERSION.collect()
    return [
        sample.labels["version"]
        for sample in metric.samples
        if sample.labels["state"] == state and sample.value == 1
    ]


async def test_versions_are_shown(house: House, envoy: Stream) -> None:
    """Operators see which clusters a worker serves, and which ones its Envoy has accepted."""
    response = await envoy.subscribe()
    await envoy.accept(response)
    assert await envoy.is_quiet()
    assert (versions("served"), versions("accepted")) == (["v1"], ["v1"])
    assert REGISTRY.get_sample_value("ringback_cds_streams") == 1
    house.discovery.publish(SECOND)
    await envoy.refuse(await envoy.read(), "Failed to load certificate authority")
    assert await envoy.is_quiet()
    assert (versions("served"), versions("accepted")) == (["v2"], ["v1"])


async def test_no_request_no_answer(house: House, envoy: Stream) -> None:
    """Nothing is sent before Envoy has asked, a change neither."""
    house.discovery.publish(SECOND)
    assert await envoy.is_quiet()
    assert (await envoy.subscribe()).version_info == "v2"


async def test_what_is_accepted_is_not_sent_again(envoy: Stream) -> None:
    """An acceptance is logged with its version and answered with nothing."""
    response = await envoy.subscribe()
    with capture_logs() as logs:
        await envoy.accept(response)
        assert await envoy.is_quiet()
    assert logs == [{"event": "clusters_accepted", "log_level": "info", "version": "v1"}]


async def test_what_is_refused_is_not_sent_again(house: House, envoy: Stream) -> None:
    """A refusal is counted and logged with Envoy's reason; only a change is sent after it."""
    nacks = count("nacks")
    response = await envoy.subscribe()
    with capture_logs() as logs:
        await envoy.refuse(response, "Failed to load certificate authority")
        assert await envoy.is_quiet()
    assert logs == [
        {
            "event": "clusters_refused",
            "log_level": "error",
            "reason": "Failed to load certificate authority",
            "in_force": "v0",
        }
    ]
    assert count("nacks") == nacks + 1
    house.discovery.publish(SECOND)
    assert (await envoy.read()).version_info == "v2"


async def test_a_change_is_sent_at_once(house: House, envoy: Stream) -> None:
    """A published snapshot reaches Envoy without delay, accepted or not so far."""
    await envoy.subscribe()
    started = time.monotonic()
    house.discovery.publish(SECOND)
    response = await envoy.read()
    assert time.monotonic() - started < 5
    assert response.version_info == "v2"
    assert [item.value for item in response.resources] == [b"\n\x01c"]


async def test_the_same_content_is_no_change(house: House, envoy: Stream) -> None:
    """Publishing what Envoy has sends nothing."""
    await envoy.subscribe()
    house.discovery.publish(Snapshot("v1", FIRST.resources))
    assert await envoy.is_quiet()


async def test_only_the_last_of_several_changes_counts(house: House, envoy: Stream) -> None:
    """Changes that come faster than they are sent end in the last one."""
    await envoy.subscribe()
    for number in range(20):
        house.discovery.publish(Snapshot(f"w{number}", ()))
    responses = [await envoy.read()]
    while not await envoy.is_quiet():
        responses.append(await envoy.read())
    assert responses[-1].version_info == "w19"


async def test_no_clusters_are_an_answer_too(house: House, envoy: Stream) -> None:
    """An empty set is sent like any other: Envoy waits for its first."""
    house.discovery.publish(Snapshot("v0", ()))
    response = await envoy.subscribe()
    assert (response.version_info, list(response.resources)) == ("v0", [])


async def test_every_envoy_is_served(house: House) -> None:
    """Several Envoys each get the clusters and every change; one that goes disturbs no other."""
    async with AsyncExitStack() as stack:
        envoys = [await stack.enter_async_context(house.envoy()) for _ in range(4)]
        for envoy in envoys:
            assert (await envoy.subscribe()).version_info == "v1"
        envoys[0].cancel()
        await envoys[1].leave()
        assert await envoys[1].end() is StatusCode.OK
        house.discovery.publish(SECOND)
        for envoy in envoys[2:]:
            assert (await envoy.read()).version_info == "v2"


async def test_a_stream_leaves_nothing_behind(house: House) -> None:
    """Streams that end, by either side or by a broken connection, leave no task."""
    before = len(asyncio.all_tasks())
    for how in ("leave", "cancel", "disconnect"):
        async with house.envoy() as envoy:
            await envoy.subscribe()
            if how == "leave":
                await envoy.leave()
                assert await envoy.end() is StatusCode.OK
            elif how == "cancel":
                envoy.cancel()
    await until(lambda: len(asyncio.all_tasks()) == before and not house.discovery._streams)


async def test_close_ends_the_streams(house: House) -> None:
    """After `close` every stream has ended, so that a server can stop without its grace."""
    async with house.envoy() as first, house.envoy() as second:
        await first.subscribe()
        await second.send()
        await second.read()
        house.discovery.close()
        assert await first.end() is StatusCode.OK
        assert await second.end() is StatusCode.OK
        started = time.monotonic()
        await house.server.stop(15)
        assert time.monotonic() - started < 10


async def test_a_stream_that_comes_after_close_ends(house: House) -> None:
    """An Envoy that asks a worker which is ending is sent on, without clusters."""
    house.discovery.close()
    async with house.envoy() as envoy:
        await envoy.send()
        assert await envoy.end() is StatusCode.OK
        assert await envoy.is_quiet()
