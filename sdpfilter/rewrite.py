"""A policy applied to an offer and to the answer to it.

Only what the policy names is changed; every other byte stays as it came.
"""

from ringback.sdppolicy import AudioLimits, Policy
from sdpfilter.draft import Draft, Rewritten
from sdpfilter.edits.audio import limit_bandwidth, limit_opus
from sdpfilter.edits.candidates import hide_addresses, limit_candidates
from sdpfilter.edits.codecs import limit_codecs, read_codecs
from sdpfilter.edits.directions import narrow_direction, reverse
from sdpfilter.edits.sections import find_forbidden, reject_sections
from sdpfilter.errors import InvalidAnswerError, LimitError
from sdpfilter.limits import check_fingerprints, check_size
from sdpfilter.policyerrors import ForbiddenAnswerError, PolicyError
from sdpfilter.rules import check_transports
from sdpfilter.sdp.attributes import Direction
from sdpfilter.sdp.session import MediaSection, SessionDescription


def apply_to_offer(offer: SessionDescription, policy: Policy) -> Rewritten:
    """Apply a policy to an offer that `check_offer` has passed.

    Applying the same policy again changes nothing.

    Raises:
        LimitError: If the offer exceeds a number of the policy (413).
        PolicyError: If the policy does not allow it and no edit can mend that (403).
        MissingAttributeError: If a section needs the transport of one that is not allowed (400).
    """
    check_size(offer, policy)
    check_fingerprints(offer, policy.min_fingerprint_hash)
    draft = Draft(offer)
    forbidden = find_forbidden(offer, policy)
    reject_sections(draft, forbidden)
    only = Direction(policy.direction) if policy.direction else None
    for place, section in enumerate(offer.media):
        if not section.is_rejected and place not in forbidden:
            _edit_section(draft, section, policy, audio=policy.offer_audio, only=only)
    hide_addresses(draft, policy)
    rewritten = draft.finish()
    if forbidden:
        check_transports(rewritten.description)
    return rewritten


def apply_to_answer(
    answer: SessionDescription, offer: SessionDescription, policy: Policy
) -> Rewritten:
    """Apply a policy to an answer that `check_answer` has passed.

    Args:
        answer: As the upstream sent it.
        offer: As the upstream received it: the description of `apply_to_offer`.
        policy: The one that was applied to the offer.

    Raises:
        AnswerError: If the policy does not allow it and no edit can mend that (502).
    """
    draft = Draft(answer)
    try:
        check_fingerprints(answer, policy.min_fingerprint_hash)
        rejected = _find_rejected(offer, policy)
        reject_sections(draft, rejected)
        only = reverse(Direction(policy.direction)) if policy.direction else None
        for place, (section, offered) in enumerate(zip(answer.media, offer.media, strict=True)):
            if not section.is_rejected and place not in rejected:
                _edit_section(
                    draft, section, policy, audio=policy.answer_audio, only=only, offered=offered
                )
        limit_candidates(draft, policy, offer, rejected)
        return draft.finish()
    except PolicyError as exc:
        raise ForbiddenAnswerError(exc) from exc
    except LimitError as exc:
        raise InvalidAnswerError(exc) from exc


def _find_rejected(offer: SessionDescription, policy: Policy) -> list[int]:
    """Return the places of the sections that must be rejected in the answer.

    An upstream rejects what the offer rejects; one that does not is corrected.
    """
    if policy.media is None and policy.max_data_sections is None:
        return []
    return [place for place, section in enumerate(offer.media) if section.is_rejected]


def _edit_section(
    draft: Draft,
    section: MediaSection,
    policy: Policy,
    *,
    audio: AudioLimits,
    only: Direction | None,
    offered: MediaSection | None = None,
) -> None:
    allowed, order = policy.audio_codecs, policy.audio_codec_order
    if section.media == b"audio" and (allowed is not None or order or audio.is_set):
        codecs = read_codecs(section, offered)
        kept = limit_codecs(draft, section, codecs, allowed, order)
        limit_opus(draft, section, kept, audio)
        limit_bandwidth(draft, section, kept, audio)
    if only is not None and section.media != b"application":
        narrow_direction(draft, section, only)
