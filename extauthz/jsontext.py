"""JSON (RFC 8259) read strictly: what we pass on means the same to whoever reads it next.

Refused, although Python's own reader takes it: encodings other than UTF-8, a member twice, NaN and
infinities, half a surrogate pair, and nesting without end.
"""

import json
import math
import re
from typing import Any, Final, NoReturn

# The JSON Schema of a tool's parameters is the deepest thing in a session.
MAX_DEPTH: Final = 32
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")


class JsonError(ValueError):
    """A text that is no JSON object, or none that every reader would understand alike.

    Args:
        problem: What is wrong; quotes nothing of the text.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        JsonError: If it is anything else.
    """
    # Errors of the decoder are not chained: they hold the whole text.
    try:
        content = json.loads(
            text.decode(),
            object_pairs_hook=_members,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except JsonError:
        raise
    except UnicodeDecodeError:
        raise JsonError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonError(f"is not JSON: {error.msg.removesuffix(' at')} at {place}") from None
    except RecursionError:
        raise JsonError(f"is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        # Python's limit for the digits of an int.
        raise JsonError("holds a number that is too long") from None
    if not isinstance(content, dict):
        raise JsonError("is not an object")
    _check(content, 1)
    return content


def serialize_object(content: dict[str, Any]) -> bytes:
    """Return the JSON text of what `parse_object` could have returned, without spaces."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("holds an object with a member twice")
    return members


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise JsonError("holds a number that is too large")
    return number


def _refuse_constant(_name: str) -> NoReturn:
    raise JsonError("holds NaN or an infinity, which are no JSON")


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise JsonError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, member in value.items():
            _check(name, depth)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, str) and _HALF_PAIR.search(value):
        raise JsonError("holds half of a surrogate pair")
