import pytest

from helpers.descriptions import ANSWERS, OFFERS
from sdpfilter.describe import Kind, describe
from sdpfilter.hints import Hint, find_hints
from sdpfilter.sdp.session import parse_description

OFFER = OFFERS["offer_chromium156_audio_dc_initial"]
GATHERED = OFFERS["offer_aiortc_old_2026-01-25_public"]
ANSWER = ANSWERS["answer_openai_2026-08-17_ga_calls"]


def without(data: bytes, *starts: bytes) -> bytes:
    """Return a description without the lines that begin in one of several ways."""
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(starts))


def hint(offer: bytes, answer: bytes | None = None) -> list[Hint]:
    """Return the hints of an offer, or of an offer and its answer."""
    offered = parse_description(offer)
    if answer is None:
        return find_hints(describe(offered))
    answered = describe(parse_description(answer), Kind.ANSWER, offered)
    return find_hints(describe(offered, Kind.OFFER), answered)


@pytest.mark.parametrize("name", [*OFFERS, *ANSWERS])
def test_real_descriptions_have_no_hint_but_one_way(name: str) -> None:
    """What real peers send works; only the receive-only offer is worth a word."""
    found = [hint.code for hint in hint({**OFFERS, **ANSWERS}[name])]
    assert found == (["recvonly"] if "recvonly" in name else [])


ALONE = [
    # Realistic
    pytest.param(OFFER.replace(b"sendrecv", b"recvonly"), "recvonly", id="no-microphone"),
    pytest.param(OFFER.replace(b"sendrecv", b"sendonly"), "sendonly", id="no-loudspeaker"),
    pytest.param(OFFER.replace(b"sendrecv", b"inactive"), "inactive", id="on-hold"),
    pytest.param(ANSWER.replace(b"sendrecv", b"recvonly"), "recvonly", id="upstream-is-silent"),
    pytest.param(
        OFFER.replace(b"m=application 9", b"m=application 0"), "section_rejected", id="no-channel"
    ),
    pytest.param(
        ANSWER.replace(b"m=audio 9", b"m=audio 0"), "section_rejected", id="audio-rejected"
    ),
    pytest.param(OFFER[: OFFER.index(b"m=")] + OFFER[OFFER.index(b"m=app") :], "no_audio_section"),
    pytest.param(without(OFFER, b"a=fingerprint"), "no_fingerprint", id="offer-edited"),
    pytest.param(without(ANSWER, b"a=fingerprint"), "no_fingerprint", id="answer-edited"),
    pytest.param(without(GATHERED, b"a=candidate"), "no_more_candidates", id="stripped-by-half"),
    pytest.param(
        b"".join(line for line in ANSWER.splitlines(keepends=True) if b" tcp " not in line),
        "udp_only",
        id="udp-only",
    ),
    pytest.param(
        b"".join(line for line in ANSWER.splitlines(keepends=True) if b" udp " not in line),
        "tcp_only",
        id="tcp-only",
    ),
    # Synthetic
    pytest.param(
        ANSWER.replace(b"51.4.112.173", b"10.0.0.1")
        .replace(b"20.74.221.21", b"10.0.0.2")
        .replace(b"72.146.20.246", b"10.0.0.3"),
        "no_public_address",
        id="private-answer",
    ),
    pytest.param(
        OFFER.replace(b" 111 63 9 0 8 13 110 126", b" 13 126"), "no_codec", id="only-helpers"
    ),
    pytest.param(
        without(OFFER, b"a=setup").replace(b"sendrecv", b"inactive"), "inactive", id="no-kind"
    ),
]


@pytest.mark.parametrize(("data", "code"), ALONE)
def test_one_description_has_its_hint(data: bytes, code: str) -> None:
    """Each mistake gives its hint and no other."""
    assert [hint.code for hint in hint(data)] == [code]


TOGETHER = [
    # Realistic
    pytest.param(OFFER, ANSWER, [], id="chromium-and-openai"),
    pytest.param(
        GATHERED, ANSWERS["answer_openai_2026-01-25_to_aiortc"], [], id="aiortc-and-openai"
    ),
    pytest.param(
        OFFER,
        without(ANSWER, b"a=candidate", b"a=ice-lite"),
        ["no_candidates"],
        id="both-sides-stripped",
    ),
    pytest.param(
        GATHERED,
        without(ANSWER, b"a=candidate"),
        ["lite_without_candidates"],
        id="lite-answer-stripped",
    ),
    pytest.param(
        OFFER.replace(b"sendrecv", b"recvonly"),
        ANSWER.replace(b"sendrecv", b"sendonly"),
        ["recvonly", "sendonly"],
        id="listen-only",
    ),
    # Synthetic
    pytest.param(
        OFFER.replace(b"opus/48000/2", b"speex/48000"), ANSWER, ["codec_mismatch"], id="codecs"
    ),
    pytest.param(
        OFFERS["offer_chromium156_audio_video_dc_initial"], ANSWER, ["section_count"], id="not-its"
    ),
    pytest.param(
        OFFER.replace(b"actpass", b"active"), ANSWER, ["same_dtls_role"], id="two-clients"
    ),
    pytest.param(
        OFFER.replace(b"a=extmap-allow-mixed", b"a=ice-lite"), ANSWER, ["both_lite"], id="two-lites"
    ),
]


@pytest.mark.parametrize(("offer", "answer", "codes"), TOGETHER)
def test_two_descriptions_have_hints_of_their_own(
    offer: bytes, answer: bytes, codes: list[str]
) -> None:
    """What only shows when both sides are known."""
    assert [hint.code for hint in hint(offer, answer)] == codes


def test_a_hint_names_line_and_meaning() -> None:
    """The text says where, what it means for the two who talk, and what to do."""
    (found,) = hint(OFFER.replace(b"sendrecv", b"recvonly"))
    assert found.text == (
        "line 8 of the offer, audio: a=recvonly, so the microphone is not sent; "
        "add its track before createOffer()"
    )
