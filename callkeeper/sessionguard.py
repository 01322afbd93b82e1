"""Holds the session lock of one call: events of its sideband in, events for it out. Pure.

looking --> settled          the session is as the lock wants it
looking --> correcting       it is not: what differs is put back
settled --> correcting       its caller has changed it: a violation
correcting --> settled       it is right again, or what the provider makes of it is known

A provider may write a value in its own way, and must not be corrected for ever. It answers each
``session.update`` with one ``session.updated``. So if exactly one came after a correction, and in
it only what was corrected differs, then this is how the provider writes it: what it shows is right
from then on. If more came, the caller changed something meanwhile, and it is corrected once more.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from callkeeper.calls import Reason
from ringback.sessionlock import Member, SessionLock, as_session, shown_at

Event = dict[str, Any]

# Providers answer within a fraction of a second.
_SETTLE_S: Final = 3.0
# How often the same is asked for in vain.
_MAX_TRIES: Final = 3
_VOICE: Final = ("audio", "output", "voice")
_MAX_OUTPUT: Final = ("max_output_tokens",)
_TOOLS: Final = ("tools",)
# The provider's refusal once the voice has been heard: from then on nobody can change it.
_VOICE_IS_FIXED: Final = "cannot_update_voice"
_CALLS: Final[Mapping[object, str]] = {"function_call": "name", "mcp_call": "server_label"}

UPDATED: Final = "session.updated"
ERROR: Final = "error"
BEGUN: Final = "response.created"
DONE: Final = "response.done"


@dataclass(slots=True)
class _Asked:
    """A ``session.update`` of ours that is under way.

    Attributes:
        id: Of the event.
        at: When it was sent, in seconds of the guard's clock.
        members: What it corrects; nothing if it only asks how the session is.
        wrong: What differed in the last ``session.updated`` since, as it has to be.
        shown: The same as the provider showed it.
        count: How many such there were.
    """

    id: str
    at: float
    members: Mapping[Member, Any]
    wrong: Mapping[Member, Any]
    shown: Mapping[Member, Any]
    count: int = 0


class SessionGuard:
    """Sees to it that a session stays as its lock wants it.

    Args:
        lock: What the session has to be.
        max_violations: With so many the call ends.
    """

    __slots__ = (
        "_asked",
        "_is_voice_fixed",
        "_lock",
        "_max_violations",
        "_name",
        "_number",
        "_tries",
        "_written",
        "reason",
        "violations",
    )

    def __init__(self, lock: SessionLock, max_violations: int) -> None:
        self.reason: Reason | None = None
        """Why the call has to end; None if it may go on."""
        self.violations = 0
        self._lock = lock
        self._max_violations = max_violations
        self._asked: _Asked | None = None
        self._written: dict[Member, Any] = {}
        self._is_voice_fixed = False
        self._tries = self._number = 0
        # So that no caller can send an event that is refused in the place of ours.
        self._name = secrets.token_hex(4)

    @property
    def due_at(self) -> float | None:
        """When `due` is to be asked; None if not at all."""
        return None if self._asked is None else self._asked.at + _SETTLE_S

    def attached(self, now: float) -> list[Event]:
        """Begin, or begin again: nobody knows what the caller did before.

        An attached sideband is not told how the session is, so this asks for it.
        """
        self._tries = 0
        return [self._ask({}, now)]

    def read(self, event: Mapping[str, Any], now: float) -> list[Event]:
        """Take an event; return what is to be sent."""
        match event.get("type"):
            case "session.updated":
                return self._see(_mapping(event.get("session")), now)
            case "error":
                return self._hear_refusal(_mapping(event.get("error")), now)
            case "response.created":
                return self._see_response(_mapping(event.get("response")))
            case "response.done":
                self._see_calls(_mapping(event.get("response")))
        return []

    def due(self, now: float) -> list[Event]:
        """Take it that no more answers come to what was asked; return what is to be sent."""
        asked = self._asked
        if asked is None or now < asked.at + _SETTLE_S:
            return []
        if asked.count == 0:
            return self._ask_again(asked.members, now)
        if asked.count == 1 and asked.wrong.keys() <= asked.members.keys():
            self._written.update(asked.shown)
            self._settle()
            return []
        return self._violated(asked.wrong, now)

    def _see(self, session: Mapping[str, Any], now: float) -> list[Event]:
        wrong = self._lock.corrections(session)
        for member in self._written.keys() - wrong.keys():
            # It does show the lock's own value, so no other one can mean the same.
            del self._written[member]
        wrong = self._unexpected(wrong, session)
        if not wrong:
            self._settle()
            return []
        asked = self._asked
        if asked is None:
            return self._violated(wrong, now)
        if not asked.members:
            # The provider may write what was asked for at the beginning in its own way.
            return [self._ask(wrong, now)]
        asked.count += 1
        asked.wrong = wrong
        asked.shown = {member: shown_at(session, member) for member in wrong}
        return []

    def _unexpected(
        self, wrong: Mapping[Member, Any], session: Mapping[str, Any]
    ) -> dict[Member, Any]:
        """Return of what differs what is not the provider's way of writing it, nor past help."""
        return {
            member: value
            for member, value in wrong.items()
            if not (self._is_voice_fixed and member == _VOICE)
            and not (member in self._written and self._written[member] == shown_at(session, member))
        }

    def _hear_refusal(self, error: Mapping[str, Any], now: float) -> list[Event]:
        asked = self._asked
        if asked is None or error.get("event_id") != asked.id:
            return []
        if error.get("code") != _VOICE_IS_FIXED or _VOICE not in asked.members:
            return self._ask_again(asked.members, now)
        self._is_voice_fixed = True
        left = {member: value for member, value in asked.members.items() if member != _VOICE}
        if left:
            return [self._ask(left, now)]
        self._settle()
        return []

    def _see_response(self, response: Mapping[str, Any]) -> list[Event]:
        """Cancel a response that was asked for with more than the session may have."""
        shown = {_MAX_OUTPUT: response.get("max_output_tokens"), _VOICE: shown_at(response, _VOICE)}
        # Only what both write alike.
        known = {name: value for name, value in shown.items() if isinstance(value, int | str)}
        part = as_session(known)
        if not self._unexpected(self._lock.corrections(part), part).keys() & known.keys():
            return []
        if self._asked is None:
            self._count()
        return [{"type": "response.cancel", "response_id": response.get("id")}]

    def _see_calls(self, response: Mapping[str, Any]) -> None:
        """Count the calls of tools that the lock does not know: somebody has added them."""
        tools, output = self._lock.allowed.get(_TOOLS), response.get("output")
        if not isinstance(tools, list) or not isinstance(output, list):
            return
        for item in map(_mapping, output):
            name = _CALLS.get(item.get("type"))
            if name and item.get(name) not in [_mapping(tool).get(name) for tool in tools]:
                self._count()
                return

    def _violated(self, wrong: Mapping[Member, Any], now: float) -> list[Event]:
        self._count()
        return [] if self.reason else [self._ask(wrong, now)]

    def _count(self) -> None:
        self.violations += 1
        if self.violations >= self._max_violations:
            self.reason = self.reason or Reason.POLICY_VIOLATION

    def _ask_again(self, members: Mapping[Member, Any], now: float) -> list[Event]:
        self._tries += 1
        if self._tries > _MAX_TRIES:
            self._asked = None
            self.reason = self.reason or Reason.SESSION_NOT_LOCKED
            return []
        # Who does not say how the session is, is told all of it.
        return [self._ask(members or self._lock.values(), now)]

    def _ask(self, members: Mapping[Member, Any], now: float) -> Event:
        self._number += 1
        event_id = f"ringback_{self._name}_{self._number}"
        self._asked = _Asked(event_id, now, members, {}, {})
        session = {"type": "realtime", **as_session(members)}
        return {"event_id": event_id, "type": "session.update", "session": session}

    def _settle(self) -> None:
        self._asked = None
        self._tries = 0


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
