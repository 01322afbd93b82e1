from pathlib import Path

import pytest

from emulator.errors import ApiError
from emulator.offers import (
    MAX_OFFER_BYTES,
    parse_offer,
    put_rejected_back,
    set_rejected_aside,
)

DATA = Path(__file__).parent.parent / "data" / "sdp"


@pytest.mark.parametrize("path", sorted(DATA.glob("offer_*.sdp")), ids=lambda path: path.stem)
def test_real_offers_lose_their_candidates_and_nothing_else(path: Path) -> None:
    """Every other line stays, in order, and ends with CRLF."""
    offer = path.read_bytes()
    parsed = parse_offer(offer)
    kept = [
        line
        for line in offer.decode().splitlines()
        if not line.startswith(("a=candidate", "a=end-of-candidates"))
    ]
    assert parsed.split("\r\n") == [*kept, ""]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # Realistic
        pytest.param(b"", "WHIP-compliant", id="empty"),
        pytest.param(b'{"sdp": "v=0"}', "WHIP-compliant", id="json"),
        pytest.param(
            b"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            "audio media section",
            id="data-channel-only",
        ),
        # Pathological
        pytest.param(b"v=0\r\n\xff", "WHIP-compliant", id="not-utf-8"),
        pytest.param(
            b"v=0\r\nm=audio 9 X 0\r\n" + b"a=x\r\n" * MAX_OFFER_BYTES, "WHIP", id="too-long"
        ),
    ],
)
def test_what_is_no_offer_of_audio_is_refused(body: bytes, message: str) -> None:
    """The refusal is 400 invalid_offer, in OpenAI's words."""
    with pytest.raises(ApiError, match=message) as refused:
        parse_offer(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_offer")


def test_rejected_sections_are_set_aside_and_put_back() -> None:
    """The peer sees only what is offered; the answer rejects the others at their places."""
    audio = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    video = "m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\na=mid:1\r\n"
    bundled = "m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=bundle-only\r\na=mid:2\r\n"

    accepted, rejected = set_rejected_aside("v=0\r\n" + video + audio + bundled)

    assert accepted == "v=0\r\n" + audio + bundled
    assert put_rejected_back("v=0\r\n" + audio + bundled, rejected) == (
        "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n"
        "a=mid:1\r\n" + audio + bundled
    )
