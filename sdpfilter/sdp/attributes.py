"""The a= lines of a description (RFC 8866, section 5.13)."""

from enum import StrEnum
from typing import NamedTuple


class Direction(StrEnum):
    """Which way media flows, as the describing side sees it (RFC 8866, section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


class Attribute(NamedTuple):
    """One line of a kind: ``a=<name>``, ``a=<name>:<value>`` or ``<type>=<value>``."""

    lineno: int
    """The line of the description, 1-based."""

    value: bytes
    """What follows the colon, or the ``=`` where the name is the type; empty if there is none."""


def find_attributes(text: bytes, first_lineno: int, name: bytes) -> list[Attribute]:
    """Return the attributes of one name, in their order.

    Args:
        text: Whole lines, of which the first is no attribute.
        first_lineno: The 1-based line number of that first line.
        name: The attribute's name; names are case-sensitive.
    """
    # The byte after the name tells a=ice-lite from a=ice.
    return _find(text, first_lineno, b"\na=" + name, b":\r\n", 1)


def find_typed(text: bytes, first_lineno: int, letter: bytes) -> list[Attribute]:
    """Return the lines of one type, in their order.

    Args:
        text: Whole lines, the first of another type.
        first_lineno: The 1-based line number of that first line.
        letter: The type, such as ``c``.
    """
    return _find(text, first_lineno, b"\n" + letter + b"=", None, 0)


def _find(
    text: bytes, first_lineno: int, start: bytes, following: bytes | None, skipped: int
) -> list[Attribute]:
    found = []
    lineno, counted = first_lineno, 0
    at = text.find(start)
    while at >= 0:
        after = at + len(start)
        if following is None or text[after] in following:
            lineno += text.count(b"\n", counted, at + 1)
            counted = at + 1
            end = text.index(b"\n", after)
            found.append(Attribute(lineno, text[after + skipped : end].removesuffix(b"\r")))
        at = text.find(start, after)
    return found
