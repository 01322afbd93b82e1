import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.descriptions import ANSWERS, OFFERS
from helpers.mutations import line_of_any_kind, mutated
from sdpfilter.errors import AnswerError, SDPError
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.session import SessionDescription, serialize_description

OFFER = OFFERS["offer_chromium156_audio_dc_initial"]
ANSWER = ANSWERS["answer_openai_2026-08-17_ga_calls"]
# Not whole: its BUNDLE group names sections that the source left out.
PARTIAL = "offer_safari13_partial_audio_section"
REAL_OFFERS = {name: data for name, data in OFFERS.items() if name != PARTIAL}


@pytest.mark.parametrize("data", REAL_OFFERS.values(), ids=REAL_OFFERS)
def test_real_offers_pass(data: bytes) -> None:
    """What browsers and aiortc offer is passed on as it came."""
    assert serialize_description(check_offer(data)) == data


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_real_answers_pass(data: bytes) -> None:
    """What OpenAI answers is passed on as it came, the abridged answer of its documentation too."""
    assert serialize_description(check_answer(data, None)) == data


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        # Realistic
        pytest.param("offer_chromium156_audio_dc_initial", "2026-08-17_ga_calls", id="chromium"),
        pytest.param("offer_chromium156_audio_dc_initial", "docs_example", id="abridged"),
        pytest.param("offer_firefox153_audio_dc_initial", "2026-08-17_ga_calls", id="firefox"),
        pytest.param("offer_aiortc1.16_initial", "2026-01-25_to_aiortc", id="aiortc"),
        pytest.param(
            "offer_aiortc_old_2026-01-25_public", "2026-01-25_to_aiortc", id="dtls-sctp-of-old"
        ),
    ],
)
def test_answers_fit_their_offers(offer: str, answer: str) -> None:
    """An answer with the offer's sections passes, whatever its protocols are called."""
    check_answer(ANSWERS[f"answer_openai_{answer}"], check_offer(OFFERS[offer]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Realistic
        pytest.param(b"\r\n", b"\n", id="lf"),
        pytest.param(b"a=fingerprint", b"a=x-fingerprint", id="fingerprint-of-the-session"),
        pytest.param(b"a=mid:1", b"a=bundle-only\r\na=mid:1", id="bundle-only"),
        pytest.param(b"a=setup:actpass", b"a=setup:ACTPASS", id="setup-in-capitals"),
        pytest.param(b"a=setup:actpass\r\n", b"", id="no-setup"),
        pytest.param(b"a=mid:", b"a=x-mid:", id="no-mids"),
        pytest.param(b"BUNDLE 0 1", b"BUNDLE", id="empty-bundle-group"),
        pytest.param(b"BUNDLE 0 1", b"BUNDLE 0 1 1", id="mid-twice-in-a-group"),
        pytest.param(b"BUNDLE 0 1", b"LS 7\r\na=group:BUNDLE 0 1", id="other-group"),
        # Synthetic
        pytest.param(b"m=application 9", b"m=application 0", id="rejected-section"),
    ],
)
def test_tolerated_offers(old: bytes, new: bytes) -> None:
    """Deviations that peers live with are not refused."""
    session = b"a=fingerprint:sha-256 00\r\n" if b"fingerprint" in old else b""
    data = OFFER.replace(old, new).replace(b"m=audio", session + b"m=audio", 1)
    assert data != OFFER
    assert serialize_description(check_offer(data)) == data


def test_a_bundled_section_may_lack_transport_attributes() -> None:
    """One section of a BUNDLE group has the ICE and DTLS attributes for all of it."""
    audio, channel = OFFER.split(b"m=application")
    for line in channel.splitlines(keepends=True):
        if line.startswith((b"a=ice-", b"a=fingerprint", b"a=setup")):
            channel = channel.replace(line, b"")
    assert b"ice-ufrag" not in channel
    check_offer(audio + b"m=application" + channel)


def test_the_session_may_have_the_credentials() -> None:
    """ICE credentials at the session level are for every section, also one at a time."""
    credentials = b"a=ice-ufrag:ciyZ\r\na=ice-pwd:glRt8Fil7+T8Fm5MtEN1jnoa\r\n"
    data = OFFER.replace(credentials, b"").replace(b"t=0 0\r\n", b"t=0 0\r\n" + credentials)
    check_offer(data)
    check_offer(data.replace(b"a=mid:0", b"a=ice-pwd:0123456789012345678901\r\na=mid:0"))
    # The second section's fingerprint is the first one's.
    check_offer(data.replace(b"a=fingerprint", b"a=x").replace(b"a=x", b"a=fingerprint", 1))


def test_a_rejected_section_needs_no_transport_attributes() -> None:
    """Port 0 needs no ICE."""
    check_offer(OFFER + b"m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:2\r\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Realistic
        pytest.param(b"a=setup:active", b"a=setup:passive", id="passive"),
        pytest.param(b"a=setup:active", b"a=setup:ACTIVE", id="setup-in-capitals"),
        pytest.param(b"a=setup:active\r\n", b"", id="no-setup"),
        # Synthetic
        pytest.param(b"BUNDLE 0 1", b"BUNDLE", id="empty-bundle-group"),
        pytest.param(
            b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            b"m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=setup:actpass\r\n",
            id="actpass-where-rejected",
        ),
    ],
)
def test_tolerated_answers(old: bytes, new: bytes) -> None:
    """Deviations that Chromium lives with are not refused."""
    data = ANSWER.replace(old, new)
    assert data != ANSWER
    assert serialize_description(check_answer(data, check_offer(OFFER))) == data


def test_an_answer_without_mids_is_taken_by_its_order() -> None:
    """Browsers take an answered section without a mid for the one offered at its place."""
    check_answer(ANSWER.replace(b"a=mid:", b"a=x-mid:"), check_offer(OFFER))


def test_an_offer_without_mids_is_answered_with_any() -> None:
    """Mids are compared where both sides have them."""
    check_answer(ANSWER, check_offer(OFFER.replace(b"a=mid:", b"a=x-mid:")))


def test_messages_hold_nothing_of_the_input() -> None:
    """Whatever line is spoiled, neither it nor another one is quoted."""
    lines = OFFER.splitlines(keepends=True)
    for index, line in enumerate(lines):
        spoiled = b"SECRET" + line
        with pytest.raises(SDPError) as refusal:
            check_offer(b"".join([*lines[:index], spoiled, *lines[index + 1 :]]))
        text = f"{refusal.value} {refusal.value!r} {refusal.value.args}"
        assert "SECRET" not in text
        assert "glRt8Fil7" not in text


def test_the_pure_half_imports_no_plumbing() -> None:
    """The model and the rules load without grpc, stubs and asyncio."""
    code = (
        "import sys, sdpfilter.rules; "
        "print(*{name.partition('.')[0] for name in sys.modules} "
        "& {'asyncio', 'envoyapi', 'google', 'grpc'})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert loaded.stdout.split() == []


ANY = st.one_of(st.binary(), st.lists(line_of_any_kind(), max_size=12).map(b"".join), mutated())


@given(ANY)
@settings(deadline=None, max_examples=300)
def test_any_offer_is_refused_or_passes_unchanged(data: bytes) -> None:
    """Any bytes are refused with an SDPError, or pass, come back as they were and pass again."""
    offer: SessionDescription | SDPError
    try:
        offer = check_offer(data)
    except SDPError as exc:
        offer = exc
    if isinstance(offer, SDPError):
        assert offer.http_status in (400, 413)
        assert str(offer)
    else:
        assert serialize_description(offer) == data
        assert check_offer(serialize_description(offer)) == offer


@given(ANY, st.sampled_from([None, *map(check_offer, REAL_OFFERS.values())]))
@settings(deadline=None, max_examples=300)
def test_any_answer_is_refused_or_passes_unchanged(
    data: bytes, offer: SessionDescription | None
) -> None:
    """Any bytes are refused with an AnswerError, or pass, come back as they were and pass again."""
    answer: SessionDescription | AnswerError
    try:
        answer = check_answer(data, offer)
    except AnswerError as exc:
        answer = exc
    if isinstance(answer, AnswerError):
        assert answer.http_status == 502
        assert str(answer)
    else:
        assert serialize_description(answer) == data
        assert check_answer(serialize_description(answer), offer) == answer
