from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from extauthz.access import check_key, check_owners
from extauthz.access.errors import (
    KeyBlockedError,
    KeyExpiredError,
    ProjectBlockedError,
    TeamBlockedError,
    TeamUnknownError,
    UnknownKeyError,
    UserInactiveError,
)
from extauthz.errors import AuthError
from extauthz.keys import Scope, VirtualKey

EXPIRES = datetime(2027, 1, 31, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
KEY = VirtualKey("ab" * 32, "web")
INACTIVE = Scope("u", blocked=True)


@pytest.mark.parametrize(
    ("key", "now", "error"),
    [
        # Realistic
        pytest.param(KEY, EXPIRES, None, id="never-expires"),
        pytest.param(None, EXPIRES, UnknownKeyError, id="unknown"),
        pytest.param(replace(KEY, blocked=True), EXPIRES, KeyBlockedError, id="blocked"),
        pytest.param(
            replace(KEY, expires=EXPIRES), EXPIRES - timedelta(days=1), None, id="not-yet"
        ),
        pytest.param(
            replace(KEY, expires=EXPIRES), EXPIRES + timedelta(days=1), KeyExpiredError, id="over"
        ),
        # Synthetic
        pytest.param(replace(KEY, expires=EXPIRES), EXPIRES - MOMENT, None, id="last-moment"),
        pytest.param(replace(KEY, expires=EXPIRES), EXPIRES, KeyExpiredError, id="boundary"),
        pytest.param(
            replace(KEY, expires=EXPIRES),
            EXPIRES.astimezone(timezone(timedelta(hours=-8))),
            KeyExpiredError,
            id="boundary-in-another-zone",
        ),
        pytest.param(
            replace(KEY, expires=EXPIRES, blocked=True),
            EXPIRES,
            KeyBlockedError,
            id="blocked-before-expired",
        ),
        pytest.param(
            replace(KEY, user_scope=INACTIVE), EXPIRES, UserInactiveError, id="user-inactive"
        ),
        pytest.param(
            replace(KEY, user_scope=INACTIVE, blocked=True),
            EXPIRES,
            KeyBlockedError,
            id="blocked-before-inactive",
        ),
        pytest.param(
            replace(KEY, user_scope=INACTIVE, expires=EXPIRES),
            EXPIRES,
            UserInactiveError,
            id="inactive-before-expired",
        ),
        pytest.param(
            replace(KEY, user_scope=Scope("u", exists=False)), EXPIRES, None, id="user-unknown"
        ),
        pytest.param(replace(KEY, is_master=True), EXPIRES, None, id="master"),
    ],
)
def test_a_key_is_valid_or_refused(
    key: VirtualKey | None, now: datetime, error: type[AuthError] | None
) -> None:
    """A key is valid if it is known, not blocked, of an active user, and its time is not over."""
    if error is None:
        check_key(key, now)
    else:
        with pytest.raises(error):
            check_key(key, now)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        # Realistic
        pytest.param(KEY, None, id="personal"),
        pytest.param(replace(KEY, team="t", team_scope=Scope("t")), None, id="team"),
        pytest.param(
            replace(KEY, team_scope=Scope("t", exists=False)), TeamUnknownError, id="team-gone"
        ),
        pytest.param(
            replace(KEY, team_scope=Scope("t", blocked=True)), TeamBlockedError, id="team-blocked"
        ),
        pytest.param(
            replace(KEY, project=Scope("p", blocked=True)), ProjectBlockedError, id="project"
        ),
        # Synthetic
        pytest.param(
            replace(KEY, team_scope=Scope("t", blocked=True), project=Scope("p", blocked=True)),
            TeamBlockedError,
            id="team-before-project",
        ),
        pytest.param(
            replace(KEY, team_scope=Scope("t", blocked=True, exists=False)),
            TeamUnknownError,
            id="gone-before-blocked",
        ),
        pytest.param(replace(KEY, team="t"), None, id="a-source-without-teams"),
        pytest.param(replace(KEY, project=Scope("p", exists=False)), None, id="project-gone"),
        pytest.param(replace(KEY, organization=Scope("o", blocked=True)), None, id="organization"),
    ],
)
def test_a_key_is_as_good_as_its_team_and_project(
    key: VirtualKey, error: type[AuthError] | None
) -> None:
    """A key falls with its team, and with its project where that is blocked."""
    if error is None:
        check_owners(key)
    else:
        with pytest.raises(error):
            check_owners(key)
