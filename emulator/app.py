"""The HTTP side: routes of OpenAI's and Azure's Realtime API, their answers and refusals."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, WSMsgType, web

from emulator import errors, shapes
from emulator.call import Call, Inbox
from emulator.control import add_control_routes
from emulator.errors import ApiError
from emulator.events import Conversation, random_id
from emulator.faults import GARBAGE, Fault, Faults, refusal, spoil_body
from emulator.ice import NoPortError
from emulator.options import Options
from emulator.sessions import (
    Calls,
    Credential,
    Dialect,
    EphemeralKeys,
    check_standard,
    parse_credential,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The provider gives this path for both dialects.
_LOCATION: Final = "/v1/realtime/calls/"
_CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "authorization, content-type, api-key, x-openai-agents-sdk, "
    "openai-safety-identifier",
    "Access-Control-Expose-Headers": "location, x-request-id",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Api:
    """One dialect of the Realtime API, over the keys and calls that it shares with the other."""

    dialect: Dialect
    options: Options
    keys: EphemeralKeys
    calls: Calls[Call]
    faults: Faults

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the dialect's endpoints."""
        root = self.dialect.value
        router.add_post(f"{root}/client_secrets", self._with_faults("client_secrets", self.mint))
        router.add_post(f"{root}/calls", self._with_faults("calls", self.call))
        router.add_post(
            f"{root}/calls/{{call_id}}/hangup", self._with_faults("hangup", self.hang_up)
        )
        router.add_get(root, self.listen_in)

    def _with_faults(
        self, operation: str, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self.faults.take(operation)
            await _suffer(fault)
            response = await handler(request)
            if fault is not None:
                _spoil(response, fault)
            return response

        return handle

    async def mint(self, request: web.Request) -> web.Response:
        """``POST client_secrets``: mint an ephemeral key for a session."""
        check_standard(parse_credential(request.headers, self.dialect))
        wanted = shapes.parse_client_secret_request(
            await request.read(), model_required=self.dialect is Dialect.AZURE
        )
        key = self.keys.mint(
            self.dialect, wanted.session, now=int(time.time()), expires_s=wanted.expires_s
        )
        session = shapes.make_session(wanted.session, random_id("sess"), expires_at=0)
        return web.json_response(
            {"value": key.value, "expires_at": key.expires_at, "session": session}
        )

    async def call(self, request: web.Request) -> web.Response:
        """``POST calls``: answer an SDP offer and begin the call."""
        credential = parse_credential(request.headers, self.dialect)
        offer, session = await self._read_call(request)
        if credential.is_ephemeral and not credential.api_key_header:
            key = self.keys.find(credential, self.dialect, now=int(time.time()))
            session = key.session | (session or {})
        elif self.dialect is Dialect.AZURE:
            raise errors.ephemeral_required()
        if session is None:
            raise errors.missing_parameter("session")
        shapes.check_session(session)
        call = self._make_call(credential, session, request)
        answer = await call.answer(offer)
        self.calls.add(call)
        _log.info("call %s: answered", call.call_id)
        return web.Response(
            status=201,
            text=answer,
            content_type="application/sdp",
            headers={"Location": _LOCATION + call.call_id},
        )

    async def _read_call(self, request: web.Request) -> tuple[bytes, shapes.Session | None]:
        """Return the offer, and the session of OpenAI's multipart form."""
        if request.content_type == "application/sdp":
            return await request.read(), None
        if self.dialect is Dialect.AZURE or request.content_type != "multipart/form-data":
            accepted = "'application/sdp' requests"
            if self.dialect is Dialect.OPENAI:
                accepted += " and 'multipart/form-data' requests"
            raise errors.unsupported_content_type(request.content_type, accepted)
        parts = await _read_form(request)
        if "sdp" not in parts:
            raise errors.missing_parameter("sdp")
        session = shapes.parse_json_object(parts["session"]) if "session" in parts else None
        return parts["sdp"], session

    def _make_call(
        self, credential: Credential, session: shapes.Session, request: web.Request
    ) -> Call:
        ends_at = int(time.time() + self.options.session_cap_s)
        conversation = Conversation(
            shapes.make_session(session, random_id("sess"), expires_at=ends_at),
            greet=self.options.greet,
            # The echo is the answer.
            answer_turns=self.options.voice == "speech",
        )
        return Call(
            self.calls.new_id(),
            self.dialect,
            credential,
            conversation,
            self.options,
            filtered=self.dialect is Dialect.AZURE and request.query.get("webrtcfilter") == "on",
            on_end=self._call_ended,
        )

    def _call_ended(self, call: Call) -> None:
        self.calls.end(call)
        _log.info("call %s: ended, %s", call.call_id, call.ended_because)

    async def hang_up(self, request: web.Request) -> web.Response:
        """``POST calls/{call_id}/hangup``: end a call."""
        credential = parse_credential(request.headers, self.dialect)
        call = self.calls.find_running(request.match_info["call_id"], self.dialect, credential)
        await call.end("hangup")
        return web.Response()

    async def listen_in(self, request: web.Request) -> web.StreamResponse:
        """``GET ?call_id=``: a WebSocket with a copy of every event of a live call (sideband)."""
        fault = self.faults.take("sideband")
        await _suffer(fault)
        credential = parse_credential(request.headers, self.dialect)
        if self.dialect is Dialect.AZURE and "api-version" in request.query:
            raise errors.missing_key()
        if "call_id" not in request.query:
            raise errors.missing_parameter("call_id")
        if "model" in request.query:
            raise errors.unknown_parameter("model")
        if "realtime=v1" in request.headers.get("OpenAI-Beta", ""):
            raise errors.call_not_found()
        call = self.calls.find_live(request.query["call_id"], self.dialect, credential)
        socket = web.WebSocketResponse(heartbeat=30.0)
        await socket.prepare(request)
        inbox = call.attach()
        if fault is not None and fault.malformed == "garbage":
            inbox.put_nowait(GARBAGE)
        forwarder = asyncio.create_task(_forward(inbox, socket))
        try:
            async for message in socket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    call.control(message.data, inbox)
        finally:
            call.detach(inbox)
            forwarder.cancel()
            await asyncio.wait([forwarder])
        return socket


async def _read_form(request: web.Request) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name not in {"sdp", "session"}:
                raise errors.unknown_parameter(getattr(part, "name", None) or "(part)")
            parts[part.name] = bytes(await part.read())
    except ValueError as exc:
        # What aiohttp makes of a missing boundary and of broken parts.
        raise errors.invalid_form() from exc
    return parts


async def _forward(inbox: Inbox, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while (text := await inbox.get()) is not None:
            await socket.send_str(text)
        await socket.close()


async def _suffer(fault: Fault | None) -> None:
    """Wait and be refused, as a fault says."""
    if fault is not None:
        await asyncio.sleep(fault.delay_s)
        if fault.status is not None and fault.status >= 400:
            raise refusal(fault.status)


def _spoil(response: web.Response, fault: Fault) -> None:
    """Make a bad answer of a good one, as a fault says."""
    if fault.malformed == "no_location":
        response.set_status(200)
        del response.headers["Location"]
    elif fault.malformed is not None:
        # A hangup has no body to begin with.
        body = response.body if isinstance(response.body, bytes) else b""
        response.body = spoil_body(fault.malformed, body)
    if fault.status is not None:
        response.set_status(fault.status)


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflights, put refusals into the provider's shape, and mark every response."""
    if request.method == "OPTIONS":
        response: web.StreamResponse = web.Response(status=200)
    else:
        try:
            response = await handler(request)
        except ApiError as exc:
            response = _refuse(exc)
        except NoPortError as exc:
            response = _refuse(ApiError(503, str(exc), kind="server_error"))
        except web.HTTPException as exc:
            message = f"Invalid URL or method ({request.method} {request.path})"
            response = _refuse(ApiError(exc.status, message))
    if not response.prepared:
        response.headers.update(_CORS_HEADERS)
        response.headers["x-request-id"] = f"req_{secrets.token_hex(16)}"
    return response


def _refuse(refused: ApiError) -> web.Response:
    headers = {"Retry-After": "1"} if refused.status == 429 else None
    return web.json_response({"error": refused.error()}, status=refused.status, headers=headers)


def make_app(options: Options, calls: Calls[Call]) -> web.Application:
    """Return the application with both dialects, ``/healthz`` and the ``/emulator`` endpoints."""
    app = web.Application(middlewares=[_answer])
    faults, keys = Faults(options.faults), EphemeralKeys()
    for dialect in Dialect:
        Api(dialect, options, keys, calls, faults).add_routes(app.router)
    add_control_routes(app.router, calls, faults)
    return app
