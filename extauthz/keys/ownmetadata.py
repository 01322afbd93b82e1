"""What we read of the metadata of keys and teams: ``ringback_...``, which LiteLLM ignores. Pure."""

from collections.abc import Mapping
from typing import Any

from extauthz.keys.postgrestables import CALL_LIMITS
from extauthz.keys.rowvalues import BadRowError, parse_count, parse_positive, parse_text
from ringback.calllimits import CallLimits, microdollars
from ringback.sessionlock import SessionLock, parse_lock
from ringback.sessionrules import SessionLockError


def parse_sdp_policy(metadata: Mapping[str, Any], owner: str) -> str | None:
    """Return the name of an SDP policy for all calls.

    Args:
        metadata: Of a key or a team.
        owner: ``key`` or ``team``, for errors.

    Raises:
        BadRowError: If it is none.
    """
    place = f"{owner}_metadata.ringback_sdp_policy"
    return parse_text(metadata.get("ringback_sdp_policy"), place)


def join_policies(*policies: str | None) -> str | None:
    """Return the names of all policies; the call is held to each of them."""
    return ",".join(dict.fromkeys(name for name in policies if name)) or None


def parse_own_count(metadata: Mapping[str, Any], name: str) -> int | None:
    """Return a number that LiteLLM has no word for, from a key's metadata.

    Args:
        metadata: The key's.
        name: Without ``ringback_``.

    Raises:
        BadRowError: If it is no whole number.
    """
    name = f"ringback_{name}"
    return parse_count(metadata.get(name), f"key_metadata.{name}")


def parse_call_limits(metadata: Mapping[str, Any], owner: str) -> CallLimits:
    """Return what each call is held to.

    Args:
        metadata: As of `parse_sdp_policy`.
        owner: Likewise.

    Raises:
        BadRowError: If a limit is no number above 0.
    """
    duration, idle, cost = (
        parse_positive(metadata.get(name), f"{owner}_metadata.{name}") for name in CALL_LIMITS
    )
    return CallLimits(None, duration, idle, microdollars(cost))


def parse_session_lock(metadata: Mapping[str, Any], owner: str) -> SessionLock:
    """Return what callers cannot change of their sessions.

    Args:
        metadata: As of `parse_sdp_policy`.
        owner: Likewise.

    Raises:
        BadRowError: If it is no session lock.
    """
    try:
        return parse_lock(metadata.get("ringback_session_lock"))
    except SessionLockError as error:
        place = f"{owner}_metadata.ringback_session_lock"
        raise BadRowError(place, f"a session lock; {error.problem}") from None
