"""Candidates: those of an offer tell where a caller is, those of an answer where media will go."""

import re
from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_address
from typing import Final

from ringback.sdppolicy import AnswerCandidates, Network, OfferCandidates, Policy
from sdpfilter.draft import Draft
from sdpfilter.edits.addresses import unset, why_hidden
from sdpfilter.edits.defaults import hide_origin, unset_defaults
from sdpfilter.policyerrors import NoCandidateLeftError
from sdpfilter.sdp.attributes import Attribute
from sdpfilter.sdp.session import SessionDescription

# a=candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type>, and then
# pairs of a name and a value: https://www.rfc-editor.org/rfc/rfc8839#section-5.1
_TRANSPORT: Final = 2
_ADDRESS: Final = 4
_PORT: Final = 5
_PAIRS: Final = 8
_RELATED: Final = re.compile(rb"(?i)[ \t]r(?:addr|port)[ \t]")
_FIELD: Final = re.compile(rb"\S+")

Place = tuple[bytes, bytes]
"""An address and a port."""


def hide_addresses(draft: Draft, policy: Policy) -> None:
    """Take from an offer the candidates and all other addresses that the policy hides.

    A default address that is no candidate's would make the answerer give ICE up (RFC 8839, section
    4.2.5), so it is unset where its candidate goes.
    """
    if policy.offer_candidates is not OfferCandidates.KEEP:
        why = _always if policy.offer_candidates is OfferCandidates.DROP_ALL else _Hidden()
        _drop_candidates(draft, lambda fields: why(fields[_ADDRESS]))
        unset_defaults(draft, lambda address, _port: bool(why(address)))
        hide_origin(draft, why)
    if policy.mask_related_addresses and _has_candidates(draft.description):
        for section in draft.description.media:
            for candidate in section.attributes(b"candidate"):
                _mask_related(draft, candidate)


def limit_candidates(
    draft: Draft, policy: Policy, offer: SessionDescription, rejected: Collection[int]
) -> None:
    """Take from an answer the candidates that the policy does not allow.

    Args:
        draft: Of the answer.
        policy: Says which transports and addresses.
        offer: As the upstream received it.
        rejected: The places of the sections that the policy rejects.

    Raises:
        NoCandidateLeftError: If none is left that the answer had (502). A call could then only come
            about past the policy, or not at all: an upstream with ICE lite never begins, and no
            upstream can if the offer has no candidate.
    """
    media = draft.description.media
    accepted = [
        section
        for place, section in enumerate(media)
        if not section.is_rejected and place not in rejected
    ]
    answered = sum(
        len(section.attributes(b"candidate")) for section in media if not section.is_rejected
    )
    is_limited = (
        policy.answer_candidates is not AnswerCandidates.KEEP or policy.answer_addresses is not None
    )
    if is_limited:
        kept, dropped = _drop_candidates(draft, lambda fields: _why_forbidden(fields, policy))
        gone = dropped - kept
        unset_defaults(draft, lambda address, port: (address, port) in gone)
    left = any(
        draft.text(candidate.lineno)
        for section in accepted
        for candidate in section.attributes(b"candidate")
    )
    is_needed = is_limited or policy.offer_candidates is not OfferCandidates.KEEP
    if not left and (answered or (is_needed and not _is_reachable(offer))):
        raise NoCandidateLeftError(answered)


def _is_reachable(offer: SessionDescription) -> bool:
    return any(
        section.attributes(b"candidate") for section in offer.media if not section.is_rejected
    )


def _has_candidates(description: SessionDescription) -> bool:
    """Tell at one look what is true of most offers: that there is nothing to do."""
    return b"\na=candidate" in description.data


def _drop_candidates(
    draft: Draft, why: Callable[[Sequence[bytes]], str]
) -> tuple[set[Place], set[Place]]:
    """Remove candidates, and where none is left the line that says that no more will come.

    Without candidates that line would say that no check can ever succeed, and ICE fails at once.

    Args:
        draft: Of an offer or an answer.
        why: Returns why the candidate of these fields goes; empty if it stays.

    Returns:
        The places of those that stay, and of those that go.
    """
    kept: set[Place] = set()
    dropped: set[Place] = set()
    if not _has_candidates(draft.description):
        return kept, dropped
    parts = (draft.description.session, *draft.description.media)
    emptied = []
    for part in parts:
        # Those of a rejected section are gone already.
        candidates = [found for found in part.attributes(b"candidate") if draft.text(found.lineno)]
        left = len(candidates)
        for candidate in candidates:
            fields = candidate.value.split()
            reason = why(fields) if len(fields) >= _PAIRS else "unreadable"
            address, port = [*fields, b"", b"", b"", b"", b"", b""][_ADDRESS : _PORT + 1]
            if reason:
                draft.remove(candidate.lineno, "candidate_dropped", reason)
                dropped.add((address, port))
                left -= 1
            else:
                kept.add((address, port))
        if candidates and not left:
            emptied.append(part)
    # Bundled sections may have the line without candidates of their own.
    for part in parts if dropped and not kept else emptied:
        for end in part.attributes(b"end-of-candidates"):
            draft.remove(end.lineno, "end_of_candidates")
    return kept, dropped


def _mask_related(draft: Draft, candidate: Attribute) -> None:
    """Put ``raddr 0.0.0.0 rport 9`` into a candidate (RFC 8839, section 5.1)."""
    text = candidate.value
    if _RELATED.search(text) is None or not draft.text(candidate.lineno):
        return
    fields = list(_FIELD.finditer(text))
    for name, value in reversed(
        list(zip(fields[_PAIRS::2], fields[_PAIRS + 1 :: 2], strict=False))
    ):
        match name[0].lower():
            case b"raddr":
                masked = unset(b"IP6" if b":" in fields[_ADDRESS][0] else b"IP4")
            case b"rport":
                masked = b"9"
            case _:
                continue
        text = text[: value.start()] + masked + text[value.end() :]
    if text != candidate.value:
        draft.replace(candidate.lineno, b"a=candidate:" + text, "related_address")


class _Hidden(dict[bytes, str]):
    """Why addresses are hidden; sections of one transport repeat theirs."""

    def __call__(self, address: bytes) -> str:
        return self[address]

    def __missing__(self, address: bytes) -> str:
        self[address] = why = why_hidden(address)
        return why


def _always(_address: bytes) -> str:
    return "any"


def _why_forbidden(fields: Sequence[bytes], policy: Policy) -> str:
    """Return why a candidate of an answer is not allowed; empty if it is."""
    transport = fields[_TRANSPORT].lower()
    match policy.answer_candidates:
        case AnswerCandidates.UDP_ONLY if transport != b"udp":
            return "transport"
        case AnswerCandidates.TCP_443_ONLY if (transport, fields[_PORT]) != (b"tcp", b"443"):
            return "transport"
    if policy.answer_addresses and not _is_within(fields[_ADDRESS], policy.answer_addresses):
        return "address"
    return ""


def _is_within(address: bytes, networks: Sequence[Network]) -> bool:
    try:
        ip = ip_address(address.decode("ascii"))
    except ValueError:
        return False
    return any(ip in network for network in networks)
