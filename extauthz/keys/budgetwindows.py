"""Budget windows: ``budget_limits``, and ``LiteLLM_BudgetWindowSpend``. Pure."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

from extauthz.keys.model import Budget, BudgetWindow
from extauthz.keys.rowvalues import (
    BadRowError,
    RowValues,
    parse_iso_time,
    parse_limit,
    parse_money,
    parse_text,
)

_DURATION: Final = re.compile(r"([0-9]{1,9})(mo|[smhdw])")
# No month is longer: what was spent in an older window is still left out.
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 31 * 86_400}
# Columns hold milliseconds.
_ROUNDING: Final = timedelta(seconds=1)


def parse_windows(values: RowValues, owner: str, now: datetime) -> tuple[BudgetWindow, ...]:
    """Return the budget windows of a row and what was spent in the current ones.

    LiteLLM keeps that in its cache, and newer versions in a table, too; a window
    without a row there has spent nothing.

    Args:
        values: Of a row.
        owner: ``key`` or ``team``.
        now: The current time, with a time zone.

    Raises:
        BadRowError: If a window or a row of the table is not what LiteLLM writes.
    """
    place = f"{owner}_budget_limits"
    windows = values.json(place) or []
    if not isinstance(windows, list):
        raise BadRowError(place, "a list of budgets")
    spent = [row for row in values.json("window_spend") or () if row["type"] == owner]
    parsed = (_window(window, owner, spent, now) for window in windows)
    return tuple(window for window in parsed if window is not None)


def _window(
    window: Any, owner: str, spent: list[dict[str, Any]], now: datetime
) -> BudgetWindow | None:
    place = f"{owner}_budget_limits"
    if not isinstance(window, dict):
        raise BadRowError(place, "a list of budgets")
    duration = parse_text(window.get("budget_duration"), f"{place}.budget_duration")
    limit = parse_limit(window.get("max_budget"), f"{place}.max_budget")
    if limit is None:
        return None
    if duration is None or (unit := _DURATION.fullmatch(duration)) is None:
        raise BadRowError(f"{place}.budget_duration", "a duration such as 24h or 30d")
    length = timedelta(seconds=min(int(unit[1]) * _UNIT_S[unit[2]], 10**9))
    end = parse_iso_time(window.get("reset_at"), f"{place}.reset_at")
    try:
        begin = (end or now) - length - _ROUNDING
    except OverflowError:
        raise BadRowError(f"{place}.reset_at", "a time of our era") from None
    spend = sum(
        parse_money(row["spend"], "window_spend.spend") or 0.0
        for row in spent
        if row["duration"] == duration
        and (parse_iso_time(row["start"], "window_spend.start") or now) >= begin
    )
    return BudgetWindow(
        duration,
        Budget(spend, limit),
        is_of_team=owner == "team",
        begin=None if end is None else begin,
    )
