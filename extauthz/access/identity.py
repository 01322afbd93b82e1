"""Whether a key is one at all: known, not blocked, not expired, and of someone who is not."""

from datetime import datetime

from extauthz.access.errors import (
    KeyBlockedError,
    KeyExpiredError,
    ProjectBlockedError,
    TeamBlockedError,
    TeamUnknownError,
    UnknownKeyError,
    UserInactiveError,
)
from extauthz.keys.model import VirtualKey


def check_key(key: VirtualKey | None, now: datetime) -> None:
    """Check that a key is known, not blocked, of an active user and not expired, in this order.

    Args:
        key: What a `KeySource` found.
        now: The current time, with a time zone.

    Raises:
        UnknownKeyError: If there is no such key: 401.
        KeyBlockedError: If it is blocked: 401.
        UserInactiveError: If SCIM has deactivated its user: 401. A user that nobody knows is no
            mistake, as in LiteLLM.
        KeyExpiredError: If its time is over; the moment of ``expires`` is no longer valid: 401.
    """
    if key is None:
        raise UnknownKeyError
    if key.blocked:
        raise KeyBlockedError
    if key.user_scope is not None and key.user_scope.blocked:
        raise UserInactiveError
    if key.expires is not None and now >= key.expires:
        raise KeyExpiredError(key.expires)


def check_owners(key: VirtualKey) -> None:
    """Check that the team and the project of a key exist and are not blocked.

    Args:
        key: A key that has passed `check_key`.

    Raises:
        TeamUnknownError: If the team is gone: 404.
        TeamBlockedError: If the team is blocked: 401.
        ProjectBlockedError: If the project is blocked: 401.
    """
    if key.team_scope is not None:
        if not key.team_scope.exists:
            raise TeamUnknownError
        if key.team_scope.blocked:
            raise TeamBlockedError
    if key.project is not None and key.project.blocked:
        raise ProjectBlockedError
