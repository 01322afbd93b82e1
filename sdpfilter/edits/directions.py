"""Which way media may flow."""

import re
from collections.abc import Mapping
from typing import Final

from sdpfilter.draft import Draft
from sdpfilter.sdp.attributes import Direction
from sdpfilter.sdp.session import MediaSection

_DIRECTION: Final = re.compile(rb"\na=(sendrecv|sendonly|recvonly|inactive)(?=[:\r\n])")
# The only way that is allowed, as the describing side sees it, to what the others become.
_NARROWED: Final[Mapping[Direction, Mapping[Direction, Direction]]] = {
    Direction.RECVONLY: {
        Direction.SENDRECV: Direction.RECVONLY,
        Direction.SENDONLY: Direction.INACTIVE,
    },
    Direction.SENDONLY: {
        Direction.SENDRECV: Direction.SENDONLY,
        Direction.RECVONLY: Direction.INACTIVE,
    },
}
_REVERSED: Final = {
    Direction.RECVONLY: Direction.SENDONLY,
    Direction.SENDONLY: Direction.RECVONLY,
}


def reverse(direction: Direction) -> Direction:
    """Return a one-way direction as the other side sees it."""
    return _REVERSED[direction]


def narrow_direction(draft: Draft, section: MediaSection, only: Direction) -> None:
    """Take from a section the direction that is not allowed (RFC 3264, section 6.1).

    Args:
        draft: Of the section's description.
        section: Of RTP media, its direction its own, the session's or the default.
        only: ``recvonly`` or ``sendonly``, as the describing side sees it.
    """
    narrowed = _NARROWED[only]
    has_own = False
    for own in _DIRECTION.finditer(section.text):
        has_own = True
        direction = Direction(own[1].decode())
        if direction in narrowed:
            target = narrowed[direction]
            lineno = section.first_lineno + section.text.count(b"\n", 0, own.start(1))
            draft.replace(lineno, b"a=" + target.encode(), "direction", target)
    if not has_own:
        direction = draft.description.direction(section)
        if direction in narrowed:
            target = narrowed[direction]
            draft.add_after(section.last_lineno, b"a=" + target.encode(), "direction", target)
