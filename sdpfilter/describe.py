"""What a description says, for people: sections, codecs, candidates by kind, ICE and DTLS.

Addresses, ports, ICE credentials and fingerprints are left out: a summary may be shown to others.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ringback.sdppolicy import HELPER_CODECS
from sdpfilter.edits.addresses import why_hidden
from sdpfilter.edits.codecs import payload_type, read_codecs
from sdpfilter.sdp.attributes import Direction
from sdpfilter.sdp.session import MediaSection, Section, SessionDescription

# Of video as well; the policy's own are of audio.
_HELPERS: Final = HELPER_CODECS | {"rtx", "ulpfec", "flexfec-03"}


class Kind(StrEnum):
    """Which of the two descriptions of a call it is."""

    OFFER = "offer"
    ANSWER = "answer"
    UNKNOWN = "description"


@dataclass(frozen=True, slots=True)
class SectionSummary:
    """What a media section says."""

    lineno: int
    """Its m= line, 1-based."""

    media: str
    """``audio``, ``video``, ``application``, ..."""

    mid: str | None
    is_rejected: bool
    is_data_channel: bool

    direction: Direction
    """Means nothing for a data channel."""

    codecs: tuple[str, ...]
    """As ``a=rtpmap`` names them, ``opus/48000/2``, in the order of preference."""

    helpers: tuple[str, ...]
    """Likewise what carries nothing of its own: redundancy, comfort noise, key presses."""

    parameters: tuple[str, ...]
    """Of Opus, such as ``minptime=10;useinbandfec=1``."""

    bandwidth: tuple[str, ...]
    """``AS:40``: kbit/s with headers; ``TIAS:20000``: bit/s without."""


@dataclass(frozen=True, slots=True)
class CandidateKind:
    """What candidates have in common; an address is not among it."""

    type: str
    """``host``, ``srflx``, ``prflx``, ``relay``, or ``unreadable``."""

    transport: str
    """``UDP``, ``TCP 443`` or ``TCP``."""

    address: str
    """``public``, ``private``, ``mdns`` or ``name``."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a description says as a whole."""

    kind: Kind
    size_bytes: int
    line_count: int
    sections: tuple[SectionSummary, ...]

    bundles: tuple[tuple[str, ...], ...]
    """The mids of each BUNDLE group."""

    candidates: tuple[tuple[CandidateKind, int], ...]
    """How many there are of each kind, all sections together, in the order of their first one."""

    is_ended: bool
    """``a=end-of-candidates`` says that no more will come."""

    is_lite: bool
    """ICE lite: this side answers checks and never begins one (RFC 8445, section 2.5)."""

    is_trickle: bool
    """Further candidates may follow (RFC 8840); the API has no request for them."""

    setups: tuple[str, ...]
    """The DTLS roles named: ``actpass``, ``active``, ``passive`` (RFC 8842, section 5)."""

    hashes: tuple[str, ...]
    """Of the DTLS fingerprints."""


def describe(
    description: SessionDescription,
    kind: Kind | None = None,
    offer: SessionDescription | None = None,
) -> Summary:
    """Return what a description says; it may break every rule but the grammar.

    Args:
        description: An offer or an answer.
        kind: Which of them; None to guess.
        offer: What an answer answers. It explains payload types that the answer only names.
    """
    parts = (description.session, *description.media)
    setups = _distinct(parts, b"setup")
    is_lite = any(part.attributes(b"ice-lite") for part in parts)
    options = (option.value.split() for part in parts for option in part.attributes(b"ice-options"))
    return Summary(
        kind=kind or _guess(setups, is_lite=is_lite),
        size_bytes=len(description.data),
        line_count=description.data.count(b"\n"),
        sections=tuple(_describe_sections(description, offer)),
        bundles=tuple(tuple(map(to_text, mids)) for mids in description.bundle_groups),
        candidates=tuple(Counter(_candidates(parts)).items()),
        is_ended=any(part.attributes(b"end-of-candidates") for part in parts),
        is_lite=is_lite,
        is_trickle=any(b"trickle" in option for option in options),
        setups=setups,
        hashes=_distinct(parts, b"fingerprint"),
    )


def to_text(data: bytes) -> str:
    """Return bytes of a description as text that cannot command a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _guess(setups: tuple[str, ...], *, is_lite: bool) -> Kind:
    """Tell an offer from an answer.

    Offers leave the DTLS role open (RFC 9429, section 5.2.1), answers choose one; OpenAI answers
    with ICE lite, which no browser has.
    """
    if "actpass" in setups:
        return Kind.OFFER
    return Kind.ANSWER if setups or is_lite else Kind.UNKNOWN


def _distinct(parts: tuple[Section, ...], name: bytes) -> tuple[str, ...]:
    """Return the first words of all attributes of a name, each once, in lower case."""
    words = (
        to_text(attribute.value.split(b" ", 1)[0].lower())
        for part in parts
        for attribute in part.attributes(name)
    )
    return tuple(dict.fromkeys(words))


def _describe_sections(
    description: SessionDescription, offer: SessionDescription | None
) -> Iterator[SectionSummary]:
    for place, section in enumerate(description.media):
        offered = offer.media[place] if offer and place < len(offer.media) else None
        is_data_channel = b"SCTP" in section.proto
        codecs = () if is_data_channel else _codecs(section, offered)
        yield SectionSummary(
            lineno=section.first_lineno,
            media=to_text(section.media),
            mid=None if section.mid is None else to_text(section.mid),
            is_rejected=section.is_rejected,
            is_data_channel=is_data_channel,
            direction=description.direction(section),
            codecs=tuple(codec for codec in codecs if codec_name(codec) not in _HELPERS),
            helpers=tuple(codec for codec in codecs if codec_name(codec) in _HELPERS),
            parameters=_opus_parameters(section),
            bandwidth=tuple(to_text(line.value) for line in section.typed(b"b")),
        )


def codec_name(codec: str) -> str:
    """Return the name in ``opus/48000/2``, in lower case: names have none (RFC 8866, 6.6)."""
    return codec.partition("/")[0].lower()


def _codecs(section: MediaSection, offered: MediaSection | None) -> tuple[str, ...]:
    known = read_codecs(section, offered).names
    encodings = {
        payload_type(number): to_text(encoding.strip())
        for number, _, encoding in (
            rtpmap.value.partition(b" ") for rtpmap in section.attributes(b"rtpmap")
        )
    }
    texts = (
        encodings.get(number) or to_text(name) or f"unknown ({to_text(number)})"
        for number, name in known.items()
    )
    # Chromium offers H.264 six times over.
    return tuple(dict.fromkeys(texts))


def _opus_parameters(section: MediaSection) -> tuple[str, ...]:
    numbers = {number for number, name in read_codecs(section).names.items() if name == b"opus"}
    fmtps = (fmtp.value.partition(b" ") for fmtp in section.attributes(b"fmtp"))
    return tuple(to_text(text) for number, _, text in fmtps if payload_type(number) in numbers)


def _candidates(parts: tuple[Section, ...]) -> Iterator[CandidateKind]:
    for part in parts:
        for candidate in part.attributes(b"candidate"):
            yield _candidate_kind(candidate.value.split())


def _candidate_kind(fields: list[bytes]) -> CandidateKind:
    """Return the kind of a candidate (RFC 8839, section 5.1)."""
    match fields:
        case [_, _, transport, _, address, port, _, found, *_]:
            name = to_text(transport.upper())
            if (name, port) == ("TCP", b"443"):
                name = "TCP 443"
            return CandidateKind(to_text(found.lower()), name, why_hidden(address) or "public")
    return CandidateKind("unreadable", "", "")
