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
    start = b"\na=" + name
    at = text.find(start)
    if at < 0:
        return []
    found = []
    lineno, counted = first_lineno, 0
    while at >= 0:
        after = at + len(start)
        # The byte after the name tells a=ice-lite from a=ice.
        if text[after] in b":\r\n":
            lineno += text.count(b"\n", counted, after)
            counted = after
            end = text.index(b"\n", after)
            found.append(Attribute(lineno, text[after + 1 : end].removesuffix(b"\r")))
        at = text.find(start, after)
    return found


def find_value(text: bytes, name: bytes) -> bytes | None:
    """Return the value of the first attribute of one name, empty for a flag, or None.

    Args:
        text: Whole lines, of which the first is no attribute.
        name: The attribute's name; names are case-sensitive.
    """
    start = b"\na=" + name
    at = text.find(start)
    while at >= 0:
        after = at + len(start)
        if text[after] in b":\r\n":
            return text[after + 1 : text.index(b"\n", after)].removesuffix(b"\r")
        at = text.find(start, after)
    return None


def find_typed(text: bytes, first_lineno: int, letter: bytes) -> list[Attribute]:
    """Return the lines of one type, in their order.

    Args:
        text: Whole lines, the first of another type.
        first_lineno: The 1-based line number of that first line.
        letter: The type, such as ``c``.
    """
    start = b"\n" + letter + b"="
    found = []
    at = text.find(start)
    while at >= 0:
        after = at + len(start)
        end = text.index(b"\n", after)
        lineno = first_lineno + text.count(b"\n", 0, after)
        found.append(Attribute(lineno, text[after:end].removesuffix(b"\r")))
        at = text.find(start, end)
    return found
