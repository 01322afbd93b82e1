import pytest

from helpers.descriptions import OFFERS
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
from sdpfilter.errors import InvalidAnswerError, LimitError
from sdpfilter.sdp.lines import MAX_LINE_BYTES, MAX_LINES

AIORTC = OFFERS["offer_aiortc1.16_initial"]
FIREFOX = OFFERS["offer_firefox153_audio_dc_initial"]
RECVONLY = OFFERS["offer_chromium156_recvonly_dc_initial"]
ALL = {"max_average_bitrate": 20000, "use_inband_fec": True, "use_dtx": True, "stereo": False}


@pytest.mark.parametrize(
    ("data", "limits", "expected"),
    [
        # Realistic
        pytest.param(
            CHROMIUM,
            ALL,
            [
                "-a=fmtp:111 minptime=10;useinbandfec=1",
                "+a=fmtp:111 minptime=10;useinbandfec=1;maxaveragebitrate=20000;usedtx=1;stereo=0",
            ],
            id="chromium",
        ),
        pytest.param(
            FIREFOX,
            {"stereo": False, "use_inband_fec": False},
            [
                "-a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1",
                "+a=fmtp:109 maxplaybackrate=48000;stereo=0;useinbandfec=0",
            ],
            id="firefox",
        ),
        pytest.param(
            AIORTC,
            {"max_average_bitrate": 6000},
            ["+a=fmtp:96 maxaveragebitrate=6000"],
            id="aiortc-has-none",
        ),
        pytest.param(CHROMIUM, {"use_inband_fec": True}, [], id="as-it-is"),
        # Synthetic
        pytest.param(
            CHROMIUM.replace(b"minptime=10;useinbandfec=1", b"maxaveragebitrate=16000"),
            {"max_average_bitrate": 20000},
            [],
            id="lower-already",
        ),
        pytest.param(
            CHROMIUM.replace(b"minptime=10;useinbandfec=1", b"maxaveragebitrate=64000"),
            {"max_average_bitrate": 20000},
            [
                "-a=fmtp:111 maxaveragebitrate=64000",
                "+a=fmtp:111 maxaveragebitrate=20000",
            ],
            id="higher",
        ),
        pytest.param(
            CHROMIUM.replace(b"minptime=10;useinbandfec=1", b"MaxAverageBitrate = x; stereo=1;"),
            {"max_average_bitrate": 20000, "stereo": True},
            [
                "-a=fmtp:111 MaxAverageBitrate = x; stereo=1;",
                "+a=fmtp:111 MaxAverageBitrate=20000; stereo=1;",
            ],
            id="capitals-spaces-and-nonsense",
        ),
        pytest.param(
            CHROMIUM.replace(b"fmtp:111 minptime=10;useinbandfec=1", b"fmtp:111"),
            {"stereo": False},
            ["-a=fmtp:111", "+a=fmtp:111 stereo=0"],
            id="no-parameters",
        ),
        pytest.param(
            CHROMIUM.replace(b"minptime=10;useinbandfec=1", b"stereo=1;stereo"),
            {"stereo": False, "use_dtx": True},
            ["-a=fmtp:111 stereo=1;stereo", "+a=fmtp:111 stereo=0;stereo=0;usedtx=1"],
            id="twice",
        ),
        pytest.param(
            with_lines(CHROMIUM, b"a=fmtp:111", b"a=fmtp:0111 stereo=1"),
            {"stereo": False, "use_dtx": True},
            [
                "-a=fmtp:111 minptime=10;useinbandfec=1",
                "-a=fmtp:0111 stereo=1",
                "+a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1",
                "+a=fmtp:111 stereo=0",
            ],
            id="two-lines",
        ),
        pytest.param(
            with_lines(CHROMIUM, b"a=fmtp:63", b"a=rtpmap:96 opus/48000/2").replace(
                b" 126\r\n", b" 126 96\r\n", 1
            ),
            {"stereo": False},
            [
                "-a=fmtp:111 minptime=10;useinbandfec=1",
                "+a=fmtp:111 minptime=10;useinbandfec=1;stereo=0",
                "+a=fmtp:96 stereo=0",
            ],
            id="two-opus",
        ),
    ],
)
def test_opus_parameters(data: bytes, limits: dict[str, int], expected: list[str]) -> None:
    """Values are set where they stand, else at the end; nothing else of the line changes."""
    wanted = policy(offer_audio=limits)
    assert changes(data, rewrite_offer(data, wanted).data) == expected


@pytest.mark.parametrize(
    ("data", "limits", "expected"),
    [
        # Realistic
        pytest.param(CHROMIUM, {"bandwidth_as_kbps": 40}, ["+b=AS:40"], id="as"),
        pytest.param(
            CHROMIUM,
            {"bandwidth_as_kbps": 40, "bandwidth_tias_bps": 20000},
            ["+b=AS:40", "+b=TIAS:20000"],
            id="both",
        ),
        # Synthetic
        pytest.param(
            with_lines(CHROMIUM, b"c=", b"b=AS:32", b"b=CT:9"),
            {"bandwidth_as_kbps": 40},
            [],
            id="lower",
        ),
        pytest.param(
            with_lines(CHROMIUM, b"c=", b"b=CT:9", b"b=AS:64"),
            {"bandwidth_as_kbps": 40},
            ["-b=AS:64", "+b=AS:40"],
            id="higher",
        ),
        pytest.param(
            with_lines(CHROMIUM, b"c=", b"b=AS:", b"b=AS:x"),
            {"bandwidth_as_kbps": 40},
            ["-b=AS:", "-b=AS:x", "+b=AS:40", "+b=AS:40"],
            id="nonsense",
        ),
        pytest.param(
            with_lines(CHROMIUM, b"c=", b"b=TIAS:5", b"b=AS"),
            {"bandwidth_as_kbps": 40},
            ["-b=AS", "+b=AS:40"],
            id="no-colon",
        ),
    ],
)
def test_bandwidths(data: bytes, limits: dict[str, int], expected: list[str]) -> None:
    """A bandwidth is lowered where it stands, else set behind c= of the audio section."""
    wanted = policy(offer_audio=limits)
    rewritten = rewrite_offer(data, wanted)
    assert changes(data, rewritten.data) == expected
    assert b"b=" not in rewritten.description.media[1].text


def test_where_a_bandwidth_stands() -> None:
    """Without c= of its own the section has it behind i= or m=."""
    data = CHROMIUM.replace(b"c=IN IP4 0.0.0.0\r\n", b"", 1)
    wanted = policy(offer_audio={"bandwidth_as_kbps": 40})
    assert b"110 126\r\nb=AS:40\r\na=" in rewrite_offer(data, wanted).data
    titled = with_lines(data, b"m=audio", b"i=me")
    assert b"i=me\r\nb=AS:40\r\na=" in rewrite_offer(titled, wanted).data


def test_added_lines_end_as_the_others() -> None:
    """An offer with LF alone gets no CR."""
    data = AIORTC.replace(b"\r\n", b"\n")
    rewritten = rewrite_offer(data, policy(offer_audio={**ALL, "bandwidth_as_kbps": 40}))
    assert b"\r" not in rewritten.data
    assert rewritten.data.count(b"\n") == data.count(b"\n") + 2


def test_each_side_has_its_own_limits() -> None:
    """What limits the upstream stands in the offer, what limits the browser in the answer."""
    wanted = policy(offer_audio={"stereo": True}, answer_audio={"stereo": False})
    assert b"stereo=1" in rewrite_offer(CHROMIUM, wanted).data
    assert changes(OPENAI, rewrite_answer(OPENAI, wanted).data) == [
        "-a=fmtp:111 minptime=10;useinbandfec=1",
        "+a=fmtp:111 minptime=10;useinbandfec=1;stereo=0",
    ]


def test_parameters_of_an_answer_without_explanations() -> None:
    """A payload type that only the offer explains has its parameters at the section's end."""
    answer = OPENAI.replace(b"a=rtpmap:111 opus/48000/2\r\n", b"").replace(b"a=fmtp:", b"a=x:")
    wanted = policy(answer_audio={"stereo": False})
    audio = rewrite_answer(answer, wanted).description.media[0]
    assert audio.lines[-1] == b"a=fmtp:111 stereo=0\r\n"


def test_edits_must_not_exceed_limits() -> None:
    """A description that only its edits make too long is refused like any other."""
    room = MAX_LINE_BYTES - len(b"a=fmtp:111 minptime=10;useinbandfec=1\r\n")
    long = CHROMIUM.replace(b"minptime=10;", b"minptime=10" + b" " * room + b";")
    with pytest.raises(LimitError):
        rewrite_offer(long, policy(offer_audio={"stereo": False}))
    full = OPENAI + b"a=x\r\n" * (MAX_LINES - OPENAI.count(b"\n"))
    with pytest.raises(InvalidAnswerError):
        rewrite_answer(full, policy(answer_audio={"bandwidth_as_kbps": 40}))


@pytest.mark.parametrize(
    ("data", "direction", "expected"),
    [
        # Realistic
        pytest.param(CHROMIUM, "recvonly", ["-a=sendrecv", "+a=recvonly"], id="recvonly"),
        pytest.param(CHROMIUM, "sendonly", ["-a=sendrecv", "+a=sendonly"], id="sendonly"),
        pytest.param(RECVONLY, "recvonly", [], id="recvonly-already"),
        pytest.param(RECVONLY, "sendonly", ["-a=recvonly", "+a=inactive"], id="nothing-left"),
        pytest.param(FIREFOX, "recvonly", ["-a=sendrecv", "+a=recvonly"], id="not-of-data"),
        pytest.param(VIDEO, "recvonly", ["-a=sendrecv", "+a=recvonly"] * 2, id="audio-and-video"),
        # Synthetic
        pytest.param(
            CHROMIUM.replace(b"a=sendrecv\r\n", b""), "recvonly", ["+a=recvonly"], id="default"
        ),
        pytest.param(
            CHROMIUM.replace(b"a=sendrecv\r\n", b"").replace(b"t=0 0", b"t=0 0\r\na=sendonly"),
            "recvonly",
            ["+a=inactive"],
            id="of-the-session",
        ),
        pytest.param(
            CHROMIUM.replace(b"a=sendrecv\r\n", b"").replace(b"t=0 0", b"t=0 0\r\na=recvonly"),
            "recvonly",
            [],
            id="of-the-session-already",
        ),
        pytest.param(
            CHROMIUM.replace(b"a=sendrecv", b"a=inactive\r\na=sendrecv"),
            "recvonly",
            ["-a=sendrecv", "+a=recvonly"],
            id="two",
        ),
    ],
)
def test_directions(data: bytes, direction: str, expected: list[str]) -> None:
    """Media flows at most one way; what did not flow does not begin to."""
    rewritten = rewrite_offer(data, policy(direction=direction))
    assert changes(data, rewritten.data) == expected


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        # Realistic
        pytest.param("recvonly", ["-a=sendrecv", "+a=sendonly"], id="client-listens"),
        pytest.param("sendonly", ["-a=sendrecv", "+a=recvonly"], id="client-speaks"),
    ],
)
def test_the_direction_of_an_answer_is_the_other_one(direction: str, expected: list[str]) -> None:
    """An upstream that answers both ways is held to the one that was offered."""
    rewritten = rewrite_answer(OPENAI, policy(direction=direction))
    assert changes(OPENAI, rewritten.data) == expected
