"""Addresses outside of candidates: where media goes without ICE, and who made the description."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from sdpfilter.draft import Draft
from sdpfilter.edits.addresses import is_unset, unset
from sdpfilter.edits.sections import set_port
from sdpfilter.sdp.session import MediaSection, Section

# Any c= or a=rtcp with an address. Browsers' offers have none, and are done with one look.
_SET: Final = re.compile(
    rb"\n(?:c=(?!IN IP(?:4 0\.0\.0\.0|6 ::)\r?\n)"
    rb"|a=rtcp:(?![^ \r\n]*(?: IN IP(?:4 0\.0\.0\.0|6 ::))?\r?\n))"
)
_ORIGIN: Final = re.compile(rb"(.* IN )(IP[46]) (\S+)\s*")
# What stands for no port (RFC 8840, section 4.3).
_DISCARD: Final = 9
_UNREADABLE: Final = (b"IN", b"IP4", b"")
_LOOPBACK: Final = frozenset({b"127.0.0.1", b"::1"})


def unset_defaults(draft: Draft, is_gone: Callable[[bytes, bytes], bool]) -> None:
    """Unset the default addresses that are not to be used: c=, the port of m=, and a=rtcp.

    Args:
        draft: Of an offer or an answer.
        is_gone: Tells whether an address and a port must not be named any more.
    """
    if _SET.search(draft.description.data) is None:
        return
    session, media = draft.description.session, draft.description.media
    inheriting = [section for section in media if not section.typed(b"c")]
    _unset_connection(draft, session, inheriting, is_gone)
    for section in media:
        _unset_connection(draft, section, [section], is_gone)
    for part in (session, *media):
        _unset_rtcp(draft, part, is_gone)


def hide_origin(draft: Draft, why: Callable[[bytes], str]) -> None:
    """Unset the address of o=, on which nothing depends (RFC 9429, section 5.2.1).

    Loopback stays: it is what browsers write.

    Args:
        draft: Of an offer.
        why: Returns why an address goes; empty if it stays.
    """
    for origin in draft.description.session.typed(b"o"):
        match = _ORIGIN.fullmatch(origin.value)
        if match and match[3] not in _LOOPBACK and not is_unset(match[3]) and why(match[3]):
            text = b"o=" + match[1] + match[2] + b" " + unset(match[2])
            draft.replace(origin.lineno, text, "origin_address")


def _unset_connection(
    draft: Draft,
    part: Section,
    sections: Sequence[MediaSection],
    is_gone: Callable[[bytes, bytes], bool],
) -> None:
    """Unset the c= of a part (RFC 8866, section 5.7), and the ports of the sections it is for."""
    ports = [b"%d" % section.port for section in sections] or [b"%d" % _DISCARD]
    for connection in part.typed(b"c"):
        fields = connection.value.split()
        _, kind, address = fields if len(fields) == 3 else _UNREADABLE
        if is_unset(address) or not any(is_gone(address, port) for port in ports):
            continue
        text = b"c=IN %s %s" % (kind, unset(kind))
        draft.replace(connection.lineno, text, "default_address")
        for section in sections:
            set_port(draft, section, _DISCARD, "default_address")


def _unset_rtcp(draft: Draft, part: Section, is_gone: Callable[[bytes, bytes], bool]) -> None:
    """Unset ``a=rtcp:<port> IN <type> <address>`` (RFC 3605); a port alone tells nothing."""
    for rtcp in part.attributes(b"rtcp"):
        port, *rest = rtcp.value.split() or [b""]
        _, kind, address = rest if len(rest) == 3 else _UNREADABLE
        if rest and not is_unset(address) and is_gone(address, port):
            text = b"a=rtcp:%d IN %s %s" % (_DISCARD, kind, unset(kind))
            draft.replace(rtcp.lineno, text, "default_address")
