"""Audio codecs: those that are not allowed go, with everything that refers to them.

Payload types are never renumbered: the other side's answer and packets name them.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from sdpfilter.draft import Draft
from sdpfilter.policyerrors import NoCodecLeftError
from sdpfilter.sdp.session import MediaSection

# The encodings that payload types have without an a=rtpmap (RFC 3551, section 6), as far as
# browsers know them.
_STATIC: Final = {b"0": b"pcmu", b"8": b"pcma", b"9": b"g722", b"13": b"cn"}
_FIXED_RATE: Final = frozenset({b"pcmu", b"pcma", b"g722"})
# They carry nothing of their own.
_HELPERS: Final = frozenset({b"red", b"rtx", b"cn", b"telephone-event", b"ulpfec"})
# What an edit may tell of the removed ones.
_KNOWN: Final = frozenset({b"opus", *_STATIC.values(), *_HELPERS, b"ilbc", b"isac", b"l16"})
# a=rtpmap:<payload type> <encoding name>/<clock rate>, a=fmtp:<payload type> <parameters> and
# a=rtcp-fb:<payload type> <feedback> (RFC 8866, sections 6.6 and 6.15; RFC 4585, section 4.2).
_LINE: Final = re.compile(
    rb"\na=(rtpmap|fmtp|rtcp-fb):[ \t]*0*([0-9]+)(?:[ \t]+([^\r\n]*)|(?=\r?\n))"
)


CodecLine = tuple[int, bytes, bytes, bytes]
"""The number of a line, ``rtpmap``, ``fmtp`` or ``rtcp-fb``, the payload type and what follows."""


class Codecs(NamedTuple):
    """The codecs of an audio section."""

    names: Mapping[bytes, bytes]
    """Payload types, the preferred one first, to the names of their encodings, in lower case;
    empty if that is not clear."""

    lines: list[CodecLine]
    """All lines about payload types, also about those that the section does not offer."""


def payload_type(token: bytes) -> bytes:
    """Return a payload type as peers read it: a number, so that 09 is 9."""
    return token.lstrip(b"0") or b"0"


def read_codecs(section: MediaSection, offered: MediaSection | None = None) -> Codecs:
    """Return the codecs of an audio section.

    Args:
        section: Of an offer or an answer.
        offered: The section that an answer's answers: it explains what that does not.
    """
    lines = _read_lines(section)
    explained: dict[bytes, bytes] = {}
    for _, kind, number, value in lines:
        if kind == b"rtpmap":
            name = value.partition(b"/")[0].strip().lower()
            # Of two explanations a peer may take either.
            explained[number] = name if explained.get(number, name) == name else b""
    numbers = [payload_type(number) for number in section.formats]
    known: Mapping[bytes, bytes] = _STATIC
    if offered is not None and not explained.keys() >= set(numbers):
        known = {**_STATIC, **read_codecs(offered).names}
    names = {number: explained.get(number, known.get(number, b"")) for number in numbers}
    return Codecs(names, lines)


def has_fixed_rate(codecs: Codecs) -> bool:
    """Whether the codec that a section prefers for voice sends 64 kbit/s, and cannot send less."""
    voices = (name for name in codecs.names.values() if name not in _HELPERS)
    return next(voices, b"") in _FIXED_RATE


def limit_codecs(
    draft: Draft,
    section: MediaSection,
    codecs: Codecs,
    allowed: frozenset[str] | None,
    order: tuple[str, ...],
) -> Codecs:
    """Remove and reorder the payload types of an audio section; return the codecs that stay.

    Args:
        draft: Of the section's description.
        section: An audio section.
        codecs: The section's.
        allowed: The names that may stay; None for all.
        order: The names to prefer, the best one first.

    Raises:
        NoCodecLeftError: If none for voice would stay (403 for an offer).
    """
    names, kept = codecs.names, codecs.names
    if allowed is not None:
        kept = _without_forbidden(codecs, {name.encode() for name in allowed})
        if _HELPERS.issuperset(kept.values()):
            raise NoCodecLeftError(section.first_lineno, allowed)
    gone = names.keys() - kept.keys()
    if gone:
        for lineno, kind, number, _ in codecs.lines:
            if number in gone:
                draft.remove(lineno, "codec_removed", kind.decode())
    formats = [number for number in section.formats if payload_type(number) not in gone]
    if order:
        ranks = {name.encode(): rank for rank, name in enumerate(order)}
        formats.sort(key=lambda number: ranks.get(kept[payload_type(number)], len(ranks)))
    if formats != [*section.formats]:
        head = b" ".join(draft.text(section.first_lineno).split(b" ", 3)[:3])
        rule = "codec_removed" if gone else "codec_order"
        detail = " ".join(sorted({_show(names[number]) for number in gone}))
        draft.replace(section.first_lineno, b" ".join([head, *formats]), rule, detail)
    return Codecs(
        {payload_type(number): kept[payload_type(number)] for number in formats}, codecs.lines
    )


def _read_lines(section: MediaSection) -> list[CodecLine]:
    text, lineno, counted = section.text, section.first_lineno, 0
    lines = []
    for match in _LINE.finditer(text):
        kind, number, value = match.groups(b"")
        start = match.start(1)
        lineno += text.count(b"\n", counted, start)
        counted = start
        lines.append((lineno, kind, number, value))
    return lines


def _without_forbidden(codecs: Codecs, allowed: set[bytes]) -> dict[bytes, bytes]:
    kept = {number: name for number, name in codecs.names.items() if name in allowed}
    dependents: dict[bytes, list[bytes]] = {}
    lost = []
    for _, kind, number, value in codecs.lines:
        referred = _references(value) if kind == b"fmtp" else set()
        for other in referred:
            dependents.setdefault(other, []).append(number)
        if not kept.keys() >= referred:
            lost.append(number)
    # What is nothing without a removed one goes too, and what is nothing without that.
    while lost:
        number = lost.pop()
        if kept.pop(number, None) is not None:
            lost += dependents.get(number, ())
    return kept


def _references(parameters: bytes) -> set[bytes]:
    """Return the payload types that parameters name.

    Retransmission names one as ``apt=<n>`` (RFC 4588, section 8.6), redundancy as ``<n>/<n>``
    (RFC 2198, section 5).
    """
    if b"/" in parameters:
        parts = [part.strip() for part in parameters.split(b"/")]
        if all(map(bytes.isdigit, parts)):
            return set(map(payload_type, parts))
    pairs = (pair.partition(b"=") for pair in parameters.split(b";"))
    return {payload_type(value.strip()) for key, _, value in pairs if key.strip().lower() == b"apt"}


def _show(name: bytes) -> str:
    return name.decode() if name in _KNOWN else "other"
