"""Session descriptions as lines, without losing a byte.

A line is ``bytes`` with its own terminator, CRLF or LF: joined, the lines are the input. Limits
hold before any parsing, because refusing must cost less than sending.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sdpfilter.errors import (
    DescriptionTooLargeError,
    InvalidLineError,
    LineTooLongError,
    NotSDPError,
    SDPError,
    TooManyLinesError,
)

# The largest offer seen, Chromium's with audio, video and data, has 5,736 bytes and 171 lines; the
# longest line seen, a sha-512 fingerprint, has 215 bytes. The rest is room for gathered candidates.
# ringback/contract.py gives Envoy the same limit for request bodies; answers meet only this one.
MAX_DESCRIPTION_BYTES: Final = 64 * 1024
"""The largest description, in bytes."""

MAX_LINES: Final = 1024
"""The largest number of lines."""

MAX_LINE_BYTES: Final = 2 * 1024
"""The longest line, in bytes, its terminator included."""

# The letters of RFC 8866 section 5, which makes a reader refuse a description with any other.
_TYPES: Final = b"vosiuepcbtrzkam"
_DESCRIPTION: Final = re.compile(rb"(?:[vosiuepcbtrzkam]=[^\0\r\n]*+\r?\n)++")


def parse_lines(data: bytes) -> tuple[bytes, ...]:
    """Split a description into lines that keep their terminators.

    ``<type>=<value>CRLF``, https://www.rfc-editor.org/rfc/rfc8866#section-5; LF alone is accepted,
    as the same section advises and browsers do.

    Raises:
        LimitError: If there are too many bytes or lines, or a line is too long (413).
        NotSDPError: If the first line has no ``<type>=<value>`` form (400).
        InvalidLineError: If another line has not, or if one is blank, begins with a space, contains
            NUL or a bare CR, or lacks its terminator; browsers refuse each of these (400).
    """
    check_size(data)
    if _DESCRIPTION.fullmatch(data) is None:
        raise _first_mistake(data)
    lines = tuple(data.splitlines(keepends=True))
    if len(data) > MAX_LINE_BYTES:
        check_line_lengths(lines)
    return lines


def check_size(data: bytes) -> None:
    """Check the size of a description and the number of its lines.

    Raises:
        DescriptionTooLargeError: If there are too many bytes (413).
        TooManyLinesError: If there are too many lines (413).
    """
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise DescriptionTooLargeError(len(data), MAX_DESCRIPTION_BYTES)
    count = data.count(b"\n")
    if count > MAX_LINES:
        raise TooManyLinesError(count, MAX_LINES)


def check_line_lengths(lines: Sequence[bytes]) -> None:
    """Check the length of each line, its terminator included.

    Raises:
        LineTooLongError: If one is too long (413).
    """
    if max(map(len, lines)) > MAX_LINE_BYTES:
        lineno = next(n for n, line in enumerate(lines, 1) if len(line) > MAX_LINE_BYTES)
        raise LineTooLongError(lineno, MAX_LINE_BYTES)


def serialize_lines(lines: Iterable[bytes]) -> bytes:
    """Return the bytes that ``parse_lines`` was given."""
    return b"".join(lines)


def _first_mistake(data: bytes) -> SDPError:
    *lines, rest = data.split(b"\n")
    for lineno, line in enumerate(lines, 1):
        if mistake := _mistake(lineno, line.removesuffix(b"\r")):
            return mistake
    lineno = len(lines) + 1
    return _mistake(lineno, rest) or InvalidLineError(
        lineno, "CRLF after the last line too", "append it; trim() removes it"
    )


def _mistake(lineno: int, line: bytes) -> SDPError | None:
    """Return what is wrong with a line without its terminator."""
    if b"\0" in line:
        expected, fix = "no NUL byte", "send the description as UTF-8 text"
    elif b"\r" in line:
        expected, fix = "CR only as part of CRLF", "end every line with CRLF"
    elif line[1:2] == b"=" and line[0] in _TYPES:
        return None
    elif lineno == 1:
        return NotSDPError()
    elif not line:
        expected, fix = "no blank line", "remove it; a single CRLF ends the last line"
    elif line[:1].isspace():
        expected = "no space at the start of a line"
        fix = "remove it; an indented string literal adds it"
    else:
        expected = "<type>=<value>, the type one of v o s i u e p c b t r z k a m"
        fix = "correct the line or remove it"
    return InvalidLineError(lineno, expected, fix)
