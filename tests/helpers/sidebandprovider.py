"""A provider's ways back into a call, behind what callkeeper takes for Envoy's egress listener."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from aiohttp import web
from grpc import aio

from callsapi.v1 import calls_pb2_grpc
from callsapi.v1.calls_pb2 import Pricing, ReachRequest, ReachResponse

STANDARD: Final = "Bearer sk-standard"
EPHEMERAL: Final = "Bearer ek-of-the-call"
CLUSTER: Final = "upstream_https_provider_443"


@dataclass
class SidebandProvider:
    """One call at a provider.

    Attributes:
        url: Where it listens.
        is_live: Whether the sideband can be attached; else it is 404.
        refusal: Another status with which it is refused.
        refusals: The same by credential.
        accepts: The credentials that open the sideband.
        hangups: What hangups are answered, in turn; then 200, and 404 once it has ended.
        attempts: Credentials that tried the sideband.
        commands: How often a hangup came.
        sockets: Sidebands that are open.
        heard: Events that came on them.
        session: Of the call, changed by each ``session.update``, or as `write` has it.
    """

    url: str = ""
    is_live: bool = True
    refusal: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    accepts: tuple[str, ...] = (STANDARD,)
    hangups: list[int] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    commands: int = 0
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)
    session: dict[str, Any] = field(default_factory=dict)
    write: Callable[[dict[str, Any]], dict[str, Any]] = dict
    has_ended: bool = False

    async def update(self, **members: Any) -> None:
        """Change the session, as the caller or whoever listens may."""
        self.session = self.write({**self.session, **members})
        await self.send({"type": "session.updated", "session": self.session})

    async def send(self, event: dict[str, Any] | str) -> None:
        """Send an event on every sideband."""
        for socket in self.sockets:
            await (socket.send_str(event) if isinstance(event, str) else socket.send_json(event))

    async def drop(self) -> None:
        """Close every sideband; the call goes on."""
        for socket in list(self.sockets):
            await socket.close()

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["x-ringback-cluster"] == CLUSTER
        assert request.headers["host"] == "provider.example"
        credential = request.headers["authorization"]
        self.attempts.append(credential)
        if refusal := self.refusals.get(credential, self.refusal):
            return web.Response(status=refusal)
        if not self.is_live or self.has_ended or credential not in self.accepts:
            return web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            event = message.json()
            self.heard.append(event)
            if event["type"] == "session.update":
                await self.update(**event["session"])
        self.sockets.remove(socket)
        return socket

    async def _hang_up(self, request: web.Request) -> web.Response:
        assert request.headers["authorization"] == STANDARD
        self.commands += 1
        if self.hangups:
            return web.Response(status=self.hangups.pop(0))
        if self.has_ended:
            return web.Response(status=404)
        self.has_ended = True
        await self.drop()
        return web.Response()


@asynccontextmanager
async def sideband_provider() -> AsyncIterator[SidebandProvider]:
    """Serve a call on a free port."""
    provider = SidebandProvider()
    app = web.Application()
    app.router.add_get("/v1/realtime", provider._attach)
    app.router.add_post("/v1/realtime/calls/rtc_1/hangup", provider._hang_up)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0][:2]
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        with contextlib.suppress(asyncio.TimeoutError):
            await runner.cleanup()


@dataclass
class ReachTeller(calls_pb2_grpc.UpstreamsServicer):
    """Says what extauthz would.

    Attributes:
        refuses: With what, if it does.
        asked: How often it was asked.
    """

    refuses: grpc.StatusCode | None = None
    asked: int = 0

    async def Reach(
        self, request: ReachRequest, context: aio.ServicerContext[ReachRequest, ReachResponse]
    ) -> ReachResponse:
        """Tell where the provider is."""
        self.asked += 1
        if self.refuses is not None:
            await context.abort(self.refuses, "as the test wants")
        assert request.handle == "rtc_handle"
        return ReachResponse(
            cluster=CLUSTER,
            origin="https://provider.example",
            authority="provider.example",
            sideband_path="/v1/realtime?call_id=rtc_1",
            hangup_path="/v1/realtime/calls/rtc_1/hangup",
            headers={"authorization": STANDARD},
            pricing=Pricing(provider="openai", model="gpt-realtime"),
            ephemeral_headers={"authorization": EPHEMERAL} if request.sealed_key else {},
        )
