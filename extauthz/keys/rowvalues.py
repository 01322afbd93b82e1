"""Values of a row of LiteLLM's database, checked: what is odd is refused, never guessed. Pure."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeVar

# Above it a limit is none in practice, and it is exact in every number format.
_MAX_COUNT: Final = 10**12

_T = TypeVar("_T")


class BadRowError(Exception):
    """A row that cannot be used; nobody can tell what the key may do: 503.

    Args:
        column: The place, as ``table_column`` with the alias of the table, never the value.
        expected: What should be there.
    """

    def __init__(self, column: str, expected: str) -> None:
        self.column = column
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.column}: expected {self.expected}"


class RowValues:
    """Reads columns by name; one that the database lacks is NULL.

    Args:
        row: Values as the driver gives them; JSON as text.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def text(self, column: str) -> str | None:
        """Return a text; an empty one is none, as in LiteLLM."""
        value = self._row.get(column)
        if value is not None and not isinstance(value, str):
            _refuse(column, "text")
        return value or None

    def flag(self, column: str) -> bool:
        """Return whether it is true; NULL is not."""
        value = self._row.get(column)
        if value is not None and not isinstance(value, bool):
            _refuse(column, "true or false")
        return bool(value)

    def time(self, column: str) -> datetime | None:
        """Return a time in UTC; LiteLLM's columns have no zone and mean UTC."""
        value = self._row.get(column)
        if value is None:
            return None
        if not isinstance(value, datetime):
            _refuse(column, "a time")
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            _refuse(column, "a time")

    def spend(self, column: str) -> float:
        """Return what was spent; NULL is nothing."""
        return parse_money(self._row.get(column), column) or 0.0

    def limit(self, column: str, inherited: float | None = None) -> float | None:
        """Return what may be spent; infinity is no limit, and NULL means what is inherited."""
        if self._row.get(column) is None:
            return inherited
        return parse_limit(self._row[column], column)

    def count(self, column: str) -> int | None:
        """Return a number of requests."""
        return parse_count(self._row.get(column), column)

    def names(self, column: str) -> tuple[str, ...]:
        """Return a list of names; NULL is an empty one."""
        return parse_names(self._row.get(column), column)

    def json(self, column: str) -> Any:
        """Return what JSON says; NULL is None."""
        value = self._row.get(column)
        if value is None:
            return None
        try:
            return json.loads(value)
        except (TypeError, ValueError, RecursionError):
            _refuse(column, "JSON")

    def mapping(self, column: str, parse: Callable[[Any, str], _T | None]) -> dict[str, _T]:
        """Return a JSON object; NULL is an empty one, and entries without a value are left out.

        Args:
            column: Its name.
            parse: Reads a value, given its place; None is no value.
        """
        return parse_mapping(self.json(column), column, parse)


def parse_money(value: Any, place: str) -> float | None:
    """Return US dollars; may be infinite, never NaN, which compares as if there were no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        _refuse(place, "a number")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        _refuse(place, "a number that a float can hold")
    if math.isnan(number):
        _refuse(place, "a number")
    return number


def parse_limit(value: Any, place: str) -> float | None:
    """Return US dollars that may be spent; infinity is no limit, as in LiteLLM."""
    number = parse_money(value, place)
    return None if number == math.inf else number


def parse_positive(value: Any, place: str) -> float | None:
    """Return a number above 0 and below infinity."""
    number = parse_money(value, place)
    if number is not None and not 0 < number < math.inf:
        _refuse(place, "a number above 0")
    return number


def parse_count(value: Any, place: str) -> int | None:
    """Return a number of requests from 0 on."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(place, "a whole number")
    return min(max(value, 0), _MAX_COUNT)


def parse_text(value: Any, place: str) -> str | None:
    """Return a text; an empty one is none."""
    if value is not None and not isinstance(value, str):
        _refuse(place, "text")
    return value or None


def parse_names(value: Any, place: str) -> tuple[str, ...]:
    """Return a list of names; None is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        _refuse(place, "a list of names")
    return tuple(value)


def parse_mapping(value: Any, place: str, parse: Callable[[Any, str], _T | None]) -> dict[str, _T]:
    """Return an object; None is an empty one, and entries without a value are left out."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse(place, "an object")
    # Names in it are whoever's; they are not for the log.
    parsed = {name: parse(entry, f"{place}.*") for name, entry in value.items()}
    return {name: entry for name, entry in parsed.items() if entry is not None}


def parse_iso_time(value: Any, place: str) -> datetime | None:
    """Return a time that JSON holds, in UTC; without a zone it is UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        _refuse(place, "a time in ISO 8601")


def _refuse(place: str, expected: str) -> NoReturn:
    raise BadRowError(place, expected) from None
