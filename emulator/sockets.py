"""WebSockets: whole sessions (``?model=``), and sidebands of calls (``?call_id=``)."""

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from emulator import errors, shapes
from emulator.api import Api
from emulator.call import Inbox, event_type
from emulator.events import Conversation, random_id
from emulator.faults import GARBAGE, Fault
from emulator.mishaps import suffer
from emulator.pcm import SocketAudio
from emulator.responses import Event
from emulator.sessions import Dialect

# How browsers show a key: they cannot set headers.
_KEY_PROTOCOL: Final = "openai-insecure-api-key."
_BETA: Final = "realtime=v1"
_BETA_CLOSE_CODE: Final = 4000
_TICK_MS: Final = 20
_HEARTBEAT_S: Final = 30.0
# An event may carry 15 MiB of audio.
_MAX_MESSAGE_BYTES: Final = 24 * 1024 * 1024
_ENDED_KEPT: Final = 100
_EVENT_TYPES_KEPT: Final = 1000
_DATA: Final = (WSMsgType.TEXT, WSMsgType.BINARY)


@dataclass(eq=False)
class SocketSession:
    """One session over a WebSocket, from its first event to its end."""

    dialect: Dialect
    conversation: Conversation
    socket: web.WebSocketResponse
    session_cap_s: float
    _received: deque[str] = field(default_factory=lambda: deque(maxlen=_EVENT_TYPES_KEPT))
    _sent: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Converse until either side has had enough."""
        clock = asyncio.create_task(self._keep_time())
        try:
            await self._send(self.conversation.open())
            async for message in self.socket:
                await self._take(message)
        except ConnectionError:
            # The client has gone in the middle of an event.
            pass
        finally:
            clock.cancel()
            await asyncio.wait([clock])

    def snapshot(self) -> dict[str, Any]:
        """Return its state for ``GET /emulator/calls``."""
        return {
            "dialect": self.dialect.name.lower(),
            "type": self.conversation.session["type"],
            "model": self.conversation.session.get("model"),
            "state": "ended" if self.socket.closed else "live",
            "events_received": list(self._received),
            "events_sent": dict(self._sent),
        }

    async def _take(self, message: WSMessage) -> None:
        if message.type in _DATA:
            self._received.append(event_type(message.data))
            await self._send(self.conversation.receive(message.data))

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.session_cap_s
        with contextlib.suppress(ConnectionError):
            while loop.time() < ends_at:
                await self._send(self.conversation.advance(_TICK_MS))
                await asyncio.sleep(_TICK_MS / 1000)
            await self._send(self.conversation.expire(self.session_cap_s))
            await self.socket.close()

    async def _send(self, events: list[Event]) -> None:
        for event in events:
            self._sent[event["type"]] += 1
            await self.socket.send_str(json.dumps(event))


class Sockets:
    """The WebSocket sessions: those that run, and what is left of the last ones that ended."""

    def __init__(self) -> None:
        self._running: set[SocketSession] = set()
        self._ended: deque[dict[str, Any]] = deque(maxlen=_ENDED_KEPT)

    async def run(self, session: SocketSession) -> None:
        """Run a session, and keep its state."""
        self._running.add(session)
        try:
            await session.run()
        finally:
            self._running.discard(session)
            self._ended.append(session.snapshot())

    async def close(self, _: web.Application) -> None:
        """End every session: the emulator stops."""
        for session in list(self._running):
            await session.socket.close(code=WSCloseCode.GOING_AWAY)

    def snapshots(self) -> list[dict[str, Any]]:
        """Return the state of every session, the oldest first."""
        return [*self._ended, *(session.snapshot() for session in self._running)]


@dataclass(frozen=True, slots=True)
class Upgrades:
    """``GET`` of the Realtime API's own path, in one dialect."""

    api: Api
    sockets: Sockets

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Listen in on a call if the request names one, and begin a session otherwise."""
        is_sideband = "call_id" in request.query
        fault = self.api.faults.take("sideband" if is_sideband else "websocket")
        await suffer(fault)
        is_dated = self.api.dialect is Dialect.AZURE_DATED
        if self.api.dialect is Dialect.AZURE and "api-version" in request.query:
            raise errors.missing_key()
        if is_sideband and not is_dated:
            return await self._listen_in(request, fault)
        return await self._converse(request, fault)

    async def _listen_in(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        """Give a copy of every event of a live call (sideband)."""
        credential = self.api.authenticate(request)
        if "model" in request.query:
            raise errors.unknown_parameter("model")
        if _BETA in request.headers.get("OpenAI-Beta", ""):
            raise errors.call_not_found()
        call_id = request.query["call_id"]
        call = self.api.calls.find_live(call_id, self.api.dialect, credential)
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_S)
        await socket.prepare(request)
        inbox = call.attach()
        if fault is not None and fault.malformed == "garbage":
            inbox.put_nowait(GARBAGE)
        forwarder = asyncio.create_task(_forward(inbox, socket))
        try:
            async for message in socket:
                if message.type in _DATA:
                    call.control(message.data, inbox)
        finally:
            call.detach(inbox)
            forwarder.cancel()
            await asyncio.wait([forwarder])
        return socket

    async def _converse(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        """Begin a session whose audio is in its events."""
        session = self._wanted_session(request)
        options = self.api.options
        ends_at = int(time.time() + options.session_cap_s)
        conversation = Conversation(
            shapes.make_session(session, random_id("sess"), expires_at=ends_at),
            greet=False,
            speaks_beta=self._speaks_beta,
            audio=SocketAudio(),
        )
        socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, protocols=("realtime",)
        )
        await socket.prepare(request)
        if _BETA in request.headers.get("OpenAI-Beta", "") and not self._speaks_beta:
            refused = errors.beta_disabled()
            event = {"type": "error", "event_id": random_id("event"), "error": refused.error()}
            await socket.send_json(event)
            await socket.close(
                code=_BETA_CLOSE_CODE, message=f"{refused.kind}.{refused.code}".encode()
            )
            return socket
        if fault is not None and fault.malformed == "garbage":
            await socket.send_str(GARBAGE)
        dialect, cap_s = self.api.dialect, options.session_cap_s
        await self.sockets.run(SocketSession(dialect, conversation, socket, cap_s))
        return socket

    def _wanted_session(self, request: web.Request) -> shapes.Session:
        """Return what a key was minted for, or what the query asks for."""
        name = "deployment" if self._speaks_beta else "model"
        model = request.query.get(name)
        if self.api.dialect is Dialect.OPENAI:
            request = _with_key_header(request)
        credential = self.api.authenticate(request)
        if credential.is_ephemeral and not credential.api_key_header:
            return self.api.keys.find(credential, self.api.dialect, now=int(time.time())).session
        if request.query.get("intent") == "transcription":
            return {"type": "transcription"}
        if not model:
            raise errors.missing_parameter(name)
        return {"type": "realtime", "model": model}

    @property
    def _speaks_beta(self) -> bool:
        """Whether it is the path of Azure's preview, which has the beta's shapes."""
        return self.api.dialect is Dialect.AZURE_DATED


def _with_key_header(request: web.Request) -> web.Request:
    """Return a request with the key of its subprotocol, if it has one, as a header."""
    offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    keys = [each.strip() for each in offered if each.strip().startswith(_KEY_PROTOCOL)]
    if not keys:
        return request
    headers = request.headers.copy()
    headers["Authorization"] = f"Bearer {keys[0].removeprefix(_KEY_PROTOCOL)}"
    return request.clone(headers=headers)


async def _forward(inbox: Inbox, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while (text := await inbox.get()) is not None:
            await socket.send_str(text)
        await socket.close()
