"""One call that is kept, as the keeper of calls has it in its hands."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from callkeeper.calls import CallState, Reason
from callkeeper.meter import Meter
from callkeeper.model import Call, Usage
from callkeeper.prices import PricedDeployment
from callkeeper.reach import Reach
from callkeeper.sender import Sender
from callkeeper.sessionguard import SessionGuard


@dataclass(eq=False, slots=True)
class Kept:
    """One call that is kept.

    Attributes:
        guard: Holds its session lock, if it has one.
        sender: Speaks on its sideband, once that was attached.
        is_answering: Whether the model is making a response.
        is_owner: Whether this replica decides about it; else it only listens, beside another one.
        since: From when on it does either; on the clock of the state.
    """

    call: Call
    handle: str
    sealed_key: str = field(repr=False)
    state: CallState
    meter: Meter = field(default_factory=Meter)
    reach: Reach | None = None
    guard: SessionGuard | None = None
    sender: Sender | None = None
    is_answering: bool = False
    was_attached: bool = False
    is_owner: bool = True
    since: float = field(default_factory=time.monotonic)
    listener: asyncio.Task[None] | None = None
    ender: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    def stop(self) -> list[asyncio.Task[None]]:
        """Do nothing about it any more; returns tasks that are about to end."""
        if self.timer is not None:
            self.timer.cancel()
        tasks = [task for task in (self.listener, self.ender) if task is not None]
        for task in tasks:
            task.cancel()
        self.timer = self.listener = self.ender = None
        return tasks


class Witness(Protocol):
    """Is told by the keeper of calls what happens; waits for nothing."""

    def changed(self, kept: Kept) -> None:
        """Note that a call has come to another phase; it may have ended."""

    def used(self, kept: Kept, usage: Usage, cost_microdollars: int) -> None:
        """Note what a call has used."""


Charge = Callable[[Call, Usage, PricedDeployment | None], int]
"""Books what a call has used at a deployment; returns its cost in micro-dollars."""

Verdict = Callable[[Kept], Reason | None]
"""Tells why a call has to end for reasons outside of it, if it has to."""


def new_id() -> str:
    """Return an id for a call."""
    return uuid.uuid4().hex


def facts_of(kept: Kept) -> dict[str, Any]:
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
