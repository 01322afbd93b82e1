from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from extauthz.errors import (
    AuthError,
    KeyBlockedError,
    KeyExpiredError,
    ModelDeniedError,
    UnknownKeyError,
)
from extauthz.keys import VirtualKey
from extauthz.policy import check_key, check_model

EXPIRES = datetime(2027, 1, 31, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
KEY = VirtualKey("ab" * 32, "web")


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
        pytest.param(replace(KEY, is_master=True), EXPIRES, None, id="master"),
    ],
)
def test_a_key_is_valid_or_refused(
    key: VirtualKey | None, now: datetime, error: type[AuthError] | None
) -> None:
    """A key is valid if it is known, not blocked, and its time is not over."""
    if error is None:
        check_key(key, now)
    else:
        with pytest.raises(error):
            check_key(key, now)


@pytest.mark.parametrize(
    ("models", "names", "admitted"),
    [
        # Realistic
        pytest.param((), ("voice",), True, id="no-list"),
        pytest.param(("*",), ("voice",), True, id="star"),
        pytest.param(("all-proxy-models",), ("voice",), True, id="all-proxy-models"),
        pytest.param(("chat", "voice"), ("voice",), True, id="exact"),
        pytest.param(("chat",), ("voice",), False, id="not-listed"),
        pytest.param(("fast",), ("voice", "fast"), True, id="alias-listed"),
        pytest.param(("voice",), ("voice", "fast"), True, id="target-listed"),
        pytest.param(("chat",), ("voice", "fast"), False, id="neither-listed"),
        # Pathological
        pytest.param(("voice-*",), ("voice-2",), False, id="no-wildcards"),
        pytest.param(("Voice",), ("voice",), False, id="case"),
        pytest.param(("",), ("voice",), False, id="empty-entry"),
        pytest.param(("no-default-models",), ("voice",), False, id="no-default-models"),
        pytest.param(("all-team-models",), ("voice",), False, id="all-team-models"),
    ],
)
def test_a_list_admits_models(
    models: tuple[str, ...], names: tuple[str, ...], admitted: bool
) -> None:
    """An empty list and its words for all admit everything, any other list what it names."""
    key = replace(KEY, models=models)
    check_model(replace(key, is_master=True), *names)
    if admitted:
        check_model(key, *names)
    else:
        with pytest.raises(ModelDeniedError):
            check_model(key, *names)
