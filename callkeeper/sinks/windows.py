"""Budget windows of LiteLLM: where the current one begins. Pure."""

import calendar
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

_DURATION: Final = re.compile(r"([0-9]{1,9})(mo|[smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# LiteLLM takes a month to be as long as the one that begins now, so its windows move a little.
_MONTHS_DIFFER: Final = timedelta(days=4)


@dataclass(frozen=True, slots=True)
class Window:
    """A budget that starts anew again and again.

    Attributes:
        duration: As configured: ``24h``.
        begin: When the current one has begun.
        slack: How much earlier a row may say that it began and still be of this window.
    """

    duration: str
    begin: datetime
    slack: timedelta


def parse_windows(limits: str | None, now: datetime) -> Iterator[Window]:
    """Yield the windows of ``budget_limits`` of a key or a team.

    Those without a time of reset slide, and LiteLLM keeps no rows for them; what makes no sense is
    passed over, as LiteLLM does.

    Args:
        limits: JSON: a list of objects with ``budget_duration`` and ``reset_at``.
        now: The current time.
    """
    try:
        found = json.loads(limits) if limits else None
        # Some versions of LiteLLM store JSON in a string.
        found = json.loads(found) if isinstance(found, str) else found
    except (ValueError, RecursionError):
        return
    for limit in found if isinstance(found, list) else ():
        if isinstance(limit, dict) and (window := _window(limit, now)) is not None:
            yield window


def _window(limit: dict[str, Any], now: datetime) -> Window | None:
    duration, reset_at = limit.get("budget_duration"), limit.get("reset_at")
    parsed = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if parsed is None or not isinstance(reset_at, str):
        return None
    number, unit = int(parsed[1]), parsed[2]
    try:
        end = datetime.fromisoformat(reset_at)
        end = end if end.tzinfo else end.replace(tzinfo=UTC)
        length = _months(number, now) if unit == "mo" else timedelta(seconds=number * _UNIT_S[unit])
        slack = _MONTHS_DIFFER * number if unit == "mo" else timedelta(0)
        return Window(parsed[0], end.astimezone(UTC) - length, slack)
    except (ValueError, OverflowError):
        return None


def _months(number: int, now: datetime) -> timedelta:
    """Return the time until the same day so many months later, as LiteLLM does."""
    month = now.month - 1 + number
    year, month = now.year + month // 12, month % 12 + 1
    day = min(now.day, calendar.monthrange(year, month)[1])
    return now.replace(year=year, month=month, day=day) - now
