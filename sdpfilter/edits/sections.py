"""Media sections that are not allowed are rejected where they stand.

A section is never removed: both sides know sections by their place (RFC 3264, section 8).
"""

from collections.abc import Collection
from typing import Final

from ringback.sdppolicy import ForbiddenMedia, Policy
from sdpfilter.draft import Draft
from sdpfilter.policyerrors import (
    ForbiddenMediaError,
    ForbiddenTransportError,
    TooManyDataSectionsError,
)
from sdpfilter.sdp.session import MediaSection, SessionDescription

_KNOWN_KINDS: Final = frozenset({b"audio", b"video", b"application", b"text", b"image", b"message"})


def find_forbidden(offer: SessionDescription, policy: Policy) -> list[int]:
    """Return the places of the offered media sections that the policy does not allow.

    Rejected sections ask for nothing and count for nothing.

    Raises:
        ForbiddenMediaError: If there is one and the policy says ``refuse`` (403).
        TooManyDataSectionsError: Likewise (403).
    """
    kinds = None if policy.media is None else {kind.encode() for kind in policy.media}
    limit = policy.max_data_sections
    may_reject = policy.forbidden_media is ForbiddenMedia.REJECT
    forbidden = []
    data_sections = 0
    for place, section in enumerate(offer.media):
        if section.is_rejected:
            continue
        if kinds is not None and section.media not in kinds:
            if not may_reject:
                raise ForbiddenMediaError(section.first_lineno, policy.media or ())
            forbidden.append(place)
        elif section.media == b"application":
            data_sections += 1
            if limit is not None and data_sections > limit:
                if not may_reject:
                    raise TooManyDataSectionsError(section.first_lineno, limit)
                forbidden.append(place)
    return forbidden


def reject_sections(draft: Draft, places: Collection[int]) -> None:
    """Give media sections port 0 and take them out of their groups.

    In an offer that makes the answerer reject them too (RFC 3264, section 6); a group must not name
    them any more (RFC 5888, section 9.2; RFC 9143, section 7.2).

    Args:
        draft: Of an offer or an answer.
        places: Of the sections, counted from 0; those that are rejected already only leave groups.

    Raises:
        ForbiddenTransportError: If one is the first of a BUNDLE group whose others stay. They use
            its transport, and a browser with the bundle policy ``max-bundle`` has no other (403).
    """
    media = draft.description.media
    for place in places:
        _reject(draft, media[place])
    mids = {mid.value: media[place] for place in places for mid in media[place].attributes(b"mid")}
    for group in draft.description.session.attributes(b"group"):
        semantics, *members = group.value.split() or [b""]
        kept = [mid for mid in members if mid not in mids]
        if kept == members:
            continue
        if not kept:
            draft.remove(group.lineno, "section_rejected", "group")
            continue
        if semantics == b"BUNDLE" and members[0] in mids:
            raise ForbiddenTransportError(mids[members[0]].first_lineno)
        text = b" ".join([b"a=group:" + semantics, *kept])
        draft.replace(group.lineno, text, "section_rejected", "group")


def set_port(draft: Draft, section: MediaSection, port: int, rule: str, detail: str = "") -> None:
    """Set the port of a media section, unless it is rejected, maybe just now."""
    media, current, rest = draft.text(section.first_lineno).split(b" ", 2)
    if int(current.partition(b"/")[0]) not in (0, port):
        draft.replace(section.first_lineno, b"%s %d %s" % (media, port, rest), rule, detail)


def _reject(draft: Draft, section: MediaSection) -> None:
    kind = section.media.decode() if section.media in _KNOWN_KINDS else "other"
    set_port(draft, section, 0, "section_rejected", kind)
    # With the first, port 0 would not reject (RFC 9143, section 6); a section with port 0 has no
    # candidates (RFC 8839, section 4.4.1.1.2).
    for name in (b"bundle-only", b"candidate", b"end-of-candidates"):
        for attribute in section.attributes(name):
            draft.remove(attribute.lineno, "section_rejected", name.decode())
