"""Descriptions that are nearly real: lines removed, repeated, moved, replaced or cut."""

from typing import Final

from hypothesis import strategies as st

from helpers.descriptions import ANSWERS, OFFERS

# Lines that fit into a description and that policies care for.
ODD_LINES: Final = (
    b"a=bundle-only\r\n",
    b"a=candidate:1 1 udp 1 a.local 9 typ host\r\n",
    b"a=candidate:1 1 tcp 1 ::ffff:10.0.0.1 443 typ srflx raddr fe80::1 rport 5\r\n",
    b"a=candidate:1 1 udp 1 20.74.221.21 3478 typ srflx raddr 10.0.0.1 rport 5\r\n",
    b"a=candidate:1 1 tcp 1 51.4.112.173 443 typ host\r\n",
    b"a=candidate:1\r\n",
    b"a=end-of-candidates\r\n",
    b"a=fmtp:63 9/9\r\n",
    b"a=fmtp:9 apt=63\r\n",
    b"a=fmtp:111\r\n",
    b"a=fmtp:0111 stereo=1; maxaveragebitrate=64000\r\n",
    b"a=inactive\r\n",
    b"a=recvonly\r\n",
    b"a=rtcp:5 IN IP6 fe80::1\r\n",
    b"a=rtcp-fb:9 nack\r\n",
    b"a=rtpmap:9 opus/48000/2\r\n",
    b"a=rtpmap:0111 PCMU/8000\r\n",
    b"a=sendonly\r\n",
    b"a=sendrecv\n",
    b"b=AS:900\r\n",
    b"b=TIAS:x\r\n",
    b"c=IN IP4 192.168.1.9\r\n",
    b"c=IN IP6 2001:db8::1\n",
    b"c=IN\r\n",
    b"i=me\r\n",
)
# Lines of the session-level part.
ODD_HEADS: Final = (
    b"a=group:LS 0 1\r\n",
    b"a=group:BUNDLE\r\n",
    b"a=sendonly\r\n",
    b"a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n",
    b"c=IN IP4 10.0.0.1\r\n",
    b"c=IN IP4 20.74.221.21\r\n",
    b"a=fingerprint:sha-256 00\r\n",
)
_TRANSPORT: Final = (
    b"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 00\r\n"
)
ODD_SECTIONS: Final = (
    b"m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n",
    b"m=audio 9 UDP/TLS/RTP/SAVPF 0 8\r\n" + _TRANSPORT,
    b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n" + _TRANSPORT,
    b"m=video 9/2 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n" + _TRANSPORT,
    b"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=bundle-only\r\n" + _TRANSPORT,
    b"m=text 5 RTP/AVP 98\r\na=mid:t\r\n" + _TRANSPORT,
)


def line_of_any_kind() -> st.SearchStrategy[bytes]:
    """Lines that are nearly, or quite, what a description has."""
    head = st.sampled_from(
        [
            *(f"{letter}=".encode() for letter in "vosiuepcbtrzkam"),
            b"v=0",
            b"m=audio 9 x 0",
            b"a=mid:",
            b"a=setup:",
            b"a=ice-ufrag:",
            b"a=group:BUNDLE ",
            b" ",
            b"",
        ]
    )
    end = st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r", b""])
    return st.tuples(head, st.binary(max_size=6), end).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Real descriptions in which lines are removed, repeated, moved, replaced or cut."""
    data = draw(st.sampled_from([*OFFERS.values(), *ANSWERS.values()]))
    lines = data.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(lines))] * 2)))
        match draw(st.integers(0, 4)):
            case 0:
                del lines[start : start + draw(st.integers(1, 3))]
            case 1:
                lines[start:start] = lines[start:end]
            case 2:
                lines.insert(start, draw(line_of_any_kind()))
            case 3:
                lines[start : start + 1] = [draw(line_of_any_kind())]
            case _:
                text = b"".join(lines)
                cut = draw(st.integers(0, len(text)))
                text = text[:cut] + draw(st.binary(max_size=3)) + text[cut + 1 :]
                lines = text.splitlines(keepends=True)
    return b"".join(lines)


@st.composite
def odd(draw: st.DrawFn, data: bytes) -> bytes:
    """A real description with lines that policies care for put in, taken out or repeated."""
    session, *sections = data.split(b"\nm=")
    sections = [b"m=" + section + b"\n" for section in sections[:-1]] + [b"m=" + sections[-1]]
    for at, section in enumerate(sections):
        lines = section.splitlines(keepends=True)
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(1, len(lines)))
            if draw(st.booleans()):
                lines.insert(place, draw(st.sampled_from([*ODD_LINES, *lines[1:]])))
            elif lines[place - 1][:5] in {b"a=rtp", b"a=fmt", b"a=can", b"c=IN ", b"a=sen"}:
                del lines[place - 1]
        sections[at] = b"".join(lines)
    for _ in range(draw(st.integers(0, 2))):
        sections.append(draw(st.sampled_from(ODD_SECTIONS)))
    heads = draw(st.lists(st.sampled_from(ODD_HEADS), max_size=2))
    return session + b"\n" + b"".join([*heads, *sections])
