"""A session lock: the members of a call's session that its caller may not change. Pure.

A lock is a part of a session in the current API's shape (OpenAI: RealtimeSessionCreateRequestGA)
that says for each member what is allowed:

- a value: this one alone. Members of an object that the lock does not name are free, but for
  objects in lists, such as ``tools``: there nobody may add any.
- ``{"min": NUMBER, "max": NUMBER}``, or one of the two: a number in between.
- ``{"one_of": [...]}``: what any of these allows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ringback.sessionrules import SessionLockError, check, is_allowed, nearest

# A label carries the lock of a call through Envoy; instructions are rarely longer than some kB.
MAX_LOCK_BYTES: Final = 64 * 1024
TRANSCRIPTION: Final = "transcription"
_AUDIO: Final = "audio"
_DIRECTIONS: Final = ("input", "output")
# What a session is, and what providers let nobody change.
_NOT_LOCKABLE: Final = frozenset({"type", "object", "id", "expires_at", "model"})
# A stored prompt brings instructions and tools of its own.
_PROMPT: Final = ("prompt",)
_IN_PROMPTS: Final = frozenset({"instructions", "tools"})

Member = tuple[str, ...]
"""What ``session.update`` replaces as a whole: ``("tools",)``, ``("audio", "output", "voice")``."""


@dataclass(frozen=True, slots=True)
class SessionLock:
    """What sessions of a call have to be.

    Attributes:
        allowed: What is allowed, by member; `parse_lock` has checked it.
    """

    allowed: Mapping[Member, Any] = field(default_factory=dict, hash=False)

    def __bool__(self) -> bool:
        return bool(self.allowed)

    def __or__(self, other: "SessionLock") -> "SessionLock":
        """Return both; where both name a member, the left one holds."""
        return SessionLock({**other.allowed, **self.allowed})

    def corrections(self, session: Mapping[str, Any]) -> dict[Member, Any]:
        """Return what has to change so that the lock holds; nothing if it does.

        What is absent is not as the lock wants it. Transcription sessions have no model that
        could be told anything: no lock holds for them.

        Args:
            session: As a provider shows it or as it is to be asked for.
        """
        if session.get("type") == TRANSCRIPTION:
            return {}
        found = {}
        for member, allowed in self.allowed.items():
            shown = shown_at(session, member)
            if not is_allowed(allowed, shown):
                found[member] = nearest(allowed, shown)
        return found

    def values(self) -> dict[Member, Any]:
        """Return a value that is allowed for each member; no stored prompt is none to ask for."""
        return {
            member: nearest(allowed, None)
            for member, allowed in self.allowed.items()
            if member != _PROMPT or allowed is not None
        }

    def held(self, session: Mapping[str, Any]) -> dict[str, Any]:
        """Return a session that is to be asked for, as the lock wants it."""
        if session.get("type") == TRANSCRIPTION:
            return dict(session)
        # Defaults are the provider's: what has one value is written out.
        values = {
            member: allowed
            for member, allowed in self.allowed.items()
            if not isinstance(allowed, Mapping) and (member != _PROMPT or allowed is not None)
        }
        held = dict(session)
        for (*path, name), value in {**values, **self.corrections(session)}.items():
            place = held
            for step in path:
                below = place.get(step)
                place[step] = place = dict(below) if isinstance(below, Mapping) else {}
            place[name] = value
        return held

    def to_json(self) -> str:
        """Return the text that `parse_lock_text` reads."""
        return json.dumps(self.to_object(), ensure_ascii=False, separators=(",", ":"))

    def to_object(self) -> dict[str, Any]:
        """Return what `parse_lock` reads."""
        return as_session(self.allowed)


NO_LOCK: Final = SessionLock()


def parse_lock(content: Any) -> SessionLock:
    """Return the lock that a part of a session is; None is none.

    Args:
        content: As JSON has it.

    Raises:
        SessionLockError: If it is no such part, or too long.
    """
    if content is None:
        return NO_LOCK
    if not isinstance(content, dict):
        raise SessionLockError("", "expected an object, a part of a session")
    check(content, "", 1)
    members = {}
    for name, value in content.items():
        if name in _NOT_LOCKABLE:
            raise SessionLockError(name, "cannot be locked; remove it")
        if name == _AUDIO:
            members.update(_audio_members(value))
        else:
            members[name,] = value
    if any((name,) in members for name in _IN_PROMPTS):
        members.setdefault(_PROMPT, None)
    lock = SessionLock(members)
    if len(lock.to_json().encode()) > MAX_LOCK_BYTES:
        raise SessionLockError("", f"has more than {MAX_LOCK_BYTES} bytes; shorten it")
    return lock


def parse_lock_text(text: str) -> SessionLock:
    """Return the lock in a JSON text; an empty one is none.

    Raises:
        SessionLockError: As `parse_lock`.
    """
    if not text:
        return NO_LOCK
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise SessionLockError("", "is not JSON") from None
    return parse_lock(content)


def shown_at(session: Mapping[str, Any], member: Member) -> Any:
    """Return what a session has at a member; None if it is absent."""
    value: Any = session
    for name in member:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def as_session(members: Mapping[Member, Any]) -> dict[str, Any]:
    """Return the part of a session that holds these members."""
    session: dict[str, Any] = {}
    for (*path, name), value in members.items():
        place = session
        for step in path:
            place = place.setdefault(step, {})
        place[name] = value
    return session


def _audio_members(audio: Any) -> dict[Member, Any]:
    if not isinstance(audio, dict) or not audio.keys() <= set(_DIRECTIONS):
        raise SessionLockError(_AUDIO, "expected `input`, `output` or both, and nothing else")
    members: dict[Member, Any] = {}
    for direction, values in audio.items():
        if not isinstance(values, dict):
            raise SessionLockError(f"{_AUDIO}.{direction}", "expected an object")
        members |= {(_AUDIO, direction, name): value for name, value in values.items()}
    return members
