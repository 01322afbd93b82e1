"""What the settings of a fault may be. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

_LONGEST_S: Final = 600
# Those that a peer must not send: RFC 6455, section 7.4.
_RESERVED_CODES: Final = frozenset({1004, 1005, 1006, *range(1015, 3000)})


def check_setting(name: str, value: object, malformations: Sequence[str]) -> None:
    """Check one setting of a fault.

    Args:
        name: Of the setting; one that is not known here is a duration.
        value: As JSON has it.
        malformations: What ``malformed`` may be.

    Raises:
        ValueError: If it may not be that; the text says what it may be.
    """
    if name == "malformed":
        fits, expected = _one_of(*malformations)
    else:
        fits, expected = _SETTINGS.get(name, (_is_duration, f"seconds from 0 to {_LONGEST_S}"))
    if not fits(value):
        raise ValueError(f"expected {expected}")


def _is_duration(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _LONGEST_S


def _is_close_code(value: object) -> bool:
    return _whole(1000, 4999)(value) and value not in _RESERVED_CODES


def _whole(lowest: int, highest: int) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return lowest <= value <= highest

    return fits


def _one_of(*choices: str) -> tuple[Callable[[object], bool], str]:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


def _usage(*choices: str) -> tuple[Callable[[object], bool], str]:
    fits, expected = _one_of(*choices)
    return lambda value: isinstance(value, dict) or fits(value), f"{expected}, or an object"


_SETTINGS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "status": (_whole(200, 599), "a status from 200 to 599"),
    "times": (_whole(1, 1_000_000), "a count from 1"),
    "keys": _one_of("standard", "ephemeral"),
    "cut_after_events": (_whole(0, 1_000_000), "a count from 0"),
    "cut_code": (_is_close_code, "a close code that a peer may send"),
    "refuse_status": (_whole(400, 599), "a status from 400 to 599"),
    "lingers": (lambda value: isinstance(value, bool), "true or false"),
    "kind": (lambda value: isinstance(value, str), "the type of an event"),
    "response": _usage("zero", "null", "full"),
    "transcription": _usage("zero", "null", "duration"),
}
