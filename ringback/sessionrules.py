"""What a session lock allows for one member, and how near a value comes to it. Pure.

`ringback.sessionlock` says what a rule looks like.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

# Deeper than the JSON Schema of any tool.
_MAX_DEPTH: Final = 32
_RANGE: Final = frozenset({"min", "max"})
_ONE_OF: Final = "one_of"


class SessionLockError(ValueError):
    """A lock that cannot be held.

    Args:
        place: Names of members from the root on, joined by dots; empty for the whole.
        problem: What is wrong, and what to do.
    """

    def __init__(self, place: str, problem: str) -> None:
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


def check(value: Any, place: str, depth: int) -> None:
    """Check that what looks like a rule is one; in lists nothing is."""
    if isinstance(value, dict):
        if _ONE_OF in value and (
            len(value) > 1 or not isinstance(value[_ONE_OF], list) or not value[_ONE_OF]
        ):
            raise SessionLockError(place, "expected `one_of` alone, with a list of what is allowed")
        if _is_range(value) and not _makes_sense(value):
            raise SessionLockError(place, "expected numbers as `min` and `max`, in this order")
    _check_json(value, place, depth)
    if isinstance(value, dict):
        for name, member in value.items():
            below = member if name == _ONE_OF else [member]
            for each in below:
                check(each, f"{place}.{name}" if place else name, depth + 1)


def _check_json(value: Any, place: str, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise SessionLockError(place, "nests too deep")
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise SessionLockError(place, "expected texts as names; put them in quotes")
        for member in value.values():
            _check_json(member, place, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, place, depth + 1)
    elif not (value is None or isinstance(value, str | bool) or _is_number(value)):
        raise SessionLockError(place, "holds what JSON has no form for; put dates in quotes")


def _makes_sense(bounds: Mapping[str, Any]) -> bool:
    return all(map(_is_number, bounds.values())) and (
        len(bounds) == 1 or bounds["min"] <= bounds["max"]
    )


def is_allowed(allowed: Any, shown: Any) -> bool:
    """Tell whether what a session shows is what the lock allows."""
    if not isinstance(allowed, Mapping):
        return _is_same(allowed, shown)
    if _ONE_OF in allowed:
        return any(is_allowed(each, shown) for each in allowed[_ONE_OF])
    if _is_range(allowed):
        return _is_number(shown) and bool(_clamped(allowed, shown) == shown)
    return isinstance(shown, Mapping) and all(
        _is_member_allowed(each, shown.get(name)) for name, each in allowed.items()
    )


def _is_member_allowed(allowed: Any, shown: Any) -> bool:
    if isinstance(allowed, Mapping) and _is_range(allowed) and shown is None:
        # Another kind of turn detection has no such number, and a default is the provider's.
        return True
    return is_allowed(allowed, shown)


def _is_same(wanted: Any, shown: Any) -> bool:
    """Tell whether a provider shows what is wanted, in its own way of writing it.

    Providers write out members that are not there, some with null; some keep a float in 32 bits.
    """
    if _is_empty(wanted):
        return _is_empty(shown)
    if isinstance(wanted, Mapping):
        return isinstance(shown, Mapping) and all(
            _is_same(wanted.get(name), shown.get(name)) for name in wanted.keys() | shown.keys()
        )
    if isinstance(wanted, list):
        return (
            isinstance(shown, list)
            and len(shown) == len(wanted)
            and all(map(_is_same, wanted, shown))
        )
    if isinstance(wanted, str):
        return isinstance(shown, str) and _plain(wanted) == _plain(shown)
    if _is_number(wanted):
        return _is_number(shown) and math.isclose(wanted, shown, rel_tol=1e-6)
    return wanted is shown


def _is_empty(value: Any) -> bool:
    # Not False: what is absent may be on.
    return value is None or value in ("", [], {})


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def nearest(allowed: Any, shown: Any) -> Any:
    """Return the allowed value that is nearest to one that is not."""
    if not isinstance(allowed, Mapping):
        return allowed
    if _ONE_OF in allowed:
        kinds = [each for each in allowed[_ONE_OF] if _is_of_kind(each, shown)]
        return nearest((kinds or allowed[_ONE_OF])[0], shown)
    if _is_range(allowed):
        return _clamped(allowed, shown) if _is_number(shown) else _bound(allowed)
    kept = dict(shown) if _is_of_kind(allowed, shown) else {}
    for name, each in allowed.items():
        if not _is_member_allowed(each, kept.get(name)):
            kept[name] = nearest(each, kept.get(name))
    return kept


def _is_of_kind(allowed: Any, shown: Any) -> bool:
    """Tell whether two objects are of one ``type``: their other members mean the same then."""
    if not isinstance(allowed, Mapping) or not isinstance(shown, Mapping):
        return False
    return "type" not in allowed or is_allowed(allowed["type"], shown.get("type"))


def _is_range(value: Mapping[str, Any]) -> bool:
    return bool(value) and value.keys() <= _RANGE


def _bound(bounds: Mapping[str, Any]) -> Any:
    return bounds.get("max", bounds.get("min"))


def _clamped(bounds: Mapping[str, Any], number: Any) -> Any:
    if number > bounds.get("max", number):
        return bounds["max"]
    return bounds["min"] if number < bounds.get("min", number) else number


def _is_number(value: object) -> bool:
    # Not isinstance: True is an int too.
    return type(value) is int or (type(value) is float and math.isfinite(value))
