from ipaddress import ip_network
from itertools import permutations
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.policies import policies
from ringback.sdppolicy import (
    AnswerCandidates,
    AudioLimits,
    ForbiddenMedia,
    OfferCandidates,
    Policy,
)
from sdpfilter.policy import PRESETS, PolicyConflictError, strictest

NUMBERS: Final = [
    ("max_data_sections", 0, 1),
    ("max_bytes", 2048, 4096),
    ("max_lines", 64, 128),
    ("max_line_bytes", 256, 512),
    ("max_media_sections", 2, 3),
    ("max_candidates", 8, 9),
]
AUDIO_NUMBERS: Final = [
    ("max_average_bitrate", 20_000, 24_000),
    ("bandwidth_as_kbps", 40, 44),
    ("bandwidth_tias_bps", 20_000, 24_000),
]
BOTH: Final = [
    # Realistic
    pytest.param("forbidden_media", "refuse", "refuse", "refuse", id="equal"),
    pytest.param("forbidden_media", "reject", "refuse", "refuse", id="refuse"),
    pytest.param("media", ["audio", "video"], ["audio", "application"], ["audio"], id="media"),
    pytest.param("audio_codecs", ["opus", "pcmu"], ["pcmu", "pcma"], ["pcmu"], id="audio_codecs"),
    pytest.param("audio_codec_order", ["opus"], ["opus", "pcmu"], ["opus", "pcmu"], id="longer"),
    pytest.param("offer_candidates", "keep", "drop_private", "drop_private", id="drop_private"),
    pytest.param("offer_candidates", "drop_private", "drop_all", "drop_all", id="drop_all"),
    pytest.param("mask_related_addresses", False, True, True, id="masked"),
    pytest.param("min_fingerprint_hash", "sha-256", "sha-512", "sha-512", id="hash"),
    pytest.param(
        "answer_addresses",
        ["20.0.0.0/8", "2001:db8::/32", "4.0.0.0/8"],
        ["20.128.0.0/9", "51.0.0.0/8", "2001:db8::/33", "4.0.0.0/7"],
        ["4.0.0.0/8", "20.128.0.0/9", "2001:db8::/33"],
        id="answer_addresses",
    ),
    *(pytest.param(name, low, high, low, id=name) for name, low, high in NUMBERS),
]
CONFLICTS: Final = [
    # Realistic
    pytest.param(
        {"audio_codecs": ["opus", "red"]},
        {"audio_codecs": ["pcmu", "pcma", "red"]},
        "audio_codecs: nothing satisfies both opus, red and pcma, pcmu, red",
        id="codecs",
    ),
    pytest.param(
        {"audio_codec_order": ["opus", "pcmu"]},
        {"audio_codec_order": ["opus", "pcma"]},
        "audio_codec_order: nothing satisfies both opus, pcmu and opus, pcma",
        id="codec-order",
    ),
    pytest.param(
        {"answer_candidates": "udp_only"},
        {"answer_candidates": "tcp_443_only"},
        "answer_candidates: nothing satisfies both udp_only and tcp_443_only",
        id="transports",
    ),
    pytest.param(
        {"answer_addresses": ["20.0.0.0/8", "::/0"]},
        {"answer_addresses": ["51.0.0.0/8"]},
        "answer_addresses: nothing satisfies both 20.0.0.0/8, ::/0 and 51.0.0.0/8",
        id="addresses",
    ),
    pytest.param(
        {"direction": "recvonly"},
        {"direction": "sendonly"},
        "direction: nothing satisfies both recvonly and sendonly",
        id="directions",
    ),
    pytest.param(
        {"offer_audio": {"stereo": True}},
        {"offer_audio": {"stereo": False}},
        "offer_audio.stereo: nothing satisfies both True and False",
        id="stereo",
    ),
    pytest.param(
        {"answer_audio": {"use_dtx": True}},
        {"answer_audio": {"use_dtx": False}},
        "answer_audio.use_dtx: nothing satisfies both True and False",
        id="dtx",
    ),
    pytest.param(
        {"answer_audio": {"use_inband_fec": True}},
        {"answer_audio": {"use_inband_fec": False}},
        "answer_audio.use_inband_fec: nothing satisfies both True and False",
        id="fec",
    ),
]


def policy(**switches: Any) -> Policy:
    """Return a policy with values as YAML has them."""
    return Policy.model_validate(switches)


@pytest.mark.parametrize(("switch", "one", "other", "expected"), BOTH)
def test_the_stricter_value_wins(switch: str, one: Any, other: Any, expected: Any) -> None:
    """Of two values the stricter one holds, whichever policy has it."""
    a, b, merged = (policy(**{switch: value}) for value in (one, other, expected))
    assert strictest(a, b) == strictest(b, a) == merged


@pytest.mark.parametrize(("switch", "low", "high"), AUDIO_NUMBERS)
@pytest.mark.parametrize("side", ["offer_audio", "answer_audio"])
def test_the_lower_limit_wins(side: str, switch: str, low: int, high: int) -> None:
    """Of two limits on audio the lower one holds, for either side."""
    a, b = (policy(**{side: {switch: value}}) for value in (low, high))
    assert strictest(a, b) == strictest(b, a) == a


@pytest.mark.parametrize(("one", "other", "message"), CONFLICTS)
def test_contradictions_are_told(one: Any, other: Any, message: str) -> None:
    """What nothing can satisfy is told with the switch and both values."""
    with pytest.raises(PolicyConflictError) as conflict:
        strictest(policy(**one), policy(**other))
    assert str(conflict.value) == message


def test_every_switch_is_in_the_tables() -> None:
    """No switch exists whose merging is not tested here."""
    tested = {row.values[0] for row in BOTH} | {
        name
        for row in CONFLICTS
        for name in row.values[0]  # type: ignore[union-attr]
    }
    assert tested == {*Policy.model_fields}
    audio = {name for name, _, _ in AUDIO_NUMBERS} | {"use_inband_fec", "use_dtx", "stereo"}
    assert audio == {*AudioLimits.model_fields}


def merge(*them: Policy) -> Policy | None:
    """Merge policies from left to right; None if they contradict each other."""
    try:
        merged = them[0]
        for other in them[1:]:
            merged = strictest(merged, other)
    except PolicyConflictError:
        return None
    return merged


@given(policies())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_policy_and_itself_are_that_policy(one: Policy) -> None:
    """Merging is idempotent, and a policy that sets nothing adds nothing."""
    assert strictest(one, one) == one
    assert strictest(one, Policy()) == strictest(Policy(), one) == one


@given(st.tuples(policies(), policies(), policies()))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_order_and_grouping_do_not_matter(them: tuple[Policy, Policy, Policy]) -> None:
    """Merging is commutative and associative, contradictions included."""
    merged = merge(*them)
    for order in permutations(them):
        assert merge(*order) == merged
    right = merge(them[1], them[2])
    assert (right and merge(them[0], right)) == merged


def test_presets_fit_together() -> None:
    """Any combination of presets makes sense."""
    assert merge(*PRESETS.values()) is not None


def test_what_presets_are() -> None:
    """The presets do what their names say; a change here is a change for operators."""
    privacy, kiosk, firewall, narrow = (
        PRESETS[name] for name in ("privacy", "kiosk", "strict_firewall", "low_bandwidth")
    )
    assert privacy == policy(offer_candidates="drop_private", mask_related_addresses=True)
    assert strictest(kiosk, privacy) == kiosk
    assert sorted(kiosk.media or ()) == ["application", "audio"]
    assert kiosk.forbidden_media is ForbiddenMedia.REJECT
    assert kiosk.max_data_sections == 1
    assert firewall.answer_candidates is AnswerCandidates.TCP_443_ONLY
    assert firewall.offer_candidates is OfferCandidates.DROP_ALL
    assert narrow.offer_audio == narrow.answer_audio
    assert narrow.offer_audio.max_average_bitrate == 20_000
    assert [*PRESETS] == ["privacy", "kiosk", "strict_firewall", "low_bandwidth"]


def test_ranges_of_both_versions_are_kept_apart() -> None:
    """An IPv4 range never contains an IPv6 one, however wide it is."""
    a = Policy(answer_addresses=(ip_network("0.0.0.0/0"),))
    b = Policy(answer_addresses=(ip_network("::/0"), ip_network("20.0.0.0/8")))
    assert strictest(a, b).answer_addresses == (ip_network("20.0.0.0/8"),)
