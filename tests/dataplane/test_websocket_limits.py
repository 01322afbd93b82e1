import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Final

import grpc
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from envoyapi.service.auth.v3.external_auth_pb2 import CheckResponse
from extauthz.clusters import as_json, build_clusters
from extauthz.decision import Allow, Labels, RequestFacts
from extauthz.deployments import Origin
from extauthz.translate import write_decision
from extauthz.websocket import allow_websocket
from helpers.envoyproc import EnvoyProcess, local_bootstrap
from helpers.expect import ORIGIN, check_refusal
from helpers.http11 import Message, request_bytes, send
from helpers.recording import RecordingUpstream, Reply
from helpers.stubservices import RawContext, StubService, serving
from helpers.wsclient import UPGRADE
from ringback.contract import OUTCOME_CALL, OUTCOME_WEBSOCKET, ROUTE_HEADER
from ringback.envoylint.parts import http_filter, manager
from ringback.secrets import Secret
from ringback.settings import UpstreamSettings, WebSocketSettings

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="module")]

IDLE_S: Final = 1.2
LONGEST_S: Final = 4.5
REQUEST_S: Final = 1.5
FACTS: Final = RequestFacts("GET", "/v1/realtime", dict(UPGRADE), query="model=voice")


@dataclass(frozen=True, slots=True)
class Door:
    """An Envoy with short limits, whose extauthz answers what a test wants."""

    envoy: EnvoyProcess
    upstream: RecordingUpstream
    service: StubService
    consent: Allow

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.envoy.port("ingress_http")

    async def ended(self) -> tuple[int, int]:
        """Return how many streams were idle for too long so far, and how many lasted too long."""
        answer = await send(self.envoy.port("admin"), request_bytes("GET", "/stats?format=json"))
        stats = {stat["name"]: stat["value"] for stat in answer.json()["stats"] if "name" in stat}
        prefix = "http.ingress_http.downstream_rq"
        return stats[f"{prefix}_idle_timeout"], stats[f"{prefix}_max_duration_reached"]

    async def shake_hands(self) -> Message:
        """Send a handshake."""
        lines = [*UPGRADE, ("origin", ORIGIN)]
        return await send(self.port, request_bytes("GET", "/v1/realtime?model=voice", lines))

    def connect(self) -> connect:
        """Open a WebSocket."""
        return connect(f"ws://127.0.0.1:{self.port}/v1/realtime?model=voice", proxy=None)

    def answer(self, response: CheckResponse) -> None:
        """Let extauthz answer so from now on."""

        async def check(_request: bytes, _context: RawContext) -> bytes:
            return response.SerializeToString()

        self.service.check = check


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def only_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """Give one for the whole module."""
    service = StubService()
    async with RecordingUpstream() as upstream, serving(service) as address:
        origin = Origin("http", "127.0.0.1", upstream.port)
        bootstrap = local_bootstrap(
            endpoints={"extauthz": [address], "sdpfilter": [address]},
            upstreams=[as_json(c) for c in build_clusters([origin], UpstreamSettings())],
            websocket=WebSocketSettings(idle_timeout_s=IDLE_S, max_duration_s=LONGEST_S),
        )
        manager(bootstrap)["request_timeout"] = f"{REQUEST_S}s"
        http_filter(bootstrap, "envoy.filters.http.ext_authz")["grpc_service"]["timeout"] = "1s"
        allowed = allow_websocket(
            FACTS, origin, "/v1/realtime?model=m", {}, Labels(OUTCOME_WEBSOCKET)
        )
        async with EnvoyProcess(bootstrap, tmp_path_factory.mktemp("envoy")) as envoy:
            yield Door(envoy, upstream, service, allowed)


@pytest.fixture
def door(only_door: Door) -> Door:
    """It, with an extauthz that lets WebSockets in."""
    only_door.answer(write_decision(only_door.consent))
    only_door.upstream.reset()
    return only_door


async def keep_talking(connection: ClientConnection) -> None:
    """Send and receive until the connection ends."""
    while True:
        await connection.send("still here")
        await connection.recv()
        await asyncio.sleep(0.1)


async def test_idle_websocket_is_closed(door: Door) -> None:
    """Without a byte for so long it ends, without a close frame; a ping keeps it open."""
    idle, long = await door.ended()
    async with door.connect() as connection:
        # Often enough for a busy machine, and for longer than it may be idle.
        for _ in range(12):
            await asyncio.sleep(IDLE_S / 8)
            begin = time.monotonic()
            await (await connection.ping())
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        # No upper bound: the counters tell which limit it was.
        assert time.monotonic() - begin >= IDLE_S
        assert connection.close_code == 1006
    assert await door.ended() == (idle + 1, long)


async def test_long_websocket_is_closed(door: Door) -> None:
    """However much moves, the longest duration ends it; it is no request that takes too long."""
    idle, long = await door.ended()
    begin = time.monotonic()
    async with door.connect() as connection:
        with pytest.raises(ConnectionClosed):
            await keep_talking(connection)
        assert connection.close_code == 1006
    assert REQUEST_S < LONGEST_S <= time.monotonic() - begin
    assert await door.ended() == (idle, long + 1)


async def test_provider_that_is_slow_to_agree_is_504(door: Door) -> None:
    """A handshake that the provider does not answer in time is nobody's slow request."""
    door.upstream.script["realtime"] = Reply(200, delay_s=REQUEST_S * 2)
    check_refusal(await door.shake_hands(), 504, "timeout")


@pytest.mark.parametrize(
    "misstep",
    ["empty", "no-mark", "as-a-call", "other-outcome", "no-route", "no-cluster", "aborts", "late"],
)
async def test_broken_extauthz_opens_no_websocket(door: Door, misstep: str) -> None:
    """Whatever extauthz says but a proper consent to a WebSocket, the upstream gets nothing."""
    consent = door.consent
    without_route = {k: v for k, v in consent.headers.items() if k != ROUTE_HEADER}
    without_cluster = {ROUTE_HEADER: Secret("websocket")}
    answers = {
        "empty": CheckResponse(),
        "no-mark": write_decision(consent),
        "as-a-call": write_decision(replace(consent, labels=Labels(OUTCOME_CALL))),
        "other-outcome": write_decision(replace(consent, labels=Labels("websocket2"))),
        "no-route": write_decision(replace(consent, headers=without_route)),
        "no-cluster": write_decision(replace(consent, headers=without_cluster)),
    }
    answers["no-mark"].ClearField("dynamic_metadata")
    if misstep in answers:
        door.answer(answers[misstep])
    else:

        async def check(_request: bytes, context: RawContext) -> bytes:
            if misstep == "late":
                await asyncio.sleep(1.3)
            return await context.abort(grpc.StatusCode.INTERNAL, "broken")

        door.service.check = check
    answer = await door.shake_hands()
    check_refusal(answer, 503)
    assert answer.error["code"] in {"not_checked", "unavailable"}
    assert door.upstream.received == []


async def test_absent_extauthz_opens_no_websocket(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without extauthz a handshake is 503, and so is a command."""
    nobody = {"extauthz": ["127.0.0.1:9"], "sdpfilter": ["127.0.0.1:9"]}
    bootstrap = local_bootstrap(endpoints=nobody, upstreams=[])
    async with EnvoyProcess(bootstrap, tmp_path_factory.mktemp("envoy")) as envoy:
        port, origin = envoy.port("ingress_http"), ("origin", ORIGIN)
        for target in ("/v1/realtime?model=voice", "/v1/realtime?call_id=rtc_x"):
            answer = await send(port, request_bytes("GET", target, [*UPGRADE, origin]))
            check_refusal(answer, 503, "unavailable")
        target = "/v1/realtime/calls/rtc_x/hangup"
        check_refusal(await send(port, request_bytes("POST", target, [origin])), 503, "unavailable")
