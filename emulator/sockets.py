"""WebSockets: whole sessions (``?model=``), and the way to sidebands (``?call_id=``)."""

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import WSCloseCode, WSMessage, web

from emulator import errors, shapes
from emulator.api import Api
from emulator.call import event_type
from emulator.events import Conversation, random_id
from emulator.faults import GARBAGE
from emulator.mishaps import suffer
from emulator.pcm import SocketAudio
from emulator.responses import Event
from emulator.sessions import Dialect
from emulator.sideband import BETA, DATA, HEARTBEAT_S, listen_in

# How browsers show a key: they cannot set headers.
_KEY_PROTOCOL: Final = "openai-insecure-api-key."
_BETA_CLOSE_CODE: Final = 4000
_TICK_MS: Final = 20
# An event may carry 15 MiB of audio.
_MAX_MESSAGE_BYTES: Final = 24 * 1024 * 1024
_ENDED_KEPT: Final = 100
_EVENT_TYPES_KEPT: Final = 1000


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
        if message.type in DATA:
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
            words = errors.session_expired(self.session_cap_s).message
            await self.socket.close(code=WSCloseCode.GOING_AWAY, message=words.encode())

    async def _send(self, events: list[Event]) -> None:
        for event in events:
            self._sent[event["type"]] += 1
            await self.socket.send_str(json.dumps(event))


class Sockets:
    """The WebSocket sessions: those that run, and what is left of the last ones that ended."""

    def __init__(self) -> None:
        self.sidebands: set[web.WebSocketResponse] = set()
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
        """Close every socket: the emulator stops."""
        sessions = [session.socket for session in self._running]
        for socket in [*sessions, *self.sidebands]:
            await socket.close(code=WSCloseCode.GOING_AWAY)

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
        is_sideband = "call_id" in request.query and self.api.dialect is not Dialect.AZURE_DATED
        operation = "sideband" if is_sideband else "websocket"
        try:
            if self.api.dialect is Dialect.AZURE and "api-version" in request.query:
                raise errors.missing_key()
            if is_sideband:
                return await listen_in(self.api, request, self.sockets.sidebands)
            return await self._converse(request)
        except errors.ApiError as exc:
            self.api.counters.count(operation, exc.status)
            raise

    async def _converse(self, request: web.Request) -> web.StreamResponse:
        """Begin a session whose audio is in its events."""
        fault = self.api.faults.take("websocket")
        await suffer(fault)
        session = self._wanted_session(request)
        cap_s = self.api.faults.take_cap_s(self.api.options.session_cap_s)
        conversation = Conversation(
            shapes.make_session(session, random_id("sess"), expires_at=int(time.time() + cap_s)),
            greet=False,
            speaks_beta=self._speaks_beta,
            audio=SocketAudio(),
        )
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, protocols=("realtime",)
        )
        await socket.prepare(request)
        self.api.counters.count("websocket", socket.status)
        if BETA in request.headers.get("OpenAI-Beta", "") and not self._speaks_beta:
            refused = errors.beta_disabled()
            event = {"type": "error", "event_id": random_id("event"), "error": refused.error()}
            await socket.send_json(event)
            await socket.close(
                code=_BETA_CLOSE_CODE, message=f"{refused.kind}.{refused.code}".encode()
            )
            return socket
        if fault is not None and fault.malformed == "garbage":
            await socket.send_str(GARBAGE)
        session_ = SocketSession(self.api.dialect, conversation, socket, cap_s)
        await self.sockets.run(session_)
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
