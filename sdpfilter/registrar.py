"""Puts a call on the leash before its answer is released: callkeeper is told of it."""

import asyncio
from dataclasses import asdict
from typing import Final

from grpc import aio

from callsapi.v1.calls_pb2 import (
    EndCallRequest,
    HangUpRequest,
    Limits,
    Payer,
    RegisterRequest,
)
from callsapi.v1.calls_pb2_grpc import CallsStub, UpstreamsStub
from ringback.background import Background
from ringback.errors import ApiError
from ringback.grpcpeers import Peers
from ringback.logs import get_logger
from ringback.settings import ServiceSettings, SupervisionSettings
from ringback.slotreturns import SlotReturns
from sdpfilter.consent import Purpose
from sdpfilter.exchange import Opened
from sdpfilter.metrics import ORPHANS, REGISTRATIONS
from sdpfilter.refusals import SupervisionUnavailableError
from sdpfilter.registrations import NotRegisteredError, Registrations

_END_TIMEOUT_S: Final = 6.0
# A provider lets go of a call that nobody joins by itself; until then it is worth the trouble.
_END_WAITS_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)


class Registrar:
    """Tells callkeeper of calls.

    A call that has to be supervised and cannot be taken on is refused, and hung up: by extauthz,
    which holds the credentials (ADR 0016).

    Args:
        settings: The settings ``supervision``.
        services: How callkeeper and extauthz are reached.
    """

    def __init__(self, settings: SupervisionSettings, services: ServiceSettings) -> None:
        self._is_required = settings.mode != "best_effort"
        self._timeout_s = settings.register_timeout_s
        self._callkeeper = Peers(settings.callkeeper, CallsStub, services)
        self._extauthz = Peers(settings.extauthz, UpstreamsStub, services)
        self._registrations = Registrations(self._callkeeper, self._timeout_s)
        self._returns = SlotReturns(self._callkeeper, self._timeout_s)
        self._background = Background()
        self._log = get_logger()

    def start(self) -> None:
        """Be ready to ask; needs a running event loop."""
        self._callkeeper.start()
        self._extauthz.start()

    async def stop(self) -> None:
        """Close all connections."""
        await self._background.stop()
        await self._registrations.stop()
        await self._returns.stop()
        await self._callkeeper.stop()
        await self._extauthz.stop()

    def begin(self, opened: Opened, request_id: str) -> "Registration":
        """Begin to tell callkeeper of a call, beside everything else.

        Args:
            opened: The call.
            request_id: ``x-request-id``.
        """
        # What the call's own decision says goes before the settings.
        is_required = opened.consent.limits.is_required
        if is_required is None:
            is_required = self._is_required
        is_kept = self._background.spawn(self._register(opened, request_id))
        return Registration(self, opened, is_kept, is_required=is_required)

    def give_back(self, slot_id: str) -> None:
        """Give back the slots of a call that is not opened, or that nobody can count.

        Args:
            slot_id: Empty if there are none.
        """
        if slot_id:
            self._returns.add(slot_id)

    def hang_up(self, opened: Opened) -> None:
        """End a call that nobody keeps, however long it takes: the caller does not wait for it."""
        if opened.call_id:
            self._background.spawn(self._end(opened.handle))

    def withdraw(self, opened: Opened, is_kept: asyncio.Task[bool], *, is_required: bool) -> None:
        """End a call whose caller has no answer, once it is clear who keeps it."""
        self._background.spawn(self._withdraw(opened, is_kept, is_required=is_required))

    async def _register(self, opened: Opened, request_id: str) -> bool:
        """Tell whether callkeeper has taken a call on."""
        if not opened.call_id:
            result = "no_call_id"
        else:
            try:
                await self._registrations.add(_request(opened, request_id))
                result = "registered"
            except NotRegisteredError as error:
                result = "failed"
                self._log.error("call_not_registered", request_id=request_id, reason=error.why)
        REGISTRATIONS.labels(result).inc()
        return result == "registered"

    async def _withdraw(
        self, opened: Opened, is_kept: asyncio.Task[bool], *, is_required: bool
    ) -> None:
        if await is_kept:
            # The worker that keeps it hangs up, and gives its slots back.
            request = HangUpRequest(call=opened.handle, was_withheld=True)
            answers = await self._callkeeper.ask_all(
                lambda stub: stub.HangUp, request, self._timeout_s
            )
            if not all(isinstance(answer, aio.AioRpcError) for answer in answers):
                return
        if is_required:
            self.hang_up(opened)
        self.give_back(opened.consent.slot_id)

    async def _end(self, handle: str) -> None:
        for wait_s in _END_WAITS_S:
            try:
                request = EndCallRequest(handle=handle)
                await self._extauthz.ask(lambda stub: stub.EndCall, request, _END_TIMEOUT_S)
            except aio.AioRpcError as error:
                self._log.warning("call_not_ended", reason=error.code().name.lower())
                await asyncio.sleep(wait_s)
            else:
                ORPHANS.labels("ended").inc()
                return
        ORPHANS.labels("given_up").inc()


class Registration:
    """A call that callkeeper is being told of, while its answer is checked.

    Args:
        registrar: Sees to it.
        opened: The call.
        is_kept: Tells whether callkeeper keeps it, once that is known.
        is_required: Whether it must not go on if not.
    """

    def __init__(
        self,
        registrar: Registrar,
        opened: Opened,
        is_kept: asyncio.Task[bool],
        *,
        is_required: bool,
    ) -> None:
        self._registrar, self._opened = registrar, opened
        self._is_kept, self._is_required = is_kept, is_required
        self._is_settled = False

    async def settle(self) -> ApiError | None:
        """Return why the answer must not be released, None if it is."""
        # The caller may leave meanwhile, and callkeeper be told of the call all the same.
        is_kept = await asyncio.shield(self._is_kept)
        self._is_settled = True
        if is_kept:
            return None
        if not self._opened.call_id or self._is_required:
            # If callkeeper was told of it after all, the call holds them until it has ended.
            self._registrar.give_back(self._opened.consent.slot_id)
        if not self._is_required:
            return None
        self._registrar.hang_up(self._opened)
        return SupervisionUnavailableError()

    def end(self) -> None:
        """Have the call ended, unless it is settled what becomes of it; waits for nothing."""
        if not self._is_settled:
            self._is_settled = True
            self._registrar.withdraw(self._opened, self._is_kept, is_required=self._is_required)


def _request(opened: Opened, request_id: str) -> RegisterRequest:
    consent = opened.consent
    return RegisterRequest(
        handle=opened.handle,
        deployment=consent.deployment,
        origin=consent.upstream_origin,
        upstream_call_id=opened.call_id,
        model=consent.model,
        payer=Payer(
            key_hash=consent.key_hash,
            key_alias=consent.key_alias,
            team_id=consent.team,
            user_id=consent.user,
            organization_id=consent.organization,
            project_id=consent.project,
        ),
        # With a key extauthz has minted by itself, and nobody holds the token.
        token_id=consent.token_id if consent.purpose is Purpose.CALL else "",
        request_id=request_id,
        sealed_key=consent.sealed_key,
        id=consent.slot_id,
        asked=consent.asked,
        # None is absent.
        limits=Limits(**asdict(consent.limits)),
        session_lock=consent.session_lock,
    )
