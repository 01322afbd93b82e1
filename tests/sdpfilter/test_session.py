import pytest

from helpers.descriptions import ANSWERS, OFFERS
from sdpfilter.errors import InvalidLineError
from sdpfilter.sdp.attributes import Direction
from sdpfilter.sdp.session import (
    MediaSection,
    assemble_description,
    parse_description,
    serialize_description,
)

HEAD = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
AVPF = b"UDP/TLS/RTP/SAVPF"


@pytest.mark.parametrize("data", [*OFFERS.values(), *ANSWERS.values()], ids=[*OFFERS, *ANSWERS])
def test_real_descriptions_round_trip(data: bytes) -> None:
    """The parts of a real description hold all of its lines, with their numbers."""
    description = parse_description(data)
    assert serialize_description(description) == data
    lines = data.splitlines(keepends=True)
    for part in (description.session, *description.media):
        start = part.first_lineno - 1
        assert part.lines == tuple(lines[start : start + len(part.lines)])


@pytest.mark.parametrize("data", [*OFFERS.values(), *ANSWERS.values()], ids=[*OFFERS, *ANSWERS])
def test_parts_are_assembled(data: bytes) -> None:
    """Of its parts the same description comes as of its bytes."""
    description = parse_description(data)
    parts = (description.session, *description.media)
    assert assemble_description([part.text for part in parts]) == description


@pytest.mark.parametrize(
    ("line", "facts"),
    [
        # Realistic
        pytest.param(
            b"m=audio 9 UDP/TLS/RTP/SAVPF 111 0", (b"audio", 9, AVPF, (b"111", b"0")), id="audio"
        ),
        pytest.param(
            b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            (b"application", 9, b"UDP/DTLS/SCTP", (b"webrtc-datachannel",)),
            id="data-channel",
        ),
        pytest.param(
            b"m=application 45901 DTLS/SCTP 5000",
            (b"application", 45901, b"DTLS/SCTP", (b"5000",)),
            id="data-channel-of-old",
        ),
        # Synthetic
        pytest.param(b"m=video 0 x 0", (b"video", 0, b"x", (b"0",)), id="rejected"),
        pytest.param(b"m=audio 65535 x 0 ", (b"audio", 65535, b"x", (b"0",)), id="space-at-end"),
        pytest.param(b"m=audio 9/2 x 0", (b"audio", 9, b"x", (b"0",)), id="port-count"),
        # Pathological
        pytest.param(b"m=", None, id="empty"),
        pytest.param(b"m=audio 9 x", None, id="no-format"),
        pytest.param(b"m=audio -1 x 0", None, id="negative-port"),
        pytest.param(b"m=audio 65536 x 0", None, id="port-too-large"),
        pytest.param(b"m=audio 000009 x 0", None, id="port-too-long"),
        pytest.param("m=audio ٩ x 0".encode(), None, id="arabic-port"),
        pytest.param(b"m=audio\t9 x 0", None, id="tab"),
        pytest.param(b"m=audio 9 x  0", None, id="two-spaces"),
        pytest.param(b"m= audio 9 x 0", None, id="leading-space"),
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_media_line(
    line: bytes, end: bytes, facts: tuple[bytes, int, bytes, tuple[bytes, ...]] | None
) -> None:
    """An m= line is read by its grammar or refused with its number."""
    data = HEAD + line + end
    if facts is None:
        with pytest.raises(InvalidLineError) as refusal:
            parse_description(data)
        assert refusal.value.lineno == 5
        return
    (section,) = parse_description(data).media
    assert section == MediaSection(line + end, 5, *facts)


@pytest.mark.parametrize(
    "data",
    [
        # Realistic
        pytest.param(HEAD.replace(b"t=", b"c=IN IP4 0.0.0.0\r\nt="), id="c-before-t"),
        pytest.param(HEAD + b"m=audio 9 x 0\r\na=mid:0\r\nb=AS:64\r\n", id="b-after-a"),
        pytest.param(HEAD + b"m=audio 9 x 0\r\nm=video 9 x 0\r\n", id="sections-of-one-line"),
        # Synthetic
        pytest.param(HEAD, id="no-media"),
        pytest.param(HEAD + b"t=0 0\r\nr=1 1 1\r\nz=0 0\r\nk=x\r\na=x\r\n", id="all-of-rfc-8866"),
        pytest.param(HEAD.replace(b"t=", b"i=x\r\nu=x\r\ne=x\r\np=x\r\nb=x\r\nt="), id="before-t"),
    ],
)
def test_orders_that_peers_read(data: bytes) -> None:
    """The order of lines is not stricter than the strictest peer's."""
    assert serialize_description(parse_description(data)) == data


def test_attributes_of_a_section() -> None:
    """A section knows its own attributes only, by name."""
    audio, channel = parse_description(OFFERS["offer_chromium156_audio_dc_initial"]).media
    assert (audio.mid, channel.mid) == (b"0", b"1")
    assert audio.attribute(b"rtcp-mux") == b""
    assert channel.attribute(b"rtcp-mux") is None
    assert channel.attribute(b"ice") is None
    assert [found.lineno for found in audio.attributes(b"ssrc")] == [37, 38]


@pytest.mark.parametrize(
    ("line", "is_rejected"),
    [
        # Realistic
        pytest.param(b"m=audio 9 x 0\r\n", False, id="offered"),
        pytest.param(b"m=audio 0 x 0\r\n", True, id="rejected"),
        pytest.param(b"m=audio 0 x 0\r\na=bundle-only\r\n", False, id="bundle-only"),
    ],
)
def test_is_rejected(line: bytes, is_rejected: bool) -> None:
    """Port 0 rejects a section, but not one that is sent on the transport of its group."""
    (section,) = parse_description(HEAD + line).media
    assert section.is_rejected is is_rejected


@pytest.mark.parametrize(
    ("session", "media", "direction"),
    [
        # Realistic
        pytest.param(b"", b"a=recvonly\r\n", Direction.RECVONLY, id="own"),
        pytest.param(b"a=sendonly\r\n", b"", Direction.SENDONLY, id="of-the-session"),
        pytest.param(b"", b"", Direction.SENDRECV, id="default"),
        # Synthetic
        pytest.param(b"a=sendonly\r\n", b"a=inactive\r\n", Direction.INACTIVE, id="both"),
    ],
)
def test_direction(session: bytes, media: bytes, direction: Direction) -> None:
    """A section's own direction counts before the session's, and sendrecv is the default."""
    description = parse_description(HEAD + session + b"m=audio 9 x 0\r\n" + media)
    assert description.direction(description.media[0]) is direction


@pytest.mark.parametrize(
    ("line", "groups"),
    [
        # Realistic
        pytest.param(b"a=group:BUNDLE 0 1\r\n", [[b"0", b"1"]], id="one"),
        pytest.param(b"", [], id="none"),
        # Synthetic
        pytest.param(
            b"a=group:LS 0 1\r\na=group:BUNDLE 0\r\na=group:BUNDLE 1 2\r\n",
            [[b"0"], [b"1", b"2"]],
            id="among-others",
        ),
        # Pathological
        pytest.param(b"a=group\r\na=group:\r\na=group:BUNDLE\r\n", [[]], id="empty"),
    ],
)
def test_bundle_groups(line: bytes, groups: list[list[bytes]]) -> None:
    """The mids of BUNDLE groups are listed, and other groups are not."""
    assert parse_description(HEAD + line).bundle_groups == groups
