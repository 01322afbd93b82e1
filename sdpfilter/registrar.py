"""Puts a call on the leash before its answer is released: callkeeper is told of it."""

import asyncio
from dataclasses import asdict
from typing import Final

from grpc import aio

from callsapi.v1.calls_pb2 import EndCallRequest, Limits, Payer, RegisterRequest
from callsapi.v1.calls_pb2_grpc import CallsStub, UpstreamsStub
from ringback.errors import ApiError
from ringback.grpcpeers import Peers
from ringback.logs import get_logger
from ringback.settings import ServiceSettings, SupervisionSettings
from ringback.slotreturns import SlotReturns
from sdpfilter.consent import Purpose
from sdpfilter.exchange import Opened
from sdpfilter.metrics import ORPHANS, REGISTRATIONS
from sdpfilter.refusals import SupervisionUnavailableError

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
        self._returns = SlotReturns(self._callkeeper, settings.register_timeout_s)
        self._ending: set[asyncio.Task[None]] = set()
        self._log = get_logger()

    def start(self) -> None:
        """Be ready to ask; needs a running event loop."""
        self._callkeeper.start()
        self._extauthz.start()

    async def stop(self) -> None:
        """Close all connections."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._returns.stop()
        await self._callkeeper.stop()
        await self._extauthz.stop()

    async def register(
        self, opened: Opened, request_id: str, *, is_released: bool
    ) -> ApiError | None:
        """Tell callkeeper of a call; return why its answer must not be released, None if it may.

        Args:
            opened: The call.
            request_id: ``x-request-id``.
            is_released: Whether the answer is to go out. A call whose answer is refused is not
                registered; if it is required to be, it is hung up, since nobody else will.
        """
        # What the call's own decision says goes before the settings.
        is_required = opened.consent.limits.is_required
        if is_required is None:
            is_required = self._is_required
        if not is_released:
            if is_required:
                self._hang_up(opened)
            self.give_back(opened.consent.slot_id)
            return None
        if not opened.call_id:
            result = "no_call_id"
            self.give_back(opened.consent.slot_id)
        else:
            try:
                await self._callkeeper.ask(
                    lambda stub: stub.Register, _request(opened, request_id), self._timeout_s
                )
            except aio.AioRpcError as error:
                result = "failed"
                self._log.error(
                    "call_not_registered", request_id=request_id, reason=error.code().name.lower()
                )
            except asyncio.CancelledError:
                # The caller has left; callkeeper may not have been told.
                if is_required:
                    self._hang_up(opened)
                self.give_back(opened.consent.slot_id)
                raise
            else:
                REGISTRATIONS.labels("registered").inc()
                return None
        REGISTRATIONS.labels(result).inc()
        if not is_required:
            return None
        self._hang_up(opened)
        # If callkeeper was told of the call all the same, the call holds them until it has ended.
        self.give_back(opened.consent.slot_id)
        return SupervisionUnavailableError()

    def give_back(self, slot_id: str) -> None:
        """Give back the slots of a call that is not opened, or that nobody can count.

        Args:
            slot_id: Empty if there are none.
        """
        if slot_id:
            self._returns.add(slot_id)

    def _hang_up(self, opened: Opened) -> None:
        """End a call, however long it takes: the caller does not wait for it."""
        if opened.call_id:
            task = asyncio.create_task(self._end(opened.handle))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

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
