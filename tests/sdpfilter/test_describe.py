import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.descriptions import ANSWERS, OFFERS
from sdpfilter.describe import CandidateKind, Kind, Summary, codec_name, describe, to_text
from sdpfilter.errors import SDPError
from sdpfilter.sdp.attributes import Direction
from sdpfilter.sdp.session import parse_description

CHROMIUM = OFFERS["offer_chromium156_audio_dc_initial"]
OPENAI = ANSWERS["answer_openai_2026-01-25_to_aiortc"]
AIORTC = OFFERS["offer_aiortc_old_2026-01-25_public"]


def summarize(data: bytes, kind: Kind | None = None, offer: bytes | None = None) -> Summary:
    """Return the summary of a description as bytes."""
    offered = None if offer is None else parse_description(offer)
    return describe(parse_description(data), kind, offered)


@pytest.mark.parametrize("name", OFFERS)
def test_real_offers_are_told_from_answers(name: str) -> None:
    """Every real offer leaves the DTLS role open, and is taken for an offer of one voice."""
    summary = summarize(OFFERS[name])
    assert (summary.kind, summary.setups, summary.is_lite) == (Kind.OFFER, ("actpass",), False)
    assert summary.sections[0].media == "audio"
    assert summary.sections[0].codecs[0] == "opus/48000/2"
    assert summary.hashes[0] == "sha-256"
    assert summary.size_bytes == len(OFFERS[name])
    assert summary.line_count == OFFERS[name].count(b"\n")


@pytest.mark.parametrize("name", ANSWERS)
def test_real_answers_are_told_from_offers(name: str) -> None:
    """Every real answer chooses to begin DTLS, and is taken for an answer with a data channel."""
    summary = summarize(ANSWERS[name])
    assert (summary.kind, summary.setups) == (Kind.ANSWER, ("active",))
    assert [section.is_data_channel for section in summary.sections] == [False, True]
    assert summary.bundles == (("0", "1"),)
    assert summary.is_lite is (name == "answer_openai_2026-08-17_ga_calls")


@pytest.mark.parametrize(
    ("data", "candidates"),
    [
        # Realistic
        pytest.param(CHROMIUM, {}, id="chromium-initial"),
        pytest.param(
            OFFERS["offer_chromium156_audio_dc_gathered"],
            {
                ("host", "UDP", "public"): 2,
                ("host", "UDP", "private"): 2,
                ("host", "TCP", "public"): 2,
                ("host", "TCP", "private"): 2,
            },
            id="chromium-gathered",
        ),
        pytest.param(
            AIORTC,
            {("host", "UDP", "private"): 10, ("srflx", "UDP", "public"): 2},
            id="aiortc-behind-nat",
        ),
        pytest.param(
            OFFERS["offer_safari13_partial_audio_section"],
            {
                ("host", "UDP", "private"): 1,
                ("host", "UDP", "public"): 1,
                ("srflx", "UDP", "public"): 1,
            },
            id="safari",
        ),
        pytest.param(
            OPENAI,
            {("host", "UDP", "public"): 3, ("host", "TCP 443", "public"): 3},
            id="openai-2026",
        ),
        pytest.param(
            ANSWERS["answer_openai_2025-05-13_esp32"],
            {("host", "UDP", "public"): 2, ("host", "TCP", "public"): 2},
            id="openai-2025",
        ),
        # Synthetic
        pytest.param(
            CHROMIUM + b"a=candidate:1 1 udp 1 0a-1b.local 9 typ host\r\n"
            b"a=candidate:1 1 UDP 1 turn.example 9 typ RELAY raddr 0.0.0.0 rport 9\r\n",
            {("host", "UDP", "mdns"): 1, ("relay", "UDP", "name"): 1},
            id="names",
        ),
        # Pathological
        pytest.param(
            CHROMIUM + b"a=candidate:1 1 udp\r\na=candidate:\r\n",
            {("unreadable", "", ""): 2},
            id="half-a-candidate",
        ),
    ],
)
def test_candidates_are_counted_by_kind(
    data: bytes, candidates: dict[tuple[str, str, str], int]
) -> None:
    """Type, transport and what sort of address, in the order of the lines."""
    assert summarize(data).candidates == tuple(
        (CandidateKind(*kind), count) for kind, count in candidates.items()
    )


def test_codecs_and_helpers_are_apart() -> None:
    """Codecs that carry voice come first, each once; what only helps them is listed apart."""
    audio, video, data = summarize(OFFERS["offer_chromium156_audio_video_dc_initial"]).sections
    assert audio.codecs == ("opus/48000/2", "G722/8000", "PCMU/8000", "PCMA/8000")
    assert audio.helpers == (
        "red/48000/2",
        "CN/8000",
        "telephone-event/48000",
        "telephone-event/8000",
    )
    assert audio.parameters == ("minptime=10;useinbandfec=1",)
    assert video.codecs == ("VP8/90000", "H264/90000", "AV1/90000", "VP9/90000")
    assert video.helpers == ("rtx/90000", "red/90000", "ulpfec/90000")
    assert (video.mid, video.lineno, video.is_rejected) == ("1", 39, False)
    assert (data.codecs, data.helpers, data.is_data_channel) == ((), (), True)


def test_payload_types_are_explained_by_the_offer() -> None:
    """What an answer only numbers, the offer names; without it only static types have names."""
    answer = ANSWERS["answer_openai_docs_example"]
    assert summarize(answer).sections[0].codecs == ("opus/48000/2", "pcmu", "pcma")
    bare = answer.replace(b"a=rtpmap:111 opus/48000/2\r\n", b"")
    assert summarize(bare).sections[0].codecs == ("unknown (111)", "pcmu", "pcma")
    assert summarize(bare, offer=CHROMIUM).sections[0].codecs == ("opus", "pcmu", "pcma")


def test_sections_tell_direction_limits_and_rejection() -> None:
    """A rejected section, one way and bandwidths are seen in their sections."""
    data = (
        CHROMIUM.replace(b"a=sendrecv", b"a=sendonly")
        .replace(b"c=IN IP4 0.0.0.0\r\n", b"c=IN IP4 0.0.0.0\r\nb=AS:40\r\nb=TIAS:20000\r\n", 1)
        .replace(b"m=application 9", b"m=application 0")
    )
    audio, channel = summarize(data).sections
    assert (audio.direction, audio.bandwidth) == (Direction.SENDONLY, ("AS:40", "TIAS:20000"))
    assert channel.is_rejected


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        # Synthetic
        pytest.param(CHROMIUM.replace(b"actpass", b"active"), Kind.ANSWER, id="role-chosen"),
        pytest.param(CHROMIUM.replace(b"a=setup:actpass\r\n", b""), Kind.UNKNOWN, id="no-role"),
        pytest.param(OPENAI.replace(b"a=setup:active\r\n", b""), Kind.UNKNOWN, id="neither"),
        pytest.param(
            ANSWERS["answer_openai_2026-08-17_ga_calls"].replace(b"a=setup:active\r\n", b""),
            Kind.ANSWER,
            id="ice-lite",
        ),
        # Pathological
        pytest.param(b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", Kind.UNKNOWN, id="bare"),
    ],
)
def test_the_kind_is_guessed(data: bytes, kind: Kind) -> None:
    """The DTLS role tells, then ICE lite; else it is neither, unless the caller knows."""
    assert summarize(data).kind is kind
    assert summarize(data, Kind.OFFER).kind is Kind.OFFER


def test_a_summary_has_nothing_private() -> None:
    """No address, port, ICE credential or fingerprint is in a summary."""
    for data in (*OFFERS.values(), *ANSWERS.values()):
        text = repr(summarize(data))
        description = parse_description(data)
        for part in (description.session, *description.media):
            for name in (b"ice-ufrag", b"ice-pwd"):
                for value in part.attributes(name):
                    assert f"'{value.value.decode()}'" not in text
            for candidate in part.attributes(b"candidate"):
                address, port = candidate.value.decode().split()[4:6]
                assert address not in text
                assert port in ("9", "443") or port not in text
        assert ":AB" not in text


def test_text_cannot_command_a_terminal() -> None:
    """Escape sequences and bytes that are no UTF-8 are spelt out; letters of all scripts stay."""
    assert to_text(b"\x1b[31mred\x07 \xff \xe2\x80\xae \xc3\xa9") == (
        r"\x1b[31mred\x07 \xff \u202e é"
    )
    assert codec_name("OPUS/48000/2") == "opus"


@given(
    st.lists(
        st.sampled_from(
            [
                b"m=audio 9 UDP/TLS/RTP/SAVPF 111",
                b"m=x 0 y z",
                b"a=rtpmap:111 opus",
                b"a=rtpmap:",
                b"a=rtpmap:111",
                b"a=fmtp:111",
                b"a=candidate:1 1 udp 1 \xff 9 typ host",
                b"a=setup:",
                b"a=fingerprint",
                b"a=group:BUNDLE",
                b"a=mid:\x1b",
                b"a=ice-options:trickle",
            ]
        )
    )
)
def test_whatever_parses_can_be_described(lines: list[bytes]) -> None:
    """A summary never fails, and holds only what may be printed."""
    head = (b"v=0", b"o=- 1 1 IN IP4 0.0.0.0", b"s=-", b"t=0 0")
    data = b"".join(line + b"\r\n" for line in (*head, *lines))
    try:
        summary = summarize(data)
    except SDPError:
        return
    assert repr(summary).isprintable()
    assert len(summary.sections) == sum(line.startswith(b"m=") for line in lines)
