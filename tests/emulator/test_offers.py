from pathlib import Path

import pytest

from emulator.errors import ApiError
from emulator.offers import MAX_OFFER_BYTES, parse_offer

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
