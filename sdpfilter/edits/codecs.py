"""Audio codecs: those that are not allowed go, with everything that refers to them.

Payload types are never renumbered: the other side's answer and packets name them.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sdpfilter.draft import Draft
from sdpfilter.policyerrors import NoCodecLeftError
from sdpfilter.sdp.session import MediaSection

# The encodings that payload types have without an a=rtpmap (RFC 3551, section 6), as far as
# browsers know them.
_STATIC: Final = {b"0": b"pcmu", b"8": b"pcma", b"9": b"g722", b"13": b"cn"}
# They carry nothing of their own.
_HELPERS: Final = frozenset({b"red", b"rtx", b"cn", b"telephone-event", b"ulpfec"})

# What an edit may tell of the removed ones.
_KNOWN: Final = frozenset({b"opus", *_STATIC.values(), *_HELPERS, b"ilbc", b"isac", b"l16"})

Codecs = Mapping[bytes, frozenset[bytes]]
"""Payload types to the names of their encodings, in lower case; a sound section has one each."""


def read_codecs(section: MediaSection, known: Codecs | None = None) -> Codecs:
    """Return the codecs of an audio section.

    ``a=rtpmap:<payload type> <encoding name>/<clock rate>[/<parameters>]``
    https://www.rfc-editor.org/rfc/rfc8866#section-6.6

    Args:
        section: Of an offer or an answer.
        known: What a payload type means that the section does not explain: the offer's codecs.
    """
    found: dict[bytes, set[bytes]] = {}
    for rtpmap in section.attributes(b"rtpmap"):
        number, _, encoding = rtpmap.value.partition(b" ")
        name = encoding.strip().partition(b"/")[0].lower()
        found.setdefault(payload_type(number), set()).add(name)
    codecs = {}
    for number in map(payload_type, section.formats):
        if number in found:
            codecs[number] = frozenset(found[number])
        elif known is not None and number in known:
            codecs[number] = known[number]
        else:
            codecs[number] = frozenset({_STATIC.get(number, b"")})
    return codecs


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
    kept = codecs
    if allowed is not None:
        kept = _without_forbidden(section, codecs, allowed)
        if len(kept) < len(codecs):
            _remove_references(draft, section, codecs.keys() - kept.keys())
    formats = [number for number in section.formats if payload_type(number) in kept]
    if order:
        ranks = {name.encode(): rank for rank, name in enumerate(order)}
        formats.sort(key=lambda number: _rank(kept[payload_type(number)], ranks))
    if formats != [*section.formats]:
        head = b" ".join(draft.text(section.first_lineno).split(b" ", 3)[:3])
        rule = "codec_order" if len(kept) == len(codecs) else "codec_removed"
        names = {name for number, found in codecs.items() if number not in kept for name in found}
        detail = " ".join(sorted(_show(name) for name in names))
        draft.replace(section.first_lineno, b" ".join([head, *formats]), rule, detail)
    return kept


def payload_type(token: bytes) -> bytes:
    """Return a payload type as peers read it: a number, so that 09 is 9."""
    return token.strip().lstrip(b"0") or b"0"


def _without_forbidden(
    section: MediaSection, codecs: Codecs, allowed: frozenset[str]
) -> dict[bytes, frozenset[bytes]]:
    names = {name.encode() for name in allowed}
    kept = {number: found for number, found in codecs.items() if found <= names}
    # What is nothing without a removed one goes too, and what is nothing without that.
    references = _read_references(section)
    size = 0
    while size != len(kept):
        size = len(kept)
        broken = {number for number, referred in references if not kept.keys() >= referred}
        kept = {number: found for number, found in kept.items() if number not in broken}
    if all(found <= _HELPERS for found in kept.values()):
        raise NoCodecLeftError(section.first_lineno, allowed)
    return kept


def _read_references(section: MediaSection) -> list[tuple[bytes, set[bytes]]]:
    """Return the payload types that need others.

    Retransmission names one as ``apt=<n>`` (RFC 4588, section 8.6), redundancy as ``<n>/<n>``
    (RFC 2198, section 5).
    """
    found = []
    for fmtp in section.attributes(b"fmtp"):
        number, _, parameters = fmtp.value.partition(b" ")
        parts = parameters.split(b"/")
        if len(parts) > 1 and all(part.strip().isdigit() for part in parts):
            found.append((payload_type(number), set(map(payload_type, parts))))
        else:
            pairs = (pair.partition(b"=") for pair in parameters.split(b";"))
            apt = {payload_type(value) for key, _, value in pairs if key.strip().lower() == b"apt"}
            found.append((payload_type(number), apt))
    return found


def _rank(names: Iterable[bytes], ranks: Mapping[bytes, int]) -> int:
    return min(ranks.get(name, len(ranks)) for name in names)


def _remove_references(draft: Draft, section: MediaSection, removed: Collection[bytes]) -> None:
    for name in (b"rtpmap", b"fmtp", b"rtcp-fb"):
        for attribute in section.attributes(name):
            if payload_type(attribute.value.partition(b" ")[0]) in removed:
                draft.remove(attribute.lineno, "codec_removed", name.decode())


def _show(name: bytes) -> str:
    return name.decode() if name in _KNOWN else "other"
