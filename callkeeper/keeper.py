"""Keeps calls: one task listens to each, and one ends it. What is to be done, `calls` decides."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from callkeeper import calls, metrics
from callkeeper.backoff import wait_s
from callkeeper.calls import CallState, End, Limits, Phase, Reason, next_step
from callkeeper.egress import Egress, texts_of
from callkeeper.errors import NotThereError, ReachError, UncontrollableError, UpstreamError
from callkeeper.meter import ACTIVITY, HEEDED, Meter
from callkeeper.model import Call, Usage
from callkeeper.news import News
from callkeeper.prices import PricedDeployment
from callkeeper.reach import Reach, Reaches
from callkeeper.slots import Slots
from ringback.logs import describe, get_logger

# After a hangup the last events are on their way: the usage of what was being said, above all.
_LAST_EVENTS_S: Final = 2.0
# A sideband that lasts shorter than that was not worth attaching.
_STABLE_S: Final = 1.0
# A provider answers 404 for a call that its browser has not reached yet. So long after the answer
# one that was never attached may still come alive.
_MAY_COME_ALIVE_S: Final = 60.0
# No call lasts longer, whatever anybody does.
_GONE_AFTER_S: Final = 3900.0
# Cheaper than to parse what is not heeded; json.dumps and JSON.stringify agree but for the space.
_MARK: Final = re.compile(r'"type":\s?"(' + "|".join(map(re.escape, sorted(HEEDED))) + '")')

Charge = Callable[[Call, Usage, PricedDeployment | None], int]
"""Books what a call has used at a deployment; returns its cost in micro-dollars."""


@dataclass(eq=False, slots=True)
class Kept:
    """One call that is kept."""

    call: Call
    handle: str
    sealed_key: str = field(repr=False)
    state: CallState
    meter: Meter = field(default_factory=Meter)
    reach: Reach | None = None
    was_attached: bool = False
    listener: asyncio.Task[None] | None = None
    ender: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


class Keeper:
    """Keeps the calls of one worker.

    Args:
        limits: What every call is held to.
        reaches: Tells how providers are reached.
        egress: Reaches them.
        news: Is told what happens.
        charge: Books what was used.
        slots: Counts open calls.
    """

    def __init__(
        self,
        limits: Limits,
        reaches: Reaches,
        egress: Egress,
        news: News,
        charge: Charge,
        *,
        slots: Slots,
    ) -> None:
        self._limits = limits
        self._reaches = reaches
        self._egress = egress
        self._news = news
        self._charge = charge
        self._slots = slots
        self._kept: dict[str, Kept] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._handles: dict[str, str] = {}
        self._log = get_logger()

    def register(self, call: Call, handle: str, sealed_key: str) -> Call:
        """Keep a call from now on; returns the one that is kept if it was registered before.

        Raises:
            ValueError: If another call has its id.
        """
        name = (call.deployment, call.upstream_call_id)
        if (known := self._ids.get(name)) is not None:
            return self._kept[known].call
        if call.id in self._kept:
            raise ValueError("another call has this id")
        kept = Kept(call, handle, sealed_key, calls.opened(self._limits, time.monotonic()))
        self._kept[call.id] = kept
        self._ids[name] = self._handles[handle] = call.id
        self._slots.keep(call.id)
        metrics.OPEN_CALLS.inc()
        self._tell("call.started", kept)
        kept.listener = asyncio.create_task(self._listen(kept))
        self._look_at(kept)
        return call

    def find(self, name: str) -> Kept | None:
        """Return a call by its id or its handle."""
        return self._kept.get(self._handles.get(name, name))

    def __iter__(self) -> Iterator[Kept]:
        return iter(list(self._kept.values()))

    def end(self, kept: Kept, reason: Reason) -> None:
        """Begin to end a call; nothing happens if that has begun."""
        if not kept.state.is_open:
            return
        self._change(kept, calls.ending(kept.state, reason))
        kept.ender = asyncio.create_task(self._hang_up(kept))

    async def stop(self) -> None:
        """Let go of all calls. They go on at the provider."""
        tasks = [task for kept in self for task in (kept.listener, kept.ender) if task is not None]
        for kept in self:
            if kept.timer is not None:
                kept.timer.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _change(self, kept: Kept, state: CallState) -> None:
        before, kept.state = kept.state, state
        was, now = before.phase is Phase.ATTACHED, state.phase is Phase.ATTACHED
        metrics.ATTACHED_CALLS.inc(int(now) - int(was))

    def _look_at(self, kept: Kept) -> None:
        """Do what is to be done now, and look again when that changes."""
        if kept.timer is not None:
            kept.timer.cancel()
            kept.timer = None
        step = next_step(kept.state, now := time.monotonic())
        if isinstance(step, End):
            self.end(kept, step.reason)
        elif step.until is not None:
            loop = asyncio.get_running_loop()
            kept.timer = loop.call_later(step.until - now, self._look_at, kept)

    async def _listen(self, kept: Kept) -> None:
        """Stay attached to the sideband of a call until it ends."""
        tries = 0
        while kept.state.is_open:
            try:
                tries = 0 if await self._listen_once(kept) else tries + 1
            except NotThereError:
                metrics.ATTACH_FAILURES.labels("not_there").inc()
                if kept.was_attached or self._is_too_old_to_begin(kept):
                    self.end(kept, Reason.ENDED_ELSEWHERE)
                    return
                tries += 1
            except UncontrollableError:
                metrics.ATTACH_FAILURES.labels("uncontrollable").inc()
                self._log.error("call_uncontrollable", **_facts(kept))
                return
            except (UpstreamError, ReachError) as error:
                metrics.ATTACH_FAILURES.labels("failed").inc()
                if tries == 0:
                    self._log.warning("sideband_failed", reason=str(error), **_facts(kept))
                tries += 1
            except Exception as error:  # noqa: BLE001  whatever it is, the call must not be let go
                self._log.error("sideband_broke", **describe(error), **_facts(kept))
                tries += 1
            if tries and kept.state.is_open:
                await asyncio.sleep(wait_s(tries - 1))

    async def _listen_once(self, kept: Kept) -> bool:
        """Attach and listen; tell whether that lasted, so that the next try may come at once."""
        socket = await self._egress.attach(await self._reach(kept))
        began = time.monotonic()
        if not kept.was_attached:
            metrics.ATTACH_SECONDS.observe(began - kept.state.opened_at)
        kept.was_attached = True
        # Who had no way to hear it has not been silent.
        self._change(kept, calls.attached(calls.active(kept.state, began)))
        self._tell("call.attached", kept)
        self._look_at(kept)
        try:
            async for text in texts_of(socket):
                self._take(kept, text)
        finally:
            await socket.close()
            if kept.state.phase is Phase.ATTACHED:
                self._change(kept, calls.lost(kept.state, time.monotonic()))
                self._tell("call.lost", kept)
                self._look_at(kept)
        return time.monotonic() - began > _STABLE_S

    def _take(self, kept: Kept, text: str) -> None:
        """Take one event of a sideband."""
        if not _MARK.search(text):
            return
        event = _parse(text)
        usage = kept.meter.read(event, time.time())
        if usage is not None:
            pricing = kept.reach.pricing if kept.reach is not None else None
            cost = self._charge(kept.call, usage, pricing)
            self._change(kept, calls.charged(kept.state, usage.tokens, cost))
            metrics.count_tokens(usage.tokens)
            self._tell("call.usage", kept)
        if event.get("type") in ACTIVITY:
            self._change(kept, calls.active(kept.state, time.monotonic()))
        if usage is not None:
            self._look_at(kept)

    async def _hang_up(self, kept: Kept) -> None:
        """Hang up until the provider confirms, take the last events, and forget the call."""
        tries, deadline = 0, kept.state.opened_at + _GONE_AFTER_S
        while time.monotonic() < deadline:
            try:
                await self._egress.hang_up(await self._reach(kept))
                break
            except NotThereError:
                if kept.was_attached or self._is_too_old_to_begin(kept):
                    break
            except (UpstreamError, ReachError, UncontrollableError) as error:
                metrics.HANGUP_FAILURES.inc()
                self._log.warning("hangup_failed", reason=str(error), **_facts(kept))
            except Exception as error:  # noqa: BLE001  as above
                metrics.HANGUP_FAILURES.inc()
                self._log.error("hangup_broke", **describe(error), **_facts(kept))
            await asyncio.sleep(wait_s(tries))
            tries += 1
        else:
            metrics.HANGUPS_GIVEN_UP.inc()
            self._log.error("hangup_given_up", **_facts(kept))
        await self._finish(kept)

    def _is_too_old_to_begin(self, kept: Kept) -> bool:
        return time.monotonic() - kept.state.opened_at > _MAY_COME_ALIVE_S

    async def _finish(self, kept: Kept) -> None:
        self._slots.release(kept.call.id)
        if kept.listener is not None:
            await asyncio.wait([kept.listener], timeout=_LAST_EVENTS_S if kept.was_attached else 0)
            kept.listener.cancel()
        if kept.timer is not None:
            kept.timer.cancel()
        self._change(kept, calls.ended(kept.state))
        del self._kept[kept.call.id]
        del self._ids[kept.call.deployment, kept.call.upstream_call_id]
        del self._handles[kept.handle]
        metrics.OPEN_CALLS.dec()
        metrics.ENDED.labels(str(kept.state.reason)).inc()
        self._tell("call.ended", kept)

    async def _reach(self, kept: Kept) -> Reach:
        """Return how the provider is reached; the last answer if there is no new one.

        Raises:
            ReachError: If there never was one.
            UncontrollableError: If there is no way.
        """
        try:
            kept.reach = await self._reaches.of(kept.handle, kept.sealed_key)
        except ReachError:
            if kept.reach is None:
                raise
        return kept.reach

    def _tell(self, name: str, kept: Kept) -> None:
        self._news.tell(name, kept.call, kept.state)
        if name != "call.usage":
            self._log.info(name.replace(".", "_"), reason=kept.state.reason, **_facts(kept))


def new_id() -> str:
    """Return an id for a call."""
    return uuid.uuid4().hex


def _facts(kept: Kept) -> dict[str, Any]:
    """Return what logs may show of a call."""
    call = kept.call
    return {
        "call": call.id,
        "request_id": call.request_id,
        "deployment": call.deployment,
        "model": call.model,
        "key_alias": call.payer.key_alias,
        "team": call.payer.team_id,
    }


def _parse(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
