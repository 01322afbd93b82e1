import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.rewriting import (
    CHROMIUM,
    OPENAI,
    changes,
    policy,
    rewrite_answer,
    rewrite_offer,
    with_lines,
)
from sdpfilter.policyerrors import ForbiddenAnswerError, NoCodecLeftError

OPUS = policy(audio_codecs=["opus"])
FIREFOX = OFFERS["offer_firefox153_audio_dc_initial"]
DOCUMENTED = ANSWERS["answer_openai_docs_example"]
TO_AIORTC = ANSWERS["answer_openai_2026-01-25_to_aiortc"]


def audio(*lines: bytes, formats: bytes = b"111 63 9 0 8 13 110 126") -> bytes:
    """Return Chromium's offer with other formats and more lines."""
    data = with_lines(CHROMIUM, b"a=fmtp:63", *lines)
    return data.replace(b" 111 63 9 0 8 13 110 126", b" " + formats)


def formats(data: bytes) -> str:
    """Return the payload types of the audio section."""
    return data.split(b"m=audio")[1].splitlines()[0].split(b" ", 3)[3].decode()


def test_a_removed_codec_leaves_nothing_behind() -> None:
    """Payload type, rtpmap, fmtp and rtcp-fb go, and redundancy for it; other bytes stay."""
    assert changes(FIREFOX, rewrite_offer(FIREFOX, OPUS).data) == [
        "-m=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101",
        "+m=audio 9 UDP/TLS/RTP/SAVPF 109",
        "-a=fmtp:101 0-15",
        "-a=rtcp-fb:9 transport-cc",
        "-a=rtcp-fb:0 transport-cc",
        "-a=rtcp-fb:8 transport-cc",
        "-a=rtpmap:9 G722/8000/1",
        "-a=rtpmap:0 PCMU/8000",
        "-a=rtpmap:8 PCMA/8000",
        "-a=rtpmap:101 telephone-event/8000/1",
    ]


@pytest.mark.parametrize(
    ("codecs", "left"),
    [
        # Realistic
        pytest.param(["opus"], "111", id="opus"),
        pytest.param(["opus", "red"], "111 63", id="with-redundancy"),
        pytest.param(["g722", "red"], "9", id="redundancy-of-a-removed-one"),
        pytest.param(["opus", "pcmu", "pcma"], "111 0 8", id="what-openai-speaks"),
        pytest.param(["pcma", "cn", "telephone-event"], "8 13 110 126", id="helpers"),
        pytest.param(
            ["opus", "red", "g722", "pcmu", "pcma", "cn", "telephone-event"],
            "111 63 9 0 8 13 110 126",
            id="all",
        ),
    ],
)
def test_codecs_of_chromium(codecs: list[str], left: str) -> None:
    """What is named stays, in the order offered."""
    assert formats(rewrite_offer(CHROMIUM, policy(audio_codecs=codecs)).data) == left


@pytest.mark.parametrize(
    ("data", "codecs", "left"),
    [
        # Synthetic
        pytest.param(
            audio(b"a=rtpmap:97 rtx/48000", b"a=fmtp:97 apt=111", formats=b"111 97"),
            ["opus", "red"],
            "111",
            id="retransmission-is-not-named",
        ),
        pytest.param(
            audio(b"a=fmtp:110 x=1/2;APT=9", formats=b"111 63 9 110"),
            ["opus", "telephone-event"],
            "111",
            id="apt",
        ),
        pytest.param(
            audio(b"a=fmtp:126 apt=110", b"a=fmtp:110 apt=13", formats=b"111 126 110 13"),
            ["opus", "telephone-event"],
            "111",
            id="apt-of-apt",
        ),
        pytest.param(audio(formats=b"0 8 9 13 3"), ["pcmu", "g722"], "0 9", id="static-types"),
        pytest.param(audio(formats=b"111 009"), ["opus"], "111", id="leading-zeros"),
        pytest.param(
            audio(b"a=rtpmap:111 G722/8000", formats=b"111 0"),
            ["opus", "pcmu"],
            "0",
            id="two-names",
        ),
        pytest.param(audio(b"a=rtpmap:77", formats=b"111 77 x"), ["opus"], "111", id="unreadable"),
        pytest.param(audio(formats=b"111 111 9"), ["opus"], "111 111", id="twice"),
        pytest.param(audio(b"a=rtcp-fb:* nack", formats=b"111 9"), ["opus"], "111", id="wildcard"),
    ],
)
def test_odd_codecs(data: bytes, codecs: list[str], left: str) -> None:
    """What is not certainly allowed goes."""
    rewritten = rewrite_offer(data, policy(audio_codecs=codecs))
    assert formats(rewritten.data) == left
    assert (b"a=rtcp-fb:* nack" in rewritten.data) == (b"a=rtcp-fb:*" in data)


@pytest.mark.parametrize(
    "data",
    [
        # Realistic
        pytest.param(audio(formats=b"9 0 8"), id="others-only"),
        # Synthetic
        pytest.param(audio(formats=b"13 110 63"), id="helpers-only"),
        pytest.param(audio(formats=b"77"), id="unknown-only"),
    ],
)
def test_one_codec_for_voice_must_stay(data: bytes) -> None:
    """An offer that would have none left is refused."""
    with pytest.raises(NoCodecLeftError):
        rewrite_offer(data, policy(audio_codecs=["opus", "red", "cn", "telephone-event"]))


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # Realistic
        pytest.param(["pcmu", "opus"], "0 111 63 9 8 13 110 126", id="pcmu"),
        pytest.param(["opus"], "111 63 9 0 8 13 110 126", id="as-it-is"),
        pytest.param(["telephone-event"], "110 126 111 63 9 0 8 13", id="two-of-a-name"),
        # Synthetic
        pytest.param(["g722", "opus", "red", "pcma"], "9 111 63 8 0 13 110 126", id="many"),
    ],
)
def test_codecs_are_reordered(order: list[str], expected: str) -> None:
    """The preferred codecs come first; the rest keeps its order."""
    rewritten = rewrite_offer(CHROMIUM, policy(audio_codec_order=order))
    assert formats(rewritten.data) == expected
    assert len(rewritten.edits) == (expected != formats(CHROMIUM))


def test_both_at_once() -> None:
    """Codecs are removed and reordered in one edit of the line."""
    rewritten = rewrite_offer(
        CHROMIUM, policy(audio_codecs=["opus", "pcmu"], audio_codec_order=["pcmu"])
    )
    assert formats(rewritten.data) == "0 111"
    (edit,) = [edit for edit in rewritten.edits if edit.lineno == 8]
    assert (edit.rule, edit.detail) == ("codec_removed", "cn g722 pcma red telephone-event")


def test_edits_show_known_names_only() -> None:
    """A name that somebody made up is not repeated."""
    data = audio(b"a=rtpmap:77 s3cret/8000", formats=b"111 77")
    details = {edit.detail for edit in rewrite_offer(data, OPUS).edits}
    assert "other" in details
    assert not any("s3cret" in detail for detail in details)


def test_video_keeps_its_codecs() -> None:
    """The policy is for audio."""
    data = OFFERS["offer_chromium156_audio_video_dc_initial"]
    rewritten = rewrite_offer(data, OPUS)
    assert (
        rewritten.description.media[1].text
        == data[data.index(b"m=video") :].split(b"m=application")[0]
    )


def test_a_rejected_section_keeps_its_codecs() -> None:
    """Port 0 asks for none."""
    data = CHROMIUM + b"m=audio 0 UDP/TLS/RTP/SAVPF 9\r\n"
    assert rewrite_offer(data, OPUS).description.media[2].formats == (b"9",)


def test_codecs_of_an_answer() -> None:
    """An answer is cut likewise; a payload type that it does not explain is the offer's."""
    assert formats(rewrite_answer(TO_AIORTC, OPUS).data) == "96"
    assert formats(rewrite_answer(DOCUMENTED, OPUS).data) == "111"
    unexplained = OPENAI.replace(b"a=rtpmap:111 opus/48000/2\r\n", b"")
    assert rewrite_answer(unexplained, OPUS).data is unexplained
    pcma = policy(audio_codecs=["opus", "pcma"], audio_codec_order=["pcma"])
    assert formats(rewrite_answer(DOCUMENTED, pcma).data) == "8 111"


def test_an_answer_with_a_forbidden_codec_only_is_refused() -> None:
    """An upstream that answers what was not offered gets no call."""
    answer = OPENAI.replace(b"SAVPF 111", b"SAVPF 0").replace(b"111 ", b"0 ")
    answer = answer.replace(b"opus/48000/2", b"PCMU/8000")
    with pytest.raises(ForbiddenAnswerError):
        rewrite_answer(answer, OPUS)


@pytest.mark.parametrize("upwards", [True, False])
def test_a_chain_of_references_falls_as_a_whole(upwards: bool) -> None:
    """Whichever way the lines stand, what refers to a removed format by way of others goes too."""
    chain = [b"a=fmtp:%d apt=%d" % (number, number + 1) for number in range(20, 60)]
    lines = chain if upwards else chain[::-1]
    numbers = b" ".join(b"%d" % number for number in range(20, 61))
    names = [b"a=rtpmap:%d opus/48000/2" % number for number in range(20, 60)]
    data = audio(*names, b"a=rtpmap:60 x/8000", *lines, formats=b"111 " + numbers)

    assert formats(rewrite_offer(data, OPUS).data) == "111"


def test_a_line_without_parameters_hides_no_other() -> None:
    """The line behind an a=fmtp that says nothing is seen, and goes with its codec."""
    data = audio(b"a=fmtp:111", b"a=fmtp:63 111/111", b"a=rtcp-fb:9", b"a=rtcp-fb:9 nack")

    rewritten = rewrite_offer(data, OPUS).data
    assert b"fmtp:63" not in rewritten
    assert b"rtcp-fb:9" not in rewritten
