import json
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.keys import Budget, VirtualKey
from extauthz.keys.postgrestables import JOINS, KEY
from extauthz.keys.records import parse_key, parse_owners
from extauthz.keys.rowvalues import BadRowError

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "a" * 64
EAST = timezone(timedelta(hours=2))
COLUMNS = sorted(f"{source.alias}_{name}" for source in (KEY, *JOINS) for name in source.columns)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("budget_duration", "max_budget", "reset_at", "budget_limit", "a"),
                    *("model_rpm_limit", "temp_budget_increase", "temp_budget_expiry"),
                    *("ringback_sdp_policy", "ringback_max_call_cost", "scim_active"),
                    "ringback_session_lock",
                ]
            ),
            inner | st.sampled_from(["1d", "99999mo", "0001-01-01T00:00:00", "2026-11-22"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
VALUES = (
    JSON
    | JSON.map(json.dumps)
    | st.datetimes()
    | st.datetimes(timezones=st.just(timezone(timedelta(hours=14))))
    | st.lists(st.text(max_size=3), max_size=3)
    | st.decimals()
    | st.binary(max_size=5)
)


@given(st.dictionaries(st.sampled_from([*COLUMNS, "proxy_spend"]), VALUES, max_size=12))
def test_whatever_a_row_holds_it_is_a_key_or_refused(row: dict[str, Any]) -> None:
    """No value of any column leads to anything but a key with sound numbers, or a refusal."""
    with suppress(BadRowError):
        key = parse_key({**row, "key_token": TOKEN}, NOW)
        scopes = (key.team_scope, key.member, key.user_scope, key.organization, key.project)
        budgets = [key.budget, *key.model_budgets.values(), *(w.budget for w in key.windows)]
        budgets += [scope.budget for scope in scopes if scope is not None]
        for budget in budgets:
            assert not math.isnan(budget.spend)
            assert not math.isnan(budget.limit or 0)
            assert not math.isnan(budget.increase)
        assert key.expires is None or key.expires.utcoffset() == timedelta(0)
    with suppress(BadRowError):
        parse_owners(row, NOW)


def test_a_row_without_a_hash_is_no_key() -> None:
    """A key has to have the hash under which it was found."""
    with pytest.raises(BadRowError, match="key_token"):
        parse_key({}, NOW)


def test_a_time_that_is_none_in_utc_is_refused() -> None:
    """The first hours of the calendar, east of Greenwich, came before it in UTC."""
    with pytest.raises(BadRowError, match="key_expires"):
        parse_key({"key_token": TOKEN, "key_expires": datetime(1, 1, 1, tzinfo=EAST)}, NOW)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"key_spend": Decimal("1.25"), "key_max_budget": Decimal(2)}, Budget(1.25, 2)),
        ({"key_max_budget": 0.0, "key_budget_max_budget": 5.0}, Budget(0, 0)),
        ({"key_max_budget": math.inf, "key_budget_max_budget": 5.0}, Budget(0, None)),
        (
            {
                "key_max_budget": 1.0,
                "key_metadata": '{"temp_budget_increase": 0, "temp_budget_expiry": "2099-01-01"}',
            },
            Budget(0, 1),
        ),
        ({"key_metadata": '{"temp_budget_increase": 5}'}, Budget(0, None, 5, None)),
        (
            {"key_metadata": '{"temp_budget_increase": 5, "temp_budget_expiry": "2099-01-01"}'},
            Budget(0, None, 5, datetime(2099, 1, 1, tzinfo=UTC)),
        ),
    ],
    ids=["numeric columns", "own 0", "own infinity", "increase 0", "no expiry", "a day"],
)
def test_budgets_of_keys(row: dict[str, Any], expected: Budget) -> None:
    """A key's own budget comes first; an increase without an expiry holds at no time."""
    assert parse_key({"key_token": TOKEN, **row}, NOW).budget == expected


def test_a_row_of_a_plain_key() -> None:
    """Columns that a database lacks are like NULL."""
    assert parse_key({"key_token": TOKEN}, NOW) == VirtualKey(TOKEN)
