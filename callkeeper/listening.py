"""Stays attached to the sidebands of calls, and takes what they say."""

import asyncio
import time
from typing import Final, Protocol

from callkeeper import calls, metrics
from callkeeper.backoff import wait_s
from callkeeper.calls import CallState, Phase, Reason
from callkeeper.egress import Egress, texts_of
from callkeeper.errors import NotThereError, ReachError, UncontrollableError, UpstreamError
from callkeeper.events import read_event
from callkeeper.hangup import is_too_old_to_begin, reach_of
from callkeeper.kept import Charge, Kept, Witness, facts_of
from callkeeper.meter import ACTIVITY
from callkeeper.reach import Reaches
from callkeeper.sender import Sender
from callkeeper.steward import Steward
from ringback.logs import describe, get_logger

# A sideband that lasts shorter than that was not worth attaching.
_STABLE_S: Final = 1.0
# The answer is on its way to the browser: before that the provider has nothing to attach to, and
# who waits for the registration goes first.
_HEAD_START_S: Final = 0.1


class Leash(Protocol):
    """What decides about calls: the keeper of them."""

    steward: Steward
    """Speaks in calls."""
    witness: Witness | None
    """Is told what happens."""

    def change(self, kept: Kept, state: CallState) -> None:
        """Have a call in another state."""

    def look_at(self, kept: Kept) -> None:
        """Do what is to be done about a call."""

    def end(self, kept: Kept, reason: Reason) -> None:
        """Begin to end a call."""

    def tell(self, name: str, kept: Kept) -> None:
        """Tell what has happened to a call."""


class Listener:
    """Listens to calls.

    Args:
        leash: Decides what follows from what is heard.
        egress: Reaches providers.
        reaches: Tells how they are reached.
        charge: Books what was used.
    """

    def __init__(self, leash: Leash, egress: Egress, reaches: Reaches, charge: Charge) -> None:
        self._leash = leash
        self._egress = egress
        self._reaches = reaches
        self._charge = charge
        self._log = get_logger()

    async def listen(self, kept: Kept) -> None:
        """Stay attached to the sideband of a call until it ends."""
        await asyncio.sleep(kept.state.opened_at + _HEAD_START_S - time.monotonic())
        tries = 0
        while kept.state.is_open:
            try:
                tries = 0 if await self._listen_once(kept) else tries + 1
            except NotThereError:
                metrics.ATTACH_FAILURES.labels("not_there").inc()
                if kept.is_owner and (kept.was_attached or is_too_old_to_begin(kept)):
                    self._leash.end(kept, Reason.ENDED_ELSEWHERE)
                    return
                tries += 1
            except UncontrollableError:
                metrics.ATTACH_FAILURES.labels("uncontrollable").inc()
                self._log.error("call_uncontrollable", **facts_of(kept))
                return
            except (UpstreamError, ReachError) as error:
                metrics.ATTACH_FAILURES.labels("failed").inc()
                if tries == 0:
                    self._log.warning("sideband_failed", reason=str(error), **facts_of(kept))
                tries += 1
            except Exception as error:  # noqa: BLE001  whatever it is, the call must not be let go
                self._log.error("sideband_broke", **describe(error), **facts_of(kept))
                tries += 1
            if tries and kept.state.is_open:
                await asyncio.sleep(wait_s(tries - 1))

    async def _listen_once(self, kept: Kept) -> bool:
        """Attach and listen; tell whether that lasted, so that the next try may come at once."""
        socket = await self._egress.attach(await reach_of(kept, self._reaches))
        began = time.monotonic()
        if not kept.was_attached and kept.is_owner:
            metrics.ATTACH_SECONDS.observe(began - kept.state.opened_at)
        if kept.state.lost_at is not None and kept.is_owner:
            metrics.UNHEARD_SECONDS.inc(began - kept.state.lost_at)
        kept.was_attached = True
        # Who had no way to hear it has not been silent.
        self._leash.change(kept, calls.attached(calls.active(kept.state, began)))
        self._leash.tell("call.attached", kept)
        kept.sender = sender = Sender(socket)
        self._leash.steward.begin(kept, began)
        self._leash.look_at(kept)
        try:
            async for text in texts_of(socket):
                self._take(kept, text)
        finally:
            kept.sender = None
            await sender.stop()
            await socket.close()
            if kept.state.phase is Phase.ATTACHED:
                self._leash.change(kept, calls.lost(kept.state, time.monotonic()))
                self._leash.tell("call.lost", kept)
                self._leash.look_at(kept)
        return time.monotonic() - began > _STABLE_S

    def _take(self, kept: Kept, text: str) -> None:
        """Take one event of a sideband."""
        if (event := read_event(text)) is None:
            return
        usage = kept.meter.read(event, time.time())
        if usage is not None:
            pricing = kept.reach.pricing if kept.reach is not None else None
            cost = self._charge(kept.call, usage, pricing)
            self._leash.change(kept, calls.charged(kept.state, usage.tokens, cost))
            if self._leash.witness is not None:
                self._leash.witness.used(kept, usage, cost)
            if kept.is_owner:
                metrics.count_usage(kept.call, usage.tokens, cost)
            self._leash.tell("call.usage", kept)
        speaking = kept.state.speaking
        if (kind := event.get("type")) in ACTIVITY:
            self._leash.change(kept, calls.heard(kept.state, str(kind), time.monotonic()))
        is_to_be_looked_at = usage is not None or kept.state.speaking != speaking
        if self._leash.steward.take(kept, event, time.monotonic()) or is_to_be_looked_at:
            self._leash.look_at(kept)
