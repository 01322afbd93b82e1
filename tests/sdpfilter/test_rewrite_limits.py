import pytest

from helpers.descriptions import OFFERS
from helpers.rewriting import CHROMIUM, GATHERED, OPENAI, policy, rewrite_answer, rewrite_offer
from sdpfilter.errors import SDPError

# Chromium's offer has 1,938 bytes and 48 lines, the longest of 120 bytes, and 2 media sections.
AIORTC = OFFERS["offer_aiortc1.16_gathered"]


@pytest.mark.parametrize(
    ("data", "switch", "passing", "code"),
    [
        # Realistic
        pytest.param(CHROMIUM, "max_bytes", len(CHROMIUM), "sdp_too_large", id="bytes"),
        pytest.param(CHROMIUM, "max_lines", 48, "sdp_too_many_lines", id="lines"),
        pytest.param(CHROMIUM, "max_media_sections", 2, "sdp_too_many_sections", id="sections"),
        pytest.param(GATHERED, "max_candidates", 8, "sdp_too_many_candidates", id="candidates"),
        pytest.param(
            CHROMIUM.replace(b"s=-", b"s=" + b"-" * 296),
            "max_line_bytes",
            300,
            "sdp_line_too_long",
            id="line",
        ),
    ],
)
def test_limits(data: bytes, switch: str, passing: int, code: str) -> None:
    """An offer at the limit passes as it came, and one beyond it is refused with 413."""
    assert rewrite_offer(data, policy(**{switch: passing})).data is data
    with pytest.raises(SDPError) as refusal:
        rewrite_offer(data, policy(**{switch: passing - 1}))
    assert (refusal.value.http_status, refusal.value.code) == (413, code)


def test_limits_are_for_offers() -> None:
    """An answer may be larger than what a client may send."""
    limits = policy(max_candidates=0, max_lines=48, max_bytes=2000)
    assert rewrite_answer(OPENAI + b"a=x\r\n" * 200, limits).edits == ()


@pytest.mark.parametrize(
    ("old", "new", "weakest", "passes"),
    [
        # Realistic
        pytest.param(b"", b"", "sha-256", True, id="aiortc-has-three"),
        pytest.param(b"", b"", "sha-384", False, id="and-one-is-weaker"),
        pytest.param(b"a=fingerprint:sha-384", b"a=fingerprint:sha-1", "sha-256", False, id="sha1"),
        pytest.param(
            b"a=fingerprint:sha-256", b"a=fingerprint:SHA-256", "sha-256", True, id="capitals"
        ),
        # Synthetic
        pytest.param(b"a=fingerprint:sha-384", b"a=fingerprint:sha-7", "sha-256", False, id="new"),
        pytest.param(b"a=fingerprint:sha-384", b"a=fingerprint:", "sha-256", False, id="none"),
        pytest.param(b"t=0 0", b"t=0 0\r\na=fingerprint:md5 00", "sha-256", False, id="session"),
        pytest.param(
            b"m=application 44522 UDP/DTLS/SCTP webrtc-datachannel",
            b"m=video 0 x 0\r\na=fingerprint:md5 00\r\n"
            b"m=application 44522 UDP/DTLS/SCTP webrtc-datachannel",
            "sha-256",
            True,
            id="where-rejected",
        ),
    ],
)
def test_fingerprints(old: bytes, new: bytes, weakest: str, passes: bool) -> None:
    """Each fingerprint must be strong enough, because the other side chooses one."""
    data = AIORTC.replace(old, new, 1) if old else AIORTC
    wanted = policy(min_fingerprint_hash=weakest)
    if passes:
        assert rewrite_offer(data, wanted).data is data
        return
    with pytest.raises(SDPError) as refusal:
        rewrite_offer(data, wanted)
    assert (refusal.value.http_status, refusal.value.code) == (403, "sdp_weak_fingerprint")
