import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callkeeper.sinks.windows import Window, parse_windows

_NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
_RESET = "2026-12-01T00:00:00+00:00"


def _limit(duration: Any, reset_at: Any = _RESET) -> dict[str, Any]:
    return {"budget_duration": duration, "max_budget": 5, "reset_at": reset_at}


@pytest.mark.parametrize(
    ("limit", "begin"),
    [
        # Realistic
        pytest.param(_limit("24h"), datetime(2026, 11, 30, tzinfo=UTC), id="day"),
        pytest.param(_limit("7d"), datetime(2026, 11, 24, tzinfo=UTC), id="week"),
        pytest.param(
            _limit("30m", "2026-11-30T12:10:00Z"),
            datetime(2026, 11, 30, 11, 40, tzinfo=UTC),
            id="z",
        ),
        pytest.param(
            _limit("2h", "2026-11-30T13:00:00"), datetime(2026, 11, 30, 11, tzinfo=UTC), id="naive"
        ),
    ],
)
def test_windows_begin_their_length_before_the_reset(
    limit: dict[str, Any], begin: datetime
) -> None:
    """As LiteLLM has it, also where the list is stored as a string."""
    window = Window(limit["budget_duration"], begin, timedelta(0))
    assert list(parse_windows(json.dumps([limit]), _NOW)) == [window]
    assert list(parse_windows(json.dumps(json.dumps([limit])), _NOW)) == [window]


def test_months_are_as_long_as_the_one_that_begins_now() -> None:
    """LiteLLM's month; rows that began some days earlier are of the same window."""
    (window,) = parse_windows(json.dumps([_limit("1mo")]), _NOW)
    assert window.begin == datetime(2026, 11, 1, tzinfo=UTC)
    assert window.slack == timedelta(days=4)
    (window,) = parse_windows(json.dumps([_limit("3mo")]), _NOW)
    assert window.begin == datetime(2026, 9, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "limits",
    [
        None,
        "null",
        "{}",
        '"no JSON"',
        "[1, null]",
        json.dumps([_limit("1y"), _limit(5), _limit("1d", None), _limit("1d", "tomorrow")]),
        json.dumps([_limit("999999999w"), _limit("999999999mo")]),
    ],
)
def test_what_is_no_window_is_passed_over(limits: str | None) -> None:
    """Sliding windows, too: LiteLLM keeps no rows for them."""
    assert list(parse_windows(limits, _NOW)) == []
