"""Session descriptions as a session-level part and media sections.

Every line is kept as it came; what checks and edits need is read from the lines when asked for.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from sdpfilter.errors import InvalidLineError, NotSDPError, SDPError, TooManySectionsError
from sdpfilter.sdp.attributes import (
    Attribute,
    Direction,
    find_attributes,
    find_typed,
    find_value,
)
from sdpfilter.sdp.lines import (
    MAX_LINE_BYTES,
    check_line_lengths,
    check_size,
    parse_lines,
)

# The order of line types on which peers insist: libwebrtc and pion refuse a description that does
# not begin v, o, s or has no t before its media sections. The rest of the order in RFC 8866,
# section 9, is not enforced: OpenAI's documentation shows c before t, applications insert b last.
_LINE: Final = rb"=[^\0\r\n]*+\r?\n"
_DESCRIPTION: Final = re.compile(
    rb"v=0\r?\no%bs%b(?:[iuepcbrzka]%b)*+t%b(?:[iuepcbtrzka]%b)*+(?:m%b(?:[icbka]%b)*+)*+"
    % ((_LINE,) * 7)
)
_MEDIA: Final = re.compile(rb"m=([!-~]+) ([0-9]{1,5})(?:/[0-9]+)? ([!-~]+)((?: [!-~]+)+) *\r?\n")
_MAX_PORT: Final = 65535

# A call of one voice needs two. A section costs as much as thirty lines.
MAX_MEDIA_SECTIONS: Final = 16
"""The largest number of media sections, rejected ones included."""


@dataclass(frozen=True, slots=True)
class Section:
    """The session-level part of a description, or what all its parts have in common."""

    text: bytes
    """The part as it came: whole lines with their terminators."""

    first_lineno: int
    """The line of the description, 1-based, at which the part begins."""

    @property
    def last_lineno(self) -> int:
        """The line of the description, 1-based, at which the part ends."""
        return self.first_lineno + self.text.count(b"\n") - 1

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The part's lines, with their terminators."""
        return tuple(self.text.splitlines(keepends=True))

    def attributes(self, name: bytes) -> list[Attribute]:
        """Return the part's attributes of one name, in their order."""
        return find_attributes(self.text, self.first_lineno, name)

    def typed(self, letter: bytes) -> list[Attribute]:
        """Return the part's lines of one type, such as ``c``, in their order."""
        return find_typed(self.text, self.first_lineno, letter)

    def attribute(self, name: bytes) -> bytes | None:
        """Return the value of the first attribute of one name, empty for a flag, or None."""
        return find_value(self.text, name)


@dataclass(frozen=True, slots=True)
class MediaSection(Section):
    """A media section: its m= line and what follows up to the next.

    ``m=<media> <port>[/<count>] <proto> <fmt> ...``
    https://www.rfc-editor.org/rfc/rfc8866#section-5.14
    """

    media: bytes
    """``audio``, ``video``, ``application``, ..."""

    port: int
    """0 to 65535. 9 where ICE chooses; 0 rejects the section, or marks it ``bundle-only``."""

    proto: bytes
    """``UDP/TLS/RTP/SAVPF``, ``UDP/DTLS/SCTP``, or ``DTLS/SCTP`` of older peers."""

    formats: tuple[bytes, ...]
    """RTP payload types, ``webrtc-datachannel``, or the SCTP port of older peers."""

    @property
    def mid(self) -> bytes | None:
        """The identification of the section in BUNDLE groups (RFC 5888), None if it has none."""
        return self.attribute(b"mid")

    @property
    def is_rejected(self) -> bool:
        """Port 0 rejects a section, unless it is ``bundle-only`` (RFC 9143, section 6)."""
        return self.port == 0 and not self.attributes(b"bundle-only")


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """An offer or an answer; its parts hold all of its lines."""

    data: bytes
    """The bytes that came."""

    session: Section
    media: tuple[MediaSection, ...]

    @property
    def bundle_groups(self) -> list[list[bytes]]:
        """The mids of each BUNDLE group: ``a=group:BUNDLE <mid> ...`` (RFC 9143, section 5)."""
        groups = (group.value.split() for group in self.session.attributes(b"group"))
        return [mids for semantics, *mids in filter(None, groups) if semantics == b"BUNDLE"]

    def direction(self, section: MediaSection) -> Direction:
        """Return a section's direction: its own, else the session's, else ``sendrecv``."""
        for part in (section, self.session):
            for direction in Direction:
                if part.attributes(direction.encode()):
                    return direction
        return Direction.SENDRECV


def parse_description(data: bytes) -> SessionDescription:
    """Parse a session description; ``serialize_description`` gives back the same bytes.

    https://www.rfc-editor.org/rfc/rfc8866#section-5

    Raises:
        LimitError: If it has too many bytes, lines or media sections, or a line is too long (413).
        NotSDPError: If it does not begin with ``v=0`` (400).
        InvalidLineError: If a line breaks the grammar or the order (400).
    """
    check_size(data)
    if _DESCRIPTION.fullmatch(data) is None:
        raise _first_mistake(data)
    session, *sections = data.split(b"\nm=")
    if len(sections) > MAX_MEDIA_SECTIONS:
        raise TooManySectionsError(len(sections), MAX_MEDIA_SECTIONS)
    if not sections:
        return _assemble(data, [data])
    *others, last = sections
    return _assemble(
        data, [session + b"\n", *(b"m=%s\n" % section for section in others), b"m=" + last]
    )


def assemble_description(texts: Sequence[bytes]) -> SessionDescription:
    """Return the description that has these parts.

    It is what `parse_description` makes of the joined texts, at less cost: grammar and order are
    taken for granted.

    Args:
        texts: The session-level part's and each media section's: whole lines.

    Raises:
        LimitError: If it has too many bytes or lines, or a line is too long (413).
    """
    data = b"".join(texts)
    check_size(data)
    return _assemble(data, texts)


def serialize_description(description: SessionDescription) -> bytes:
    """Return the bytes of a description: its lines, untouched, in their order."""
    return b"".join(part.text for part in (description.session, *description.media))


def _assemble(data: bytes, texts: Sequence[bytes]) -> SessionDescription:
    if len(data) > MAX_LINE_BYTES:
        check_line_lengths(data.splitlines(keepends=True))
    session, *sections = texts
    lineno = 1 + session.count(b"\n")
    media = []
    for section in sections:
        media.append(_parse_media_section(section, lineno))
        lineno += section.count(b"\n")
    return SessionDescription(data, Section(session, 1), tuple(media))


def _parse_media_section(text: bytes, lineno: int) -> MediaSection:
    match = _MEDIA.match(text)
    if match is None or (port := int(match[2])) > _MAX_PORT:
        raise InvalidLineError(
            lineno,
            f"m=<media> <port> <proto> <format> ... with a port from 0 to {_MAX_PORT}",
            "give at least one format, and one space between the fields",
        )
    formats = tuple(match[4].split())
    return MediaSection(text, lineno, match[1], port, match[3], formats)


def _first_mistake(data: bytes) -> SDPError:
    """Return what is wrong with a description that does not match."""
    try:
        lines = parse_lines(data)
    except SDPError as mistake:
        return mistake
    if lines[0].rstrip(b"\r\n") != b"v=0":
        return NotSDPError()
    types = bytes(map(itemgetter(0), lines))
    session, _, media = types.partition(b"m")
    for index, letter in enumerate(b"os", 1):
        if types[index : index + 1] != bytes([letter]):
            expected = f"{letter:c}="
            fix = "begin the description with v=, o= and s=, in this order"
            return InvalidLineError(index + 1, expected, fix)
    for index, letter in enumerate(session[3:], 3):
        if letter in b"vos":
            expected = "v=, o= and s= only once"
            fix = "remove the line; descriptions cannot be joined"
            return InvalidLineError(index + 1, expected, fix)
    if b"t" not in session:
        expected = "t= before the media sections"
        return InvalidLineError(len(session) + 1, expected, "insert t=0 0 after s=")
    index = next(index for index, letter in enumerate(media) if letter not in b"micbka")
    expected = "only i=, c=, b=, k= and a= in a media section"
    fix = "move the line above the first m= line"
    return InvalidLineError(len(session) + index + 2, expected, fix)
