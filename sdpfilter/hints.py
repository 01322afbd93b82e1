"""Why a call may have no audio, as far as its descriptions tell; ``docs/sdp.md`` has the rest."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sdpfilter.describe import Kind, SectionSummary, Summary, codec_name
from sdpfilter.sdp.attributes import Direction


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing that keeps audio from flowing, or may."""

    code: str
    """A stable word, the one in ``docs/sdp.md``."""

    text: str
    """What it is and what to do; it quotes no address and no credential."""


# For each side: what its direction means for the two people who talk.
_ONE_WAY: Final[Mapping[Kind, Mapping[Direction, str]]] = MappingProxyType(
    {
        Kind.OFFER: {
            Direction.RECVONLY: "the microphone is not sent; add its track before createOffer()",
            Direction.SENDONLY: "the model's voice is not received; offer a=sendrecv",
            Direction.INACTIVE: "no audio flows either way; offer a=sendrecv",
        },
        Kind.ANSWER: {
            Direction.RECVONLY: "the model's voice is not sent; was it an a=sendonly offer?",
            Direction.SENDONLY: "the microphone is not listened to; was it an a=recvonly offer?",
            Direction.INACTIVE: "no audio flows either way; look at the direction in the offer",
        },
        Kind.UNKNOWN: {
            Direction.RECVONLY: "this side sends no audio",
            Direction.SENDONLY: "this side takes no audio",
            Direction.INACTIVE: "no audio flows either way",
        },
    }
)


def find_hints(summary: Summary, answer: Summary | None = None) -> list[Hint]:
    """Return what may be the reason for silence, the likeliest of each description first.

    Args:
        summary: Of an offer or an answer; of the offer if ``answer`` is given.
        answer: Of the answer to it.
    """
    hints = [hint for look in _ALONE for hint in look(summary)]
    if answer is not None:
        hints += [hint for look in _ALONE for hint in look(answer)]
        hints += [hint for look in _TOGETHER for hint in look(summary, answer)]
    return hints


def _sections(summary: Summary) -> Iterator[Hint]:
    if not any(section.media == "audio" for section in summary.sections):
        yield Hint(
            "no_audio_section",
            f"the {summary.kind} has no audio section; add a microphone track or call "
            "addTransceiver('audio') before createOffer()",
        )
    for section in summary.sections:
        where = f"{_where(summary, section)}, {section.media}"
        if section.is_rejected:
            yield Hint(
                "section_rejected",
                f"{where}: port 0 rejects the section; if a policy did it, "
                "`ringback sdp check` names the rule",
            )
        elif section.media == "audio" and section.direction is not Direction.SENDRECV:
            meaning = _ONE_WAY[summary.kind][section.direction]
            yield Hint(section.direction, f"{where}: a={section.direction}, so {meaning}")
        elif section.media == "audio" and not section.codecs:
            yield Hint("no_codec", f"{where}: no codec carries voice; Opus is the usual one")


def _transport(summary: Summary) -> Iterator[Hint]:
    if not summary.hashes:
        yield Hint(
            "no_fingerprint",
            f"the {summary.kind} has no a=fingerprint, so DTLS fails and no audio flows; "
            "was the description edited?",
        )
    if summary.is_ended and not summary.candidates:
        yield Hint(
            "no_more_candidates",
            f"the {summary.kind} has no candidate and says with a=end-of-candidates that none "
            "will come, so ICE fails at once; remove that line",
        )


def _reachability(summary: Summary) -> Iterator[Hint]:
    if summary.kind is not Kind.ANSWER or not summary.candidates:
        return
    kinds = [kind for kind, _ in summary.candidates]
    if all(kind.transport == "UDP" for kind in kinds):
        yield Hint(
            "udp_only",
            "the answer can be reached over UDP only; a firewall that blocks UDP blocks the call",
        )
    elif not any(kind.transport == "UDP" for kind in kinds):
        yield Hint(
            "tcp_only",
            "the answer can be reached over TCP only; audio stutters when packets are lost",
        )
    if not any(kind.address == "public" for kind in kinds):
        yield Hint(
            "no_public_address",
            "no candidate of the answer has a public address; it is reached only from its own "
            "network",
        )


def _paths(offer: Summary, answer: Summary) -> Iterator[Hint]:
    if not offer.candidates and not answer.candidates:
        yield Hint(
            "no_candidates",
            "neither side has a candidate, so nobody knows where to begin and the call never "
            "connects; let the answer keep one",
        )
    elif answer.is_lite and not answer.candidates:
        yield Hint(
            "lite_without_candidates",
            "the answer has ICE lite, which never begins, and no candidate at which it could be "
            "reached, so the call never connects",
        )
    if offer.is_lite and answer.is_lite:
        yield Hint("both_lite", "both sides have ICE lite, and neither begins")
    for role in ("active", "passive"):
        if offer.setups == answer.setups == (role,):
            yield Hint(
                "same_dtls_role",
                f"both sides say a=setup:{role}, so DTLS never begins; offer a=setup:actpass",
            )


def _pairs(offer: Summary, answer: Summary) -> Iterator[Hint]:
    if len(offer.sections) != len(answer.sections):
        yield Hint(
            "section_count",
            f"the offer has {len(offer.sections)} media sections and the answer "
            f"{len(answer.sections)}; is it the answer to this offer?",
        )
    for offered, answered in zip(offer.sections, answer.sections, strict=False):
        if offered.media != "audio" or answered.media != "audio" or answered.is_rejected:
            continue
        names = {codec_name(codec) for codec in offered.codecs}
        if names and names.isdisjoint(map(codec_name, answered.codecs)):
            yield Hint(
                "codec_mismatch",
                f"{_where(answer, answered)}: none of the answer's codecs was offered; "
                "is it the answer to this offer?",
            )


def _where(summary: Summary, section: SectionSummary) -> str:
    return f"line {section.lineno} of the {summary.kind}"


_ALONE: Final[tuple[Callable[[Summary], Iterator[Hint]], ...]] = (
    _sections,
    _transport,
    _reachability,
)
_TOGETHER: Final[tuple[Callable[[Summary, Summary], Iterator[Hint]], ...]] = (_paths, _pairs)
