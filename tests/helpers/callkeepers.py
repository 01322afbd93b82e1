"""Several callkeepers as processes that share a Valkey, and the calls that they keep."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from grpc import aio

from callsapi.v1 import calls_pb2_grpc
from callsapi.v1.calls_pb2 import (
    CallState,
    ListRequest,
    Payer,
    Pricing,
    ReachRequest,
    ReachResponse,
    RegisterRequest,
    Standing,
    StandingRequest,
    StandingResponse,
)
from callsapi.v1.calls_pb2_grpc import CallsStub, add_UpstreamsServicer_to_server
from helpers.valkey import ValkeyProcess
from helpers.waiting import until
from ringback.processes import Child
from ringback.supervisor import Supervisor

LEASE_S: Final = 2.0
_START_S: Final = 60


@dataclass
class ProvidedCall:
    """A call at the provider.

    Attributes:
        id: The provider's.
        sockets: Sidebands that are open.
        attaches: How many sidebands there were.
        said: Ids of its responses, with the usage of each.
        heard: Events that came on sidebands.
        has_ended: Whether it was hung up.
    """

    id: str
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    attaches: int = 0
    said: dict[str, dict[str, int]] = field(default_factory=dict)
    heard: list[dict[str, Any]] = field(default_factory=list)
    has_ended: bool = False

    async def say(self, *, text_in: int = 3, text_out: int = 4) -> None:
        """Let the model answer, and tell all sidebands."""
        usage = {"input_tokens": text_in, "output_tokens": text_out}
        name = f"resp_{self.id}_{len(self.said)}"
        self.said[name] = usage
        event = json.dumps({"type": "response.done", "response": {"id": name, "usage": usage}})
        for socket in list(self.sockets):
            # Its other side may just have been killed.
            with contextlib.suppress(ConnectionError):
                await socket.send_str(event)


@dataclass
class Provider(calls_pb2_grpc.UpstreamsServicer):
    """The provider of all calls, behind what callkeeper takes for Envoy's egress listener.

    It is also what extauthz is asked for: the handle of a call is its id.
    """

    url: str = ""
    calls: dict[str, ProvidedCall] = field(default_factory=dict)

    def open(self) -> ProvidedCall:
        """Take a call."""
        call = ProvidedCall(f"rtc_{len(self.calls)}")
        self.calls[call.id] = call
        return call

    async def Reach(
        self,
        request: ReachRequest,
        context: aio.ServicerContext[ReachRequest, ReachResponse],  # noqa: ARG002  of gRPC
    ) -> ReachResponse:
        """Tell where a call is."""
        return ReachResponse(
            cluster="upstream",
            authority="provider.example",
            sideband_path=f"/v1/realtime?call_id={request.handle}",
            hangup_path=f"/v1/realtime/calls/{request.handle}/hangup",
            headers={"authorization": "Bearer sk-standard"},
            pricing=Pricing(provider="openai", model="gpt-realtime"),
        )

    async def Standing(
        self,
        request: StandingRequest,
        context: aio.ServicerContext[StandingRequest, StandingResponse],  # noqa: ARG002  as above
    ) -> StandingResponse:
        """Tell that everybody stands well, without any budget."""
        return StandingResponse(standings=[Standing() for _ in request.of])

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Let somebody listen to a call."""
        call = self.calls[request.query["call_id"]]
        if call.has_ended:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        call.attaches += 1
        call.sockets.append(socket)
        async for message in socket:
            call.heard.append(message.json())
        call.sockets.remove(socket)
        return socket

    async def hang_up(self, request: web.Request) -> web.Response:
        """End a call."""
        call = self.calls[request.match_info["call"]]
        if call.has_ended:
            return web.Response(status=404)
        call.has_ended = True
        for socket in list(call.sockets):
            await socket.close()
        return web.Response()


@asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[Provider]:
    """Serve calls on a free port, and where they are on ``extauthz.sock``."""
    found, server = Provider(), aio.server()
    app = web.Application()
    app.router.add_get("/v1/realtime", found.attach)
    app.router.add_post("/v1/realtime/calls/{call}/hangup", found.hang_up)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    add_UpstreamsServicer_to_server(found, server)
    server.add_insecure_port(f"unix:{folder}/extauthz.sock")
    await server.start()
    try:
        yield found
    finally:
        await server.stop(None)
        await runner.cleanup()


class Keepers:
    """Callkeepers that share their calls; each is asked at its own address.

    Args:
        folder: For their sockets, settings and logs.
        provider: Where the calls are.
        valkey: What they share.
        supervision: Settings.
    """

    def __init__(
        self, folder: Path, provider: Provider, valkey: ValkeyProcess, **supervision: Any
    ) -> None:
        self.provider = provider
        self.folder = folder
        self._supervisor = Supervisor(lambda _line: None, restart_delays_s=(0.0,))
        self._channels: dict[str, aio.Channel] = {}
        self._numbers = count()
        self._settings = folder / "callkeeper.json"
        self._settings.write_text(
            json.dumps(
                {
                    "log_level": "debug",
                    "upstream": {"egress_url": provider.url},
                    # Each group has calls of its own.
                    "store": {"url": valkey.url, "timeout_s": 0.5, "prefix": folder.name[-64:]},
                    "supervision": {
                        "mode": "required",
                        "store": "valkey",
                        "lease_s": LEASE_S,
                        "extauthz": [f"unix:{folder}/extauthz.sock"],
                        **supervision,
                    },
                }
            )
        )

    async def start(self, *names: str) -> None:
        """Start some, and return when they serve."""
        for name in names:
            child = Child(
                name,
                [
                    *(sys.executable, "-m", "callkeeper", "--listen", self._address(name)),
                    *("--settings", str(self._settings)),
                ],
                {"PATH": os.environ["PATH"]},
                self.folder / f"{name}.log",
            )
            await self._supervisor.start(child)
            channel = aio.insecure_channel(self._address(name), options=_OPTIONS)
            self._channels[name] = channel
        await asyncio.gather(*(self.until_ready(name) for name in names))

    async def until_ready(self, name: str, times: int = 1) -> None:
        """Return when a keeper serves, for the second time for example."""
        await until(lambda: self._supervisor.lost or self.starts(name) >= times, _START_S)
        assert not self._supervisor.lost, self.log(name)

    def starts(self, name: str) -> int:
        """Return how often a keeper has begun to serve."""
        return self.log(name).count('"event": "ready"')

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; who ends is started again."""
        os.kill(self._supervisor.pid_of(name), number)

    async def lose(self, name: str) -> None:
        """Kill one for good."""
        running = self._supervisor._running[name]
        running.stopping.set()
        self.kill(name)
        await running.process.wait()

    async def leave(self, name: str) -> None:
        """Let one end as it wants to."""
        await self._supervisor.stop([name])

    async def stop(self) -> None:
        """End all of them at once."""
        self._supervisor.kill()
        await self._supervisor.stop(self._channels)
        for channel in self._channels.values():
            await channel.close()

    def stub(self, name: str) -> CallsStub:
        """Return what asks one."""
        return CallsStub(self._channels[name])

    def log(self, name: str) -> str:
        """Return what one has logged."""
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    async def register(self, name: str, **payer: str | None) -> tuple[str, ProvidedCall]:
        """Open a call that one keeps; return its id, and the provider's side of it."""
        call = self.provider.open()
        answer = await self.stub(name).Register(request_of(call, **payer))
        return answer.id, call

    async def open(self, name: str, **payer: str | None) -> tuple[str, ProvidedCall]:
        """Register a call, and return when it is listened to."""
        known, call = await self.register(name, **payer)
        await until(lambda: call.sockets)
        return known, call

    async def known_to(self, name: str) -> dict[str, CallState]:
        """Return all calls that one knows, by their ids."""
        return {each.id: each for each in (await self.stub(name).List(ListRequest())).calls}

    def _address(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"


@asynccontextmanager
async def keepers(
    folder: Path, valkey: ValkeyProcess, **supervision: Any
) -> AsyncIterator[Keepers]:
    """Give keepers, to be started."""
    async with AsyncExitStack() as stack:
        calls = await stack.enter_async_context(provider(folder))
        found = Keepers(folder, calls, valkey, **supervision)
        stack.push_async_callback(found.stop)
        yield found


def request_of(call: ProvidedCall, **payer: str | None) -> RegisterRequest:
    """Return what sdpfilter would tell of a call.

    Args:
        call: The call.
        payer: What a `Payer` has, where it is not a key of a team and a user.
    """
    paid = {name: value for name, value in payer.items() if value is not None}
    paid = paid or {"key_hash": "f" * 64, "team_id": "team", "user_id": "user"}
    return RegisterRequest(
        handle=call.id,
        deployment="voice-1",
        origin="https://provider.example",
        upstream_call_id=call.id,
        model="voice",
        payer=Payer(**paid),
        token_id=f"token-of-{call.id}",
        request_id=f"request-of-{call.id}",
        sealed_key="sealed",
    )


_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Else channels of one test share a connection that they have lost before.
    ("grpc.use_local_subchannel_pool", 1),
)
