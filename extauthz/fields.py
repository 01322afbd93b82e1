"""Typed access to values of a YAML file; each mistake is noted with its place, never its value."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ringback.secretfiles import SecretFileError

_REFERENCE: Final = "os.environ/"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NO_VARIABLES: Final[Mapping[str, str]] = {}
# Names and URLs: longer ones cannot be sealed into a token.
MAX_NAME_CHARS: Final = 256
# Keys and header values.
MAX_SECRET_CHARS: Final = 4096


class Field:
    """One value and the place where it stands.

    Args:
        value: Plain data, as `extauthz.yamlfile.read_yaml` gives it; None for what is absent.
        place: File and path, for example ``config.yaml: model_list[2].model_name``; with a colon
            at the end for the file as a whole.
        problems: Where mistakes are noted.
        environ: What ``os.environ/NAME`` refers to; None where such values are mere text.
    """

    __slots__ = ("_environ", "place", "problems", "value")

    def __init__(
        self,
        value: Any,
        place: str,
        problems: list[str],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.value = value
        self.place = place
        self.problems = problems
        self._environ = environ

    def problem(self, text: str) -> None:
        """Note a mistake: what is wrong here and what to do."""
        self.problems.append(f"{self.place.removesuffix(':')}: {text}")

    def replaced(self, value: Any) -> "Field":
        """Return another value in this place."""
        return Field(value, self.place, self.problems, self._environ)

    def child(self, name: str) -> "Field":
        """Return a value of this mapping, absent if there is none or if this is no mapping."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        separator = " " if self.place.endswith(":") else "."
        shown = name if name.isprintable() else "?"
        return Field(value, f"{self.place}{separator}{shown}", self.problems, self._environ)

    def entries(self) -> dict[str, "Field"]:
        """Return the values of this mapping by name."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict) or not all(isinstance(k, str) for k in self.value):
            self.problem("expected `name: value` lines")
            return {}
        return {name: self.child(name) for name in self.value}

    def items(self) -> list["Field"]:
        """Return the values of this list."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            self.problem("expected a list, one `- ` per entry")
            return []
        return [
            Field(value, f"{self.place}[{index}]", self.problems, self._environ)
            for index, value in enumerate(self.value)
        ]

    def text(
        self, *variables: str, numbers: bool = False, max_chars: int = MAX_NAME_CHARS
    ) -> str | None:
        """Return this text, resolved, or None if it is absent or empty.

        Args:
            variables: Names in the environment that stand in for an absent value, best first.
            numbers: Whether an unquoted number is text too.
            max_chars: The longest text that is no mistake.
        """
        value = self.value
        if value is None or value == "":
            value = next(filter(None, map(self.variable, variables)), None)
            return None if value is None else self._printable(value, max_chars)
        if numbers and isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            self.problem("expected text; put it in quotes")
            return None
        if self._environ is not None and value.startswith(_REFERENCE):
            value = self._variable(value.removeprefix(_REFERENCE))
        return None if value is None else self._printable(value, max_chars)

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment that has a say here; None if unset or empty."""
        try:
            return (self._environ or _NO_VARIABLES).get(name) or None
        except SecretFileError as error:
            self.problem(str(error))
            return None

    def required_text(self, hint: str, *variables: str, max_chars: int = MAX_NAME_CHARS) -> str:
        """Return this text, or ``""`` after noting why there is none.

        Args:
            hint: What to do if it is absent.
            variables: As in `text`.
            max_chars: As in `text`.
        """
        before = len(self.problems)
        value = self.text(*variables, max_chars=max_chars)
        if value is None and len(self.problems) == before:
            self.problem(f"is missing; {hint}")
        return value or ""

    def positive_number(self) -> float | None:
        """Return this number above zero, also if an environment variable holds it as text."""
        return self._number(lambda number: number > 0, "expected a number above 0")

    def amount(self) -> float | None:
        """Return this number from zero on, also if an environment variable holds it as text."""
        return self._number(lambda number: number >= 0, "expected a number from 0 on")

    def count(self) -> int | None:
        """Return this whole number from zero on, also if a variable holds it as text."""
        number = self._number(
            lambda number: number >= 0 and number.is_integer(), "expected a whole number from 0 on"
        )
        return None if number is None else int(number)

    def flag(self) -> bool:
        """Return this truth value; absent is false."""
        if not isinstance(self.value, bool | None):
            self.problem("expected true or false")
        return self.value is True

    def _number(self, is_fit: Callable[[float], bool], expectation: str) -> float | None:
        text = self.text(numbers=True)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and is_fit(number)):
            self.problem(expectation)
            return None
        return number

    def _variable(self, name: str) -> str | None:
        if not _VARIABLE.fullmatch(name):
            self.problem(f"expected the name of a variable after {_REFERENCE}")
            return None
        before = len(self.problems)
        value = self.variable(name)
        if value is None and len(self.problems) == before:
            self.problem(f"the variable {name} is not set; set it before the start")
        return value

    def _printable(self, text: str, max_chars: int) -> str | None:
        if not text.isprintable():
            self.problem("holds line breaks or other characters that cannot be shown; remove them")
        elif len(text) > max_chars:
            self.problem(f"is longer than {max_chars} characters; shorten it")
        else:
            return text
        return None
