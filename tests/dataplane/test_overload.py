import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from extauthz.clusters import as_json, build_clusters
from extauthz.deployments import Origin
from helpers.door import Door, open_door, process_honestly
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import check_refusal
from helpers.gateway import Gateway, until
from helpers.http11 import Client, Message, request_bytes, send
from helpers.recording import CALLS, CLIENT_SECRETS, Reply, call_reply, minted_reply
from helpers.stubservices import RawContext
from ringback.settings import UpstreamSettings
from ringback.settings.overload import OverloadSettings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

OFFERED: Final = 60
LIMIT: Final = 20
HEALTHY: Final = request_bytes("GET", "/healthz")


def hold(door: Door, place: str, may_end: asyncio.Event) -> None:
    """Make extauthz, sdpfilter or the upstream wait with everything."""

    async def check(request: bytes, context: RawContext) -> bytes:
        await may_end.wait()
        return await door.check(request, context)

    async def process(context: RawContext) -> None:
        await may_end.wait()
        await process_honestly(context)

    if place == "extauthz":
        door.service.check = check
    elif place == "sdpfilter":
        door.service.process = process
    else:
        reply = call_reply("rtc_upstream_0001")
        door.upstream.script[CALLS] = Reply(201, reply.headers, reply.body, held=may_end)


@pytest.mark.parametrize(
    ("place", "limits"),
    [
        pytest.param("extauthz", {"max_checks": LIMIT}, id="extauthz"),
        pytest.param("sdpfilter", {"max_calls": LIMIT}, id="sdpfilter"),
        pytest.param("upstream", {}, id="upstream"),
    ],
)
async def test_what_is_too_much_is_refused_and_the_rest_served(
    tmp_path: Path, place: str, limits: dict[str, int]
) -> None:
    """Of 60 calls at once, with a limit of 20, 40 get 503 while the 20 wait, and the 20 succeed."""
    overload = OverloadSettings(**limits)
    max_requests = 1024 if limits else LIMIT
    # Nothing of it shall be a matter of time.
    async with open_door(
        tmp_path, timeout_s=60, overload=overload, max_requests=max_requests
    ) as door:
        may_end = asyncio.Event()
        hold(door, place, may_end)
        calls = [asyncio.create_task(door.call()) for _ in range(OFFERED)]
        # Beside what an upstream has in hand, as much may wait for a connection to it.
        most = LIMIT if limits else 2 * LIMIT
        await until(lambda: sum(call.done() for call in calls) >= OFFERED - most)
        refused = [call.result() for call in calls if call.done()]
        assert OFFERED - most <= len(refused) <= OFFERED - LIMIT
        for answer in refused:
            check_refusal(answer, 503, "unavailable")
            assert answer.header("retry-after") == "1"
        may_end.set()
        statuses = Counter(answer.status for answer in await asyncio.gather(*calls))
        assert statuses.keys() == {201, 503}
        assert LIMIT <= statuses[201] <= most
        assert len(door.upstream.received) == statuses[201]
        assert (await door.call()).status == 201


async def test_slow_mints_leave_calls_alone(pair: Gateway) -> None:
    """While a provider keeps all mints waiting, further ones are refused, and calls go on."""
    token = await pair.token()
    pair.reset()
    may_end = asyncio.Event()
    reply = minted_reply("ek_upstream_0001")
    pair.openai.script[CLIENT_SECRETS] = Reply(200, reply.headers, reply.body, held=may_end)
    mints = [asyncio.create_task(pair.mint()) for _ in range(160)]

    def refused() -> list[Message]:
        return [mint.result() for mint in mints if mint.done()]

    # 64 in each of two workers.
    await until(lambda: len(refused()) + len(pair.received) == len(mints))
    assert len(pair.received) <= 128
    for answer in refused():
        check_refusal(answer, 503, "unavailable")
        assert answer.header("retry-after") == "1"
    assert (await pair.call(token)).status == 201
    may_end.set()
    statuses = Counter(answer.status for answer in await asyncio.gather(*mints))
    assert statuses.keys() == {200, 503}
    assert statuses[503] >= 160 - 128


# --- What Envoy does by itself


def bare_bootstrap(**settings: Any) -> Any:
    """Return a bootstrap whose services are nowhere, for paths that need none."""
    origin = Origin("http", "127.0.0.1", 9)
    return local_bootstrap(
        upstreams=[as_json(c) for c in build_clusters([origin], UpstreamSettings())],
        overload=OverloadSettings(**settings),
    )


async def test_connections_are_limited(tmp_path: Path) -> None:
    """Above the limit a connection is closed at once; those below it are served."""
    async with EnvoyProcess(bare_bootstrap(max_connections=LIMIT), tmp_path) as envoy:
        port = envoy.port("ingress_http")

        async def is_served(client: Client) -> bool:
            try:
                await client.write(HEALTHY)
                return (await client.read()).status == 200
            except (ConnectionError, asyncio.IncompleteReadError):
                return False

        clients = [await Client(port).__aenter__() for _ in range(LIMIT + 10)]
        served = [await is_served(client) for client in clients]
        assert served == [True] * LIMIT + [False] * 10
        # The egress listener has a limit of its own: extauthz can always go on.
        assert (await send(envoy.port("egress_http"), HEALTHY)).status == 404
        for client in clients:
            await client.__aexit__(None, None, None)

        async with asyncio.timeout(10):
            is_there_room = False
            while not is_there_room:
                async with Client(port) as client:
                    is_there_room = await is_served(client)


async def test_a_full_heap_is_answered_in_steps(tmp_path: Path) -> None:
    """No request is served, then no connection accepted; afterwards those that waited are."""
    file = tmp_path / "pressure"
    file.write_text("0")
    bootstrap = bare_bootstrap()
    # In place of Envoy's own heap, a number in a file.
    (heap,) = [
        monitor
        for monitor in bootstrap["overload_manager"]["resource_monitors"]
        if monitor["name"] == "envoy.resource_monitors.fixed_heap"
    ]
    kind = "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"
    heap["typed_config"] = {"@type": f"type.googleapis.com/{kind}", "filename": str(file)}
    bootstrap["overload_manager"]["refresh_interval"] = "0.05s"
    async with EnvoyProcess(bootstrap, tmp_path) as envoy:
        port = envoy.port("ingress_http")

        async def press(pressure: float) -> None:
            # The monitor notices a file that is moved into place.
            (tmp_path / "new").write_text(str(pressure))
            (tmp_path / "new").rename(file)
            name = "overload.envoy.resource_monitors.fixed_heap.pressure"
            line = f"{name}: {round(pressure * 100)}"
            async with asyncio.timeout(10):
                while line not in await stats(envoy, name):  # noqa: ASYNC110  nothing tells
                    await asyncio.sleep(0.02)

        async with Client(port) as kept:
            await press(0.5)
            await kept.write(HEALTHY)
            assert (await kept.read()).header("connection") is None
            await press(0.97)
            await kept.write(HEALTHY)
            answer = await kept.read()
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
            assert answer.header("connection") == "close"
            assert answer.header("retry-after") == "1"
        # Who looks after it sees that it is alive.
        assert (await send(envoy.port("metrics_http"), HEALTHY)).status == 200
        waiting = asyncio.create_task(send(port, HEALTHY))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await press(0.5)
        assert (await waiting).status == 200


async def stats(envoy: EnvoyProcess, name: str) -> str:
    """Return Envoy's counters with a name."""
    answer = await send(envoy.port("admin"), request_bytes("GET", f"/stats?filter={name}"))
    return answer.body.decode()
