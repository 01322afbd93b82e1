"""The requests of one dialect of the Realtime API: mint, call, control a call."""

import logging
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from emulator import beta, errors, shapes
from emulator.call import Call
from emulator.counters import Counters
from emulator.entra import EntraId
from emulator.events import Conversation, random_id
from emulator.faults import Faults
from emulator.forms import read_offer
from emulator.mishaps import Responder, counted, with_faults
from emulator.options import Options
from emulator.sessions import (
    PREVIEW_CALLS,
    Calls,
    Credential,
    Dialect,
    EphemeralKey,
    EphemeralKeys,
    check_standard,
    parse_credential,
)

# The provider gives this path for every dialect.
_LOCATION: Final = "/v1/realtime/calls/"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Api:
    """One dialect of the Realtime API, over the keys and calls that it shares with the others."""

    dialect: Dialect
    options: Options
    keys: EphemeralKeys
    calls: Calls[Call]
    faults: Faults
    entra: EntraId
    counters: Counters

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the dialect's endpoints."""
        root = self.dialect.value
        if self.dialect is Dialect.AZURE_PREVIEW:
            self._add(router, f"{root}/sessions", "client_secrets", self.mint_preview)
            self._add(router, PREVIEW_CALLS, "calls", self.call)
            return
        self._add(router, f"{root}/client_secrets", "client_secrets", self.mint)
        self._add(router, f"{root}/calls", "calls", self.call)
        for verb, handler in (
            ("hangup", self.hang_up),
            ("accept", self.accept),
            ("reject", self.reject),
            ("refer", self.refer),
        ):
            self._add(router, f"{root}/calls/{{call_id}}/{verb}", verb, handler)

    def _add(
        self, router: web.UrlDispatcher, path: str, operation: str, handler: Responder
    ) -> None:
        answer = with_faults(self.faults, operation, handler)
        router.add_post(path, counted(self.counters, operation, answer))

    def authenticate(self, request: web.Request) -> Credential:
        """Return a request's credential.

        Raises:
            ApiError: 401 without one, and for a token that Entra ID has not issued; 404 without
                ``api-version`` where Azure needs it.
        """
        needs_version = self.dialect in {Dialect.AZURE_DATED, Dialect.AZURE_PREVIEW}
        if needs_version and request.path != PREVIEW_CALLS and "api-version" not in request.query:
            raise errors.resource_not_found()
        credential = parse_credential(request.headers, self.dialect)
        if self.dialect.is_azure:
            self.entra.check(credential, time.time())
        return credential

    async def mint(self, request: web.Request) -> web.Response:
        """``POST client_secrets``: mint an ephemeral key for a session."""
        check_standard(self.authenticate(request))
        wanted = shapes.parse_client_secret_request(
            await request.read(), model_required=self.dialect.is_azure
        )
        key = self._mint_key(wanted.session, wanted.expires_s)
        session = shapes.make_session(wanted.session, random_id("sess"), expires_at=0)
        return web.json_response(
            {"value": key.value, "expires_at": key.expires_at, "session": session}
        )

    async def mint_preview(self, request: web.Request) -> web.Response:
        """``POST sessions`` of Azure's preview: a flat session with the key in it."""
        check_standard(self.authenticate(request))
        wanted = beta.parse_preview_session(await request.read())
        shapes.check_session(wanted)
        key = self._mint_key(wanted, beta.EXPIRES_S)
        session = shapes.make_session(wanted, random_id("sess"), expires_at=0)
        secret = {"value": key.value, "expires_at": key.expires_at}
        return web.json_response(beta.make_preview_session(session) | {"client_secret": secret})

    def _mint_key(self, session: shapes.Session, expires_s: int) -> EphemeralKey:
        return self.keys.mint(self.dialect, session, now=int(time.time()), expires_s=expires_s)

    async def call(self, request: web.Request) -> web.Response:
        """``POST calls``: answer an SDP offer and begin the call."""
        credential = self.authenticate(request)
        key = self._find_key(credential)
        is_preview = self.dialect is Dialect.AZURE_PREVIEW
        if is_preview and not request.query.get("model"):
            raise errors.missing_parameter("model")
        offer, session = await read_offer(request, self.dialect)
        if key is not None:
            session = key.session | (session or {})
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
            # The preview has no call control, and so names no call.
            headers={} if is_preview else {"Location": _LOCATION + call.call_id},
        )

    def _find_key(self, credential: Credential) -> EphemeralKey | None:
        """Return the ephemeral key that a call is made with; None for a long-lived one."""
        # LiteLLM shows it as an api-key, on the path that it uses.
        as_api_key = credential.api_key_header and self.dialect is not Dialect.AZURE_DATED
        if credential.is_ephemeral and not as_api_key:
            return self.keys.find(credential, self.dialect, now=int(time.time()))
        if self.dialect.is_azure:
            raise errors.ephemeral_required()
        return None

    def _make_call(
        self, credential: Credential, session: shapes.Session, request: web.Request
    ) -> Call:
        cap_s = self.faults.take_cap_s(self.options.session_cap_s)
        conversation = Conversation(
            shapes.make_session(session, random_id("sess"), expires_at=int(time.time() + cap_s)),
            greet=self.options.greet,
            # The echo is the answer.
            answer_turns=self.options.voice == "speech",
            speaks_beta=self.dialect is Dialect.AZURE_PREVIEW,
        )
        return Call(
            self.calls.new_id(),
            self.dialect,
            credential,
            conversation,
            self.options,
            faults=self.faults,
            cap_s=cap_s,
            filtered=self.dialect.is_azure and request.query.get("webrtcfilter") == "on",
            on_end=self._call_ended,
        )

    def _call_ended(self, call: Call) -> None:
        self.calls.end(call)
        _log.info("call %s: ended, %s", call.call_id, call.ended_because)

    # --- Call control -----------------------------------------------------------------------------

    async def hang_up(self, request: web.Request) -> web.Response:
        """``POST calls/{call_id}/hangup``: end a call."""
        await self._controlled_call(request).end("hangup")
        return web.Response()

    async def accept(self, request: web.Request) -> web.Response:
        """``POST calls/{call_id}/accept``: check the session; only a SIP call waits for this."""
        call = self._controlled_call(request)
        shapes.check_session(shapes.parse_json_object(await request.read()))
        call.controls.append("accept")
        return web.Response()

    async def reject(self, request: web.Request) -> web.Response:
        """``POST calls/{call_id}/reject``: end a call."""
        call = self._controlled_call(request)
        body = await request.read()
        wanted = shapes.parse_json_object(body) if body.strip() else {}
        if not isinstance(wanted.get("status_code", 603), int):
            raise errors.invalid_type("status_code", "an integer")
        call.controls.append("reject")
        await call.end("rejected")
        return web.Response()

    async def refer(self, request: web.Request) -> web.Response:
        """``POST calls/{call_id}/refer``: take note of the target; only SIP can transfer."""
        call = self._controlled_call(request)
        wanted = shapes.parse_json_object(await request.read())
        if not isinstance(wanted.get("target_uri"), str):
            raise errors.missing_parameter("target_uri")
        call.controls.append("refer")
        return web.Response()

    def _controlled_call(self, request: web.Request) -> Call:
        credential = self.authenticate(request)
        return self.calls.find_running(request.match_info["call_id"], self.dialect, credential)
