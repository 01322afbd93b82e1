"""Takes a call's slots among those that may be open, before its provider hears of it."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from grpc import aio

from callsapi.v1.calls_pb2 import Scope, TakeRequest
from callsapi.v1.calls_pb2_grpc import CallsStub
from extauthz.deployments import Deployment
from extauthz.keys.model import VirtualKey
from extauthz.limits.errors import OpenCallsUncheckedError, TooManyOpenCallsError
from extauthz.limits.rules import Counter, deployment_counter, open_call_counters
from extauthz.metrics import SLOTS
from ringback.grpcpeers import Peers
from ringback.logs import get_logger
from ringback.settings import ServiceSettings, SupervisionSettings
from ringback.slotreturns import SlotReturns

# As a message of callsapi can say it.
_MAX_LIMIT: Final = 2**32 - 1


class Slots:
    """Asks callkeeper, which counts open calls, for slots.

    Args:
        settings: The settings ``supervision``; with ``off`` no call takes any slot.
        services: How callkeeper is reached.
    """

    def __init__(
        self, settings: SupervisionSettings, services: ServiceSettings | None = None
    ) -> None:
        self._limits = settings.max_open_calls
        # With `auto` as well: whoever is asked about here has a limit.
        self._is_required = settings.mode != "best_effort"
        self._timeout_s = settings.register_timeout_s
        self._is_on = settings.mode != "off"
        self._callkeeper = Peers(settings.callkeeper, CallsStub, services or ServiceSettings())
        self._returns = SlotReturns(self._callkeeper, settings.register_timeout_s)
        self._log = get_logger()

    def start(self) -> None:
        """Be ready to ask; needs a running event loop."""
        if self._is_on:
            self._callkeeper.start()

    async def stop(self) -> None:
        """Give back what is to be given back, and close all connections."""
        await self._returns.stop()
        await self._callkeeper.stop()

    @asynccontextmanager
    async def taken(
        self, key: VirtualKey, deployment: Deployment | None = None
    ) -> AsyncIterator["TakenSlots"]:
        """Take the slots of a call; they are given back if the block raises.

        Where there is no limit nobody is asked.

        Args:
            key: Whose call it is.
            deployment: Where it goes; None if that is not known yet, see `TakenSlots.take_at`.

        Raises:
            TooManyOpenCallsError: If as many calls are open as may be: 429.
            OpenCallsUncheckedError: If nobody can tell, and calls have to be supervised: 503.
        """
        slots = TakenSlots(self)
        try:
            if self._is_on:
                counters = open_call_counters(key, self._limits)
                await slots.take([*counters, *self.at(deployment)])
            yield slots
        except BaseException:
            if slots.id is not None:
                # Beside the request: who is told to stop must not wait.
                self._returns.add(slots.id)
            raise

    def at(self, deployment: Deployment | None) -> list[Counter]:
        """Return what a call counts for at its deployment."""
        limit = self._limits.deployment
        if not self._is_on or deployment is None or limit is None:
            return []
        return [deployment_counter(deployment.id, limit)]

    async def ask(self, call_id: str, counters: Sequence[Counter]) -> Counter | None:
        """Take a slot of each counter, or of none; return the one that is full, if any is.

        Raises:
            OpenCallsUncheckedError: If nobody can tell, and calls have to be supervised: 503.
        """
        scopes = [
            Scope(name=counter.name, limit=min(max(0, counter.limit), _MAX_LIMIT))
            for counter in counters
        ]
        request = TakeRequest(id=call_id, scopes=scopes)
        try:
            answer = await self._callkeeper.ask(lambda stub: stub.Take, request, self._timeout_s)
        except aio.AioRpcError as error:
            SLOTS.labels("failed").inc()
            self._log.error("open_calls_unchecked", reason=error.code().name.lower())
            if self._is_required:
                raise OpenCallsUncheckedError from error
            return None
        SLOTS.labels("full" if answer.full else "taken").inc()
        return next((counter for counter in counters if counter.name == answer.full), None)


class TakenSlots:
    """The slots of one call.

    Attributes:
        id: Under which it has them, and will be registered; None as long as it has none.

    Args:
        slots: Where they come from.
    """

    def __init__(self, slots: Slots) -> None:
        self.id: str | None = None
        self._slots = slots

    async def take_at(self, deployment: Deployment | None) -> None:
        """Take a slot at a deployment, too.

        Raises:
            TooManyOpenCallsError, OpenCallsUncheckedError: As `Slots.taken`.
        """
        await self.take(self._slots.at(deployment))

    async def take(self, counters: Sequence[Counter]) -> None:
        """Take a slot of each counter, or of none.

        Raises:
            TooManyOpenCallsError, OpenCallsUncheckedError: As `Slots.taken`.
        """
        if not counters:
            return
        before = self.id
        # Before the answer: whoever is cut off may have taken them.
        self.id = before or uuid.uuid4().hex
        full = await self._slots.ask(self.id, counters)
        if full is not None:
            self.id = before
            raise TooManyOpenCallsError(full)
