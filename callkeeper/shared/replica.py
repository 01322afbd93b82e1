"""One replica among others: when it does what, from its start to the moment when it leaves."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

from callkeeper.kept import Kept
from callkeeper.shared.sharing import Sharing
from ringback.logs import describe, get_logger
from ringback.valkey import StoreUnavailableError, Valkey, end

# How often in a lease it is renewed; two renewals may be missed.
_RENEWALS: Final = 3
# How often in a lease calls are looked for whose keeper is gone.
LOOKS: Final = 10
# A store that was silent for such a part of a lease was away: two renewals failed.
_AWAY: Final = 0.7
# How long changes are collected, and how long the store is left alone when it has failed.
_COLLECT_S: Final = 0.02
_RETRY_S: Final = 0.5
# How long who leaves listens on, at most, until others do.
_LEAVE_S: Final = 10.0
_LEAVE_POLL_S: Final = 0.2
# A connection that is silently gone is noticed after twice this time.
_READ_S: Final = 5.0


class LeavingError(Exception):
    """A replica that takes no call on any more."""

    def __str__(self) -> str:
        return "this worker is about to end"


class Replica:
    """Shares calls from `start` to `leave`.

    Args:
        sharing: What is shared.
        valkey: The store.
        channel: Of the store, on which others say what has changed.
        lease_s: A replica that says nothing for so long has lost its calls to others.
    """

    def __init__(self, sharing: Sharing, valkey: Valkey, channel: str, lease_s: float) -> None:
        self._sharing, self._valkey, self._channel = sharing, valkey, channel
        self._lease_s = lease_s
        self._look, self._nudge = asyncio.Event(), asyncio.Event()
        self._changed: set[str] = set()
        self._answered_at = self._adopts_at = 0.0
        self._is_leaving = False
        self._opening = 0
        self._turns: list[asyncio.Task[None]] = []
        self._teller: asyncio.Task[None] | None = None
        self._log = get_logger()

    def start(self) -> None:
        """Begin to share; needs a running event loop."""
        self._answered_at = time.monotonic()
        self._turns = [
            asyncio.create_task(work()) for work in (self._attend, self._seek, self._hear)
        ]
        self._teller = asyncio.create_task(self._tell())

    async def open(self, kept: Kept) -> tuple[str, bool]:
        """See `Sharing.open`.

        Raises:
            LeavingError: If another replica has to be asked.
            StoreUnavailableError: If the call has to be shared, and cannot be.
        """
        if self._is_leaving:
            raise LeavingError
        self._opening += 1
        try:
            return await self._sharing.open(kept)
        finally:
            self._opening -= 1

    async def leave(self) -> None:
        """Hand all calls over, and listen to them until others do."""
        self._is_leaving = True
        await end(*self._turns)
        self._turns = []
        while self._opening:  # noqa: ASYNC110  the store is slow for a second at most
            await asyncio.sleep(_COLLECT_S)
        try:
            await self._sharing.tell()
            await self._sharing.release()
            # No timeout: the client loses a cancellation now and then.
            polls = round(_LEAVE_S / _LEAVE_POLL_S)
            while polls > 0 and await self._sharing.may_be_taken():
                await asyncio.sleep(_LEAVE_POLL_S)
                polls -= 1
        except StoreUnavailableError:
            # Others take the calls when their leases are over.
            self._log.warning("calls_not_handed_over")

    async def stop(self) -> None:
        """Tell the store what is left to tell."""
        if self._teller is not None:
            await end(self._teller, *self._turns)
            with suppress(StoreUnavailableError):
                await self._sharing.tell()

    async def _tell(self) -> None:
        while True:
            await self._sharing.wake.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_COLLECT_S):
                    await self._sharing.hurry.wait()
            self._sharing.wake.clear()
            self._sharing.hurry.clear()
            try:
                await self._sharing.tell()
            except Exception as error:  # noqa: BLE001  whatever it is, it is told later
                self._note(error)
                self._sharing.wake.set()
                await asyncio.sleep(_RETRY_S)

    async def _attend(self) -> None:
        """Keep the calls of this replica, and follow what others want of them."""
        renews_at = 0.0
        while True:
            try:
                if time.monotonic() >= renews_at:
                    await self._sharing.renew()
                    self._note_answer()
                    renews_at = time.monotonic() + self._lease_s / _RENEWALS
                changed, self._changed = self._changed, set()
                await self._sharing.look_at(changed)
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                self._note(error)
            await self._pause(self._nudge)

    async def _seek(self) -> None:
        """Take over calls that need somebody."""
        while True:
            try:
                if time.monotonic() >= self._adopts_at:
                    await self._sharing.adopt()
                await self._sharing.join()
            except Exception as error:  # noqa: BLE001  as above
                self._note(error)
            await self._pause(self._look)

    async def _pause(self, event: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease_s / LOOKS):
                await event.wait()
        event.clear()

    def _note_answer(self) -> None:
        now = time.monotonic()
        if now - self._answered_at > _AWAY * self._lease_s:
            # The store was away, and leases are over, also of those who are alive: they shall have
            # the time to renew them.
            self._adopts_at = now + self._lease_s
        self._answered_at = now

    async def _hear(self) -> None:
        while True:
            try:
                await self._hear_once()
            except Exception as error:  # noqa: BLE001  as above
                self._note(error)
                await asyncio.sleep(_RETRY_S)

    async def _hear_once(self) -> None:
        """Hear what others say until the connection ends, which is an error."""
        async with self._valkey.client.pubsub() as channel:
            await channel.subscribe(self._channel)
            is_asked = False
            while True:
                message = await channel.get_message(timeout=_READ_S)
                if message is not None:
                    self._take(message)
                    is_asked = False
                elif is_asked:
                    raise TimeoutError
                else:
                    await channel.ping()
                    is_asked = True

    def _take(self, message: dict[str, Any]) -> None:
        # What was said before a subscription shows in the next renewal.
        if message["type"] == "message" and len(message["data"]) == 32:
            self._changed.add(message["data"].decode(errors="replace"))
            self._nudge.set()
        else:
            self._look.set()

    def _note(self, error: Exception) -> None:
        if not isinstance(error, StoreUnavailableError):
            self._log.error("calls_not_shared", **describe(error))
