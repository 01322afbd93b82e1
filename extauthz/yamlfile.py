"""YAML that people write, read strictly: plain data, each mistake with its line.

Works on parser events instead of PyYAML's own constructors: those follow aliases without bound,
crash the interpreter on deep nesting, let the last of two equal keys win, and turn an unquoted
date such as ``2025-08-28`` into an object that is no text.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from extauthz.errors import ConfigError
from ringback.errors import why_unusable

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 32
# Values in one file, each alias counted with all that it stands for.
MAX_VALUES: Final = 500_000
# Longer numbers cost quadratic time and are none.
_MAX_NUMBER_CHARS: Final = 64

# libyaml is 16 times faster; both parsers give the same events.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_NUMBERS: Final = frozenset({f"{_TAG}int", f"{_TAG}float"})
_COLLECTIONS: Final = frozenset({None, "!", f"{_TAG}map", f"{_TAG}seq"})
_CONSTRUCTOR: Final = SafeConstructor()
_SCALARS: Final[dict[str, Callable[[ScalarNode], Any]]] = {
    f"{_TAG}null": _CONSTRUCTOR.construct_yaml_null,
    f"{_TAG}bool": _CONSTRUCTOR.construct_yaml_bool,
    f"{_TAG}int": _CONSTRUCTOR.construct_yaml_int,
    f"{_TAG}float": _CONSTRUCTOR.construct_yaml_float,
    f"{_TAG}str": _CONSTRUCTOR.construct_scalar,
    # A date stays the text that was written.
    f"{_TAG}timestamp": _CONSTRUCTOR.construct_scalar,
}


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data: dict, list, str, int, float, bool and None.

    Raises:
        ConfigError: If it cannot be opened or is not the YAML that `parse_yaml` accepts.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {why_unusable(error)}"]) from error
    return parse_yaml(content, str(path))


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old content or the new, never a part.

    The new file is readable by its owner alone (mode 0600).

    Raises:
        OSError: If it cannot be written; the old file is untouched.
    """
    target = path.resolve()
    # mkstemp makes files of mode 0600.
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)  # noqa: PTH105  a str from mkstemp
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise


def parse_yaml(content: bytes, name: str) -> Any:
    """Parse one YAML document; None if it is empty.

    Args:
        content: UTF-8, at most `MAX_FILE_BYTES`.
        name: The file's name, for problems.

    Raises:
        ConfigError: If it is too large, not YAML, or uses what no configuration needs: several
            documents, tags of its own, a key twice, more than `MAX_VALUES` values.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([f"{name}: is larger than {MAX_FILE_BYTES} bytes"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{name}: is not UTF-8 text"]) from error
    document = _Document(yaml.parse(text, Loader=_LOADER), name)
    try:
        value = document.read()
    except yaml.YAMLError as error:
        # NOTE: PyYAML's own words are left out, since some of them quote the value.
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = f"{name}: {where}is not YAML; check indentation, colons and quotes here"
        raise ConfigError([*document.problems, problem]) from error
    if document.problems:
        raise ConfigError(document.problems)
    return value


class _Document:
    """Builds the value of one document from the parser's events."""

    def __init__(self, events: Iterator[Event], name: str) -> None:
        self.problems: list[str] = []
        self._events = events
        self._name = name
        self._resolver = Resolver()
        # What an anchor stands for, and how many values that is. An anchor is known once its
        # value is complete, so that no value can hold itself.
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0

    def read(self) -> Any:
        next(self._events)  # the start of the stream
        if isinstance(next(self._events), StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        end = next(self._events)
        if not isinstance(end, StreamEndEvent):
            self._fail(end, "a second document begins; one file holds one")
        return value

    def _value(self, event: Event, depth: int) -> Any:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                self._fail(event, "this alias has no anchor before it")
            value, values = self._anchors[event.anchor]
            self._count(event, values)
            return value
        before = self._values
        self._count(event, 1)
        if depth > MAX_DEPTH:
            self._fail(event, f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
        else:
            if event.tag not in _COLLECTIONS:  # type: ignore[attr-defined]  # typed as a bare Event
                self._problem(event, "YAML tags are not supported; remove it")
            is_mapping = isinstance(event, MappingStartEvent)
            value = self._mapping(depth) if is_mapping else self._sequence(depth)
        anchor = event.anchor  # type: ignore[attr-defined]
        if anchor is not None:
            self._anchors[anchor] = (value, self._values - before)
        return value

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), MappingEndEvent):
            if isinstance(event, ScalarEvent) and self._tag(event) == _MERGE:
                source = self._value(next(self._events), depth + 1)
                merged += source if isinstance(source, list) else [source]
                if not all(isinstance(mapping, dict) for mapping in merged):
                    self._fail(event, "only mappings can be merged")
                continue
            key = self._value(event, depth + 1)
            value = self._value(next(self._events), depth + 1)
            if isinstance(key, dict | list):
                self._problem(event, "a key must be plain text")
            elif key in result:
                self._problem(event, "this key stands twice in its mapping; remove one")
            else:
                result[key] = value
        for mapping in merged:
            for key, value in mapping.items():
                result.setdefault(key, value)
        return result

    def _scalar(self, event: ScalarEvent) -> Any:
        tag = self._tag(event)
        construct = _SCALARS.get(tag)
        if construct is None:
            self._problem(event, "YAML tags are not supported; put the value in quotes")
            return None
        try:
            if tag in _NUMBERS and len(event.value) > _MAX_NUMBER_CHARS:
                raise OverflowError
            return construct(ScalarNode(tag, event.value))
        except (ValueError, LookupError, ArithmeticError):
            self._problem(event, "is no such number or truth value; put text in quotes")
            return None

    def _tag(self, event: ScalarEvent) -> str:
        if event.tag in {None, "!"}:
            resolve: Any = self._resolver.resolve
            return str(resolve(ScalarNode, event.value, event.implicit))
        return str(event.tag)

    def _count(self, event: Event, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._fail(event, f"holds more than {MAX_VALUES} values, aliases expanded")

    def _problem(self, event: Event, text: str) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        self.problems.append(f"{self._name}: line {line}: {text}")

    def _fail(self, event: Event, text: str) -> NoReturn:
        self._problem(event, text)
        raise ConfigError(self.problems)
