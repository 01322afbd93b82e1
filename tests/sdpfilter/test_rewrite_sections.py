import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.rewriting import (
    CHROMIUM,
    OPENAI,
    VIDEO,
    changes,
    policy,
    rewrite_answer,
    rewrite_offer,
    with_lines,
)
from ringback.sdppolicy import Policy
from sdpfilter.errors import MissingAttributeError, SDPError
from sdpfilter.policyerrors import (
    ForbiddenAnswerError,
    ForbiddenMediaError,
    ForbiddenTransportError,
    NoCandidateLeftError,
    TooManyDataSectionsError,
)

VOICE = policy(media=["audio", "application"])
TRANSPORT = b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00\r\n"
DATA = b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" + TRANSPORT
VIDEO_SECTION = b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" + TRANSPORT


def with_video(answer: bytes, port: int = 0) -> bytes:
    """Return OpenAI's answer as one to an offer with video between audio and data."""
    head, tail = answer.split(b"m=application")
    video = b"m=video %d UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n" % port
    group = b"BUNDLE 0 1 2" if port else b"BUNDLE 0 2"
    tail = tail.replace(b"a=mid:1", b"a=mid:2")
    return head.replace(b"BUNDLE 0 1", group) + video + b"m=application" + tail


@pytest.mark.parametrize(
    ("data", "wanted", "expected"),
    [
        # Realistic
        pytest.param(
            VIDEO,
            VOICE,
            ["-a=group:BUNDLE 0 1 2", "+a=group:BUNDLE 0 2", "-m=video 9", "+m=video 0"],
            id="video",
        ),
        pytest.param(
            CHROMIUM,
            policy(media=["audio"]),
            ["-a=group:BUNDLE 0 1", "+a=group:BUNDLE 0", "-m=application 9", "+m=application 0"],
            id="data",
        ),
        pytest.param(
            CHROMIUM,
            policy(max_data_sections=0),
            ["-a=group:BUNDLE 0 1", "+a=group:BUNDLE 0", "-m=application 9", "+m=application 0"],
            id="no-data-sections",
        ),
        pytest.param(CHROMIUM, policy(media=["audio", "application"]), [], id="nothing"),
        pytest.param(CHROMIUM, policy(max_data_sections=1), [], id="one-data-section"),
        # Synthetic
        pytest.param(
            CHROMIUM + DATA,
            policy(max_data_sections=1),
            ["-m=application 9", "+m=application 0"],
            id="second-data-section",
        ),
        pytest.param(
            CHROMIUM.replace(b"m=application 9", b"m=application 0") + DATA,
            policy(max_data_sections=1),
            [],
            id="rejected-ones-do-not-count",
        ),
        pytest.param(
            CHROMIUM + VIDEO_SECTION.replace(b"m=video 9", b"m=text 9/2"),
            VOICE,
            ["-m=text 9/2", "+m=text 0"],
            id="unknown-kind-and-port-count",
        ),
        pytest.param(
            CHROMIUM + VIDEO_SECTION.replace(b"m=video 9", b"m=x-secret 9"),
            VOICE,
            ["-m=x-secret 9", "+m=x-secret 0"],
            id="made-up-kind",
        ),
        pytest.param(
            CHROMIUM.replace(b"BUNDLE 0 1", b"BUNDLE 0 1 v")
            + VIDEO_SECTION.replace(b"m=video 9", b"m=video 0")
            + b"a=bundle-only\r\na=mid:v\r\n",
            VOICE,
            ["-a=group:BUNDLE 0 1 v", "+a=group:BUNDLE 0 1", "-a=bundle-only"],
            id="bundle-only",
        ),
        pytest.param(
            CHROMIUM.replace(b"BUNDLE 0 1\r\n", b"BUNDLE 0 1\r\na=group:BUNDLE v\r\n")
            + VIDEO_SECTION
            + b"a=mid:v\r\n",
            VOICE,
            ["-a=group:BUNDLE v", "-m=video 9", "+m=video 0"],
            id="group-of-its-own",
        ),
        pytest.param(
            CHROMIUM.replace(b"BUNDLE 0 1\r\n", b"BUNDLE 0 1\r\na=group:LS v 0\r\na=group:\r\n")
            + VIDEO_SECTION
            + b"a=mid:v\r\n",
            VOICE,
            ["-a=group:LS v 0", "+a=group:LS 0", "-m=video 9", "+m=video 0"],
            id="lip-sync",
        ),
    ],
)
def test_forbidden_sections_are_rejected(data: bytes, wanted: Policy, expected: list[str]) -> None:
    """They get port 0 and leave their groups; all else stays, and sections keep their places."""
    rewritten = rewrite_offer(data, wanted)
    shown = [line.split(" UDP/")[0] for line in changes(data, rewritten.data)]
    assert shown == expected


@pytest.mark.parametrize("candidates", ["keep", "drop_private", "drop_all"])
def test_a_rejected_section_keeps_no_candidates(candidates: str) -> None:
    """Port 0 is nowhere to reach anybody, and hiding addresses does not bring a port back."""
    data = OFFERS["offer_aiortc_old_2026-01-25_public"]
    wanted = policy(media=["audio"], offer_candidates=candidates)
    section = rewrite_offer(data, wanted).description.media[1]
    assert section.is_rejected
    assert not section.attributes(b"candidate")
    assert not section.attributes(b"end-of-candidates")


@pytest.mark.parametrize(
    ("data", "wanted", "error"),
    [
        # Realistic
        pytest.param(VIDEO, {"media": ["audio", "application"]}, ForbiddenMediaError, id="video"),
        pytest.param(CHROMIUM, {"media": ["audio"]}, ForbiddenMediaError, id="data"),
        pytest.param(CHROMIUM, {"max_data_sections": 0}, TooManyDataSectionsError, id="no-data"),
        # Synthetic
        pytest.param(
            CHROMIUM + VIDEO_SECTION.replace(b"m=video 9", b"m=video 0") + b"a=bundle-only\r\n",
            {"media": ["audio", "application"]},
            ForbiddenMediaError,
            id="bundle-only",
        ),
        pytest.param(
            CHROMIUM + VIDEO_SECTION.replace(b"m=video 9", b"m=video 0"),
            {"media": ["audio", "application"]},
            None,
            id="rejected-already",
        ),
    ],
)
def test_forbidden_sections_are_refused(
    data: bytes, wanted: dict[str, object], error: type[SDPError] | None
) -> None:
    """With forbidden_media: refuse, the offer does not pass at all."""
    strict = policy(forbidden_media="refuse", **wanted)
    if error is None:
        assert rewrite_offer(data, strict).data is data
        return
    with pytest.raises(error):
        rewrite_offer(data, strict)


def test_the_section_that_carries_the_transport_cannot_be_rejected() -> None:
    """Chromium with the bundle policy max-bundle would not take the answer, so the offer goes."""
    data = CHROMIUM.replace(b"BUNDLE 0 1", b"BUNDLE v 0 1") + VIDEO_SECTION + b"a=mid:v\r\n"
    with pytest.raises(ForbiddenTransportError) as refusal:
        rewrite_offer(data, VOICE)
    assert refusal.value.lineno == 49


def test_a_section_may_not_need_a_rejected_one() -> None:
    """A section that has its ICE credentials from a rejected one is refused like one without."""
    bare = CHROMIUM
    for name in (b"a=ice-ufrag", b"a=ice-pwd"):
        lines = [line for line in bare.splitlines(True) if not line.startswith(name)]
        bare = b"".join(lines)
    data = bare.replace(b"BUNDLE 0 1", b"BUNDLE 0 1 v") + VIDEO_SECTION + b"a=mid:v\r\n"
    rewrite_offer(data, policy(media=["audio", "application", "video"]))
    with pytest.raises(MissingAttributeError):
        rewrite_offer(data, VOICE)


def test_an_answer_that_rejects_too_is_not_touched() -> None:
    """An upstream that does as the offer says needs no edit."""
    answer = with_video(OPENAI)
    assert rewrite_answer(answer, VOICE, offer=VIDEO).data is answer


def test_an_answer_that_accepts_is_corrected() -> None:
    """A section that was offered with port 0 is rejected, whatever the upstream answers."""
    answer = with_video(OPENAI, port=9)
    rewritten = rewrite_answer(answer, VOICE, offer=VIDEO)
    assert rewritten.data == with_video(OPENAI)
    assert {edit.detail for edit in rewritten.edits} == {"group", "video"}


def test_an_answer_is_left_alone_without_such_a_policy() -> None:
    """What a client rejects itself is between it and the upstream."""
    offer = VIDEO.replace(b"m=video 9", b"m=video 0")
    answer = with_video(OPENAI, port=9)
    assert rewrite_answer(answer, policy(), offer=offer).data is answer
    assert rewrite_answer(answer, policy(mask_related_addresses=True), offer=offer).data is answer


def test_an_answer_whose_transport_would_go_is_refused() -> None:
    """No edit mends an answer that bundles all media on a section that was not offered."""
    answer = with_video(OPENAI, port=9).replace(b"BUNDLE 0 1 2", b"BUNDLE 1 0 2")
    with pytest.raises(ForbiddenAnswerError):
        rewrite_answer(answer, VOICE, offer=VIDEO)


def test_candidates_of_a_rejected_section_are_none() -> None:
    """An answer whose candidates are all in the rejected section is no answer."""
    candidate = b"a=candidate:1 1 udp 1 51.4.112.173 3478 typ host"
    answer = with_video(OPENAI.replace(b"a=candidate", b"a=x-candidate"), port=9)
    with pytest.raises(NoCandidateLeftError):
        rewrite_answer(with_lines(answer, b"a=mid:1", candidate), VOICE, offer=VIDEO)


def test_an_abridged_answer_passes() -> None:
    """OpenAI's documented answer needs no edit under a policy for voice."""
    answer = ANSWERS["answer_openai_docs_example"]
    assert rewrite_answer(answer, VOICE).data is answer
