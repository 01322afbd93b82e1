"""What an offer and an answer must be for a call to have a chance.

Whoever breaks these rules would get a silent dead call or an empty error from the upstream. Nothing
is refused here that a known browser, library or provider sends.
"""

from typing import Final

from sdpfilter.errors import (
    EmptyAnswerError,
    InvalidAnswerError,
    InvalidLineError,
    MissingAttributeError,
    MissingAudioError,
    SDPError,
    SectionCountError,
    SectionMismatchError,
)
from sdpfilter.sdp.session import MediaSection, Section, SessionDescription, parse_description

# Without the first two ICE has no credentials (RFC 8839, section 5.4), without the third DTLS has
# no identity (RFC 8122, section 5).
_TRANSPORT_ATTRIBUTES: Final = (b"ice-ufrag", b"ice-pwd", b"fingerprint")
# RFC 8842, sections 5.2 and 5.3; holdconn is not for DTLS.
_OFFERED_SETUPS: Final = (b"actpass", b"active", b"passive")
_ANSWERED_SETUPS: Final = (b"active", b"passive")
_ICE_CREDENTIALS: Final = (b"ice-ufrag", b"ice-pwd")
_AS_CREATED: Final = "send the description as createOffer() made it"


def check_offer(data: bytes) -> SessionDescription:
    """Check the offer of a downstream and return it parsed.

    Args:
        data: The request body, whole.

    Raises:
        SDPError: If it is refused; then the downstream receives the error's ``http_status`` (400,
            or 413 beyond a limit) and the upstream nothing.
    """
    offer = parse_description(data)
    if not any(section.media == b"audio" and not section.is_rejected for section in offer.media):
        raise MissingAudioError
    _check_mids(offer)
    check_transports(offer)
    for section in (offer.session, *offer.media):
        _check_setup(section, _OFFERED_SETUPS)
    return offer


def check_answer(data: bytes, offer: SessionDescription | None) -> SessionDescription:
    """Check the answer of an upstream and return it parsed.

    An answer has the offer's media sections in the offer's order, with the same media types and
    mids (RFC 3264, section 6; RFC 9143, section 7.3).

    NOTE: Protocols are not compared: an offered ``DTLS/SCTP`` is answered with ``UDP/DTLS/SCTP``.
    NOTE: ICE and DTLS attributes are not required: a bundled section takes them from its group.
    NOTE: A section without a mid is not compared: browsers take it for the one at its place.

    Args:
        data: The response body, whole, of an upstream that answered 2xx.
        offer: What it answers; None if that is not known, then the answer alone is checked.

    Raises:
        AnswerError: If it is refused; then the downstream receives 502 in its place.
    """
    try:
        answer = parse_description(data)
    except SDPError as exc:
        raise InvalidAnswerError(exc) from exc
    if not answer.media:
        raise EmptyAnswerError
    if offer is not None:
        _check_sections(answer, offer)
    try:
        _check_mids(answer)
        for section in (answer.session, *answer.media):
            _check_setup(section, _ANSWERED_SETUPS)
    except InvalidLineError as exc:
        raise InvalidAnswerError(exc) from exc
    return answer


def check_transports(offer: SessionDescription) -> None:
    """Check that each offered media section has ICE credentials and a DTLS fingerprint.

    It has its own, or those of the session or of its BUNDLE group.

    Raises:
        MissingAttributeError: If one lacks any (400).
    """
    missing = [name for name in _TRANSPORT_ATTRIBUTES if not offer.session.attribute(name)]
    sections = [section for section in offer.media if not section.is_rejected]
    if all(section.attribute(name) for section in sections for name in missing):
        return
    for name in missing:
        _check_offered_attribute(offer, name)
    if missing[:2] == [*_ICE_CREDENTIALS]:
        _check_ice_pairs(offer)


def _check_offered_attribute(offer: SessionDescription, name: bytes) -> None:
    lacking = [
        section
        for section in offer.media
        if not section.is_rejected and not section.attribute(name)
    ]
    if not lacking:
        return
    # A bundled section may leave its transport to another one of its group (RFC 9143, section 7).
    having = {section.mid for section in offer.media if section.attribute(name)}
    covered = {mid for mids in offer.bundle_groups if having.intersection(mids) for mid in mids}
    for section in lacking:
        if section.mid not in covered:
            raise MissingAttributeError(section.first_lineno, name.decode())


def _check_ice_pairs(offer: SessionDescription) -> None:
    """Check that no section has half of the credentials: peers read the pair of one section."""
    for section in offer.media:
        having = [name for name in _ICE_CREDENTIALS if section.attribute(name)]
        if len(having) == 1 and not section.is_rejected:
            (lacking,) = {*_ICE_CREDENTIALS} - {*having}
            raise MissingAttributeError(section.first_lineno, lacking.decode())


def _check_mids(description: SessionDescription) -> None:
    """Check that mids identify sections (RFC 5888, section 4; RFC 9143, section 5)."""
    mids: set[bytes] = set()
    for section in description.media:
        for place, mid in enumerate(section.attributes(b"mid")):
            if place or mid.value in mids:
                expected = "one a=mid in each media section, and no two alike"
                raise InvalidLineError(mid.lineno, expected, _AS_CREATED)
            mids.add(mid.value)
    # Browsers give a section without a mid the one of its place.
    is_complete = len(mids) >= len(description.media)
    grouped: set[bytes] = set()
    for group in description.session.attributes(b"group"):
        semantics, *members = group.value.split() or [b""]
        if semantics != b"BUNDLE":
            continue
        if is_complete and not mids.issuperset(members):
            expected = "a BUNDLE group of mids that media sections have"
            raise InvalidLineError(group.lineno, expected, _AS_CREATED)
        if not grouped.isdisjoint(members):
            expected = "no mid in two BUNDLE groups"
            raise InvalidLineError(group.lineno, expected, _AS_CREATED)
        grouped.update(members)


def _check_setup(section: Section, allowed: tuple[bytes, ...]) -> None:
    if isinstance(section, MediaSection) and section.is_rejected:
        return
    for setup in section.attributes(b"setup"):
        # Browsers read the value in any case.
        if setup.value.lower() not in allowed:
            names = [f"a=setup:{name.decode()}" for name in allowed]
            expected = " or ".join([", ".join(names[:-1]), names[-1]])
            raise InvalidLineError(setup.lineno, expected, _AS_CREATED)


def _check_sections(answer: SessionDescription, offer: SessionDescription) -> None:
    if len(answer.media) != len(offer.media):
        raise SectionCountError(len(offer.media), len(answer.media))
    for answered, offered in zip(answer.media, offer.media, strict=True):
        if answered.media != offered.media:
            raise SectionMismatchError(answered.first_lineno, offered.first_lineno, "media type")
        if answered.mid and offered.mid and answered.mid != offered.mid:
            raise SectionMismatchError(answered.first_lineno, offered.first_lineno, "mid")
