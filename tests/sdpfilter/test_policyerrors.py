from typing import Any, Final

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from ringback.sdppolicy import (
    AnswerCandidates,
    ForbiddenMedia,
    MediaKind,
    OfferCandidates,
    Policy,
)
from sdpfilter import policyerrors
from sdpfilter.errors import AnswerError, SDPError
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer

OFFER = OFFERS["offer_chromium156_audio_dc_initial"]
GATHERED = OFFERS["offer_chromium156_audio_dc_gathered"]
VIDEO = OFFERS["offer_chromium156_audio_video_dc_initial"]
ANSWER = ANSWERS["answer_openai_2026-08-17_ga_calls"]
VOICE: Final[frozenset[MediaKind]] = frozenset({"audio", "application"})
NOT_AT_FAULT = "the offer is not at fault: try again, and tell the operator if it stays"
ASK = "ask the operator to allow the transport and the addresses of this upstream"


def video_first(data: bytes) -> bytes:
    """Swap the first two media sections, as addTrack() in the other order does."""
    session, audio, video, application = (
        data[: data.index(b"m=audio")],
        data[data.index(b"m=audio") : data.index(b"m=video")],
        data[data.index(b"m=video") : data.index(b"m=application")],
        data[data.index(b"m=application") :],
    )
    session = session.replace(b"BUNDLE 0 1 2", b"BUNDLE 1 0 2")
    return session + video + audio + application


REFUSED_OFFERS = [
    # Realistic
    pytest.param(
        VIDEO,
        Policy(media=VOICE, forbidden_media=ForbiddenMedia.REFUSE),
        403,
        "sdp_media_forbidden",
        "line 39: expected a media section of an allowed kind: application or audio; "
        "add no other track or transceiver before createOffer()",
        id="video",
    ),
    pytest.param(
        video_first(VIDEO),
        Policy(media=VOICE),
        403,
        "sdp_transport_forbidden",
        "line 8: expected a media section that is allowed as the first of its BUNDLE group, "
        "because the others share its transport; add the audio track before all others",
        id="video-first",
    ),
    pytest.param(
        OFFER.replace(b" 111 63", b"").replace(b"111 ", b"9 ").replace(b"63 ", b"9 "),
        Policy(audio_codecs=frozenset({"opus", "red"})),
        403,
        "sdp_no_codec",
        "line 8: expected at least one of these codecs for voice: opus, red; "
        "do not remove codecs with setCodecPreferences() or by editing the description",
        id="no-opus",
    ),
    pytest.param(
        GATHERED,
        Policy(max_candidates=7),
        413,
        "sdp_too_many_candidates",
        "the offer has 8 candidates, at most 7 are allowed; "
        "send the description as createOffer() made it, before candidates are gathered",
        id="candidates",
    ),
    # Synthetic
    pytest.param(
        OFFER.replace(b"sha-256", b"sha-1", 1),
        Policy(min_fingerprint_hash="sha-256"),
        403,
        "sdp_weak_fingerprint",
        "line 14: expected a=fingerprint with sha-256 or a longer hash; "
        "update the browser or the WebRTC library",
        id="sha-1",
    ),
    pytest.param(
        OFFER + b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n"
        b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00\r\n",
        Policy(max_data_sections=1, forbidden_media=ForbiddenMedia.REFUSE),
        403,
        "sdp_data_sections",
        "line 49: expected no further media section for data channels, at most 1 allowed; "
        "open all channels on one media section, as createDataChannel() does",
        id="second-data-section",
    ),
    pytest.param(
        OFFER,
        Policy(max_data_sections=0, forbidden_media=ForbiddenMedia.REFUSE),
        403,
        "sdp_data_sections",
        "line 39: expected no further media section for data channels, at most 0 allowed; "
        "call createDataChannel() not at all",
        id="no-data-section",
    ),
]

REFUSED_ANSWERS = [
    # Realistic
    pytest.param(
        b"tcptype passive ufrag",
        b"tcptype active ufrag",
        Policy(answer_candidates=AnswerCandidates.TCP_443_ONLY),
        None,
        id="tcp-443-is-there",
    ),
    pytest.param(
        b" 443 typ",
        b" 3478 typ",
        Policy(answer_candidates=AnswerCandidates.TCP_443_ONLY),
        ("sdp_no_candidate", "the policy allows in the upstream's answer, which has 6; " + ASK),
        id="no-tcp-443",
    ),
    # Synthetic
    pytest.param(
        b"a=candidate:",
        b"a=x-candidate:",
        Policy(offer_candidates=OfferCandidates.DROP_ALL),
        ("sdp_no_candidate", "the policy allows in the upstream's answer, which has 0; " + ASK),
        id="no-candidates-on-either-side",
    ),
    pytest.param(
        b"a=fingerprint:sha-256",
        b"a=fingerprint:md5",
        Policy(min_fingerprint_hash="sha-256"),
        (
            "sdp_answer_forbidden",
            "the policy forbids the upstream's answer: line 6: expected a=fingerprint with sha-256 "
            "or a longer hash; " + NOT_AT_FAULT,
        ),
        id="md5",
    ),
]


@pytest.mark.parametrize(("data", "policy", "http_status", "code", "message"), REFUSED_OFFERS)
def test_refused_offers(
    data: bytes, policy: Policy, http_status: int, code: str, message: str
) -> None:
    """What a policy cannot mend is refused with a status, a code, a line and what to change."""
    offer = check_offer(data)
    with pytest.raises(SDPError) as refusal:
        apply_to_offer(offer, policy)
    assert (refusal.value.http_status, refusal.value.code) == (http_status, code)
    assert str(refusal.value) == message


@pytest.mark.parametrize(("old", "new", "policy", "refused"), REFUSED_ANSWERS)
def test_refused_answers(
    old: bytes, new: bytes, policy: Policy, refused: tuple[str, str] | None
) -> None:
    """An answer that a policy cannot mend is 502, in words for the operator."""
    assert old in ANSWER
    offer = apply_to_offer(check_offer(OFFER), policy).description
    answer = check_answer(ANSWER.replace(old, new), offer)
    if refused is None:
        apply_to_answer(answer, offer, policy)
        return
    with pytest.raises(AnswerError) as refusal:
        apply_to_answer(answer, offer, policy)
    assert (refusal.value.http_status, refusal.value.code) == (502, refused[0])
    assert str(refusal.value).endswith(refused[1])


def test_every_error_is_in_the_tables() -> None:
    """No policy's error exists whose text is not pinned here."""
    codes = {
        error.code
        for error in vars(policyerrors).values()
        if isinstance(error, type) and error.__module__ == policyerrors.__name__
        if hasattr(error, "code")
    }
    refused: list[Any] = [row.values[3] for row in REFUSED_ANSWERS]
    assert codes == {
        *(row.values[3] for row in REFUSED_OFFERS),
        *(code for code, _ in filter(None, refused)),
    }


def test_a_wrapped_reason_is_the_cause() -> None:
    """The error for an answer keeps the policy's own as its cause."""
    policy = Policy(min_fingerprint_hash="sha-384")
    offer = check_offer(OFFER)
    with pytest.raises(AnswerError) as refusal:
        apply_to_answer(check_answer(ANSWER, offer), offer, policy)
    assert isinstance(refusal.value.__cause__, SDPError)
