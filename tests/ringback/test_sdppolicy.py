from ipaddress import ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from ringback.sdppolicy import (
    AnswerCandidates,
    AudioLimits,
    OfferCandidates,
    Policy,
    PolicySettings,
)
from sdpfilter.sdp.lines import MAX_DESCRIPTION_BYTES, MAX_LINE_BYTES, MAX_LINES
from sdpfilter.sdp.session import MAX_MEDIA_SECTIONS

NO_RANGE = (
    "expected a range of addresses such as 20.0.0.0/8 or 2001:db8::/32, with no bits set behind "
    "the prefix"
)


def problems(settings: dict[str, Any]) -> list[str]:
    """Return what is wrong with settings: places and messages."""
    with pytest.raises(ValidationError) as refusal:
        PolicySettings.model_validate(settings)
    return [
        ".".join(map(str, error["loc"])) + ": " + error["msg"].removeprefix("Value error, ")
        for error in refusal.value.errors(include_input=False)
    ]


def test_every_switch_is_read() -> None:
    """YAML's plain values become those of a policy."""
    settings = PolicySettings.model_validate(
        {
            "policies": {
                "mine": {
                    "media": ["audio", "application"],
                    "forbidden_media": "refuse",
                    "max_data_sections": 1,
                    "audio_codecs": ["opus", "PCMU"],
                    "audio_codec_order": ["Opus"],
                    "offer_candidates": "drop_private",
                    "mask_related_addresses": True,
                    "answer_candidates": "tcp_443_only",
                    "answer_addresses": ["20.128.0.0/9", "2001:db8::/32", "20.0.0.0/9"],
                    "offer_audio": {"max_average_bitrate": 20000, "stereo": False},
                    "answer_audio": {"bandwidth_as_kbps": 40},
                    "min_fingerprint_hash": "sha-256",
                    "direction": "recvonly",
                    "max_bytes": 8192,
                    "max_lines": 200,
                    "max_line_bytes": 512,
                    "max_media_sections": 4,
                    "max_candidates": 32,
                }
            },
            "default": {"media": ["audio"]},
            "models": {"gpt-realtime": "mine"},
            "teams": {"t1": "kiosk"},
            "keys": {"lobby": "privacy"},
        }
    )
    policy = settings.policies["mine"]
    assert set(policy.model_fields_set) == set(Policy.model_fields)
    assert sorted(policy.audio_codecs or ()) == ["opus", "pcmu"]
    assert policy.audio_codec_order == ("opus",)
    assert policy.offer_candidates is OfferCandidates.DROP_PRIVATE
    assert policy.answer_candidates is AnswerCandidates.TCP_443_ONLY
    assert policy.answer_addresses == (ip_network("20.0.0.0/8"), ip_network("2001:db8::/32"))
    assert policy.offer_audio == AudioLimits(max_average_bitrate=20_000, stereo=False)
    assert settings.default == Policy(media=frozenset({"audio"}))
    assert PolicySettings.model_validate({"default": "privacy"}).default == "privacy"


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        # Realistic
        pytest.param(
            {"media": ["video"]},
            "media: audio must be among them: without it every offer would be refused",
            id="no-audio",
        ),
        pytest.param(
            {"audio_codecs": ["telephone-event", "red"]},
            "audio_codecs: name at least one codec for voice: opus, g722, pcmu or pcma",
            id="no-voice",
        ),
        pytest.param(
            {"audio_codecs": ["opuss"]},
            "audio_codecs.0: Input should be 'opus', 'g722', 'pcmu', 'pcma', 'red', 'cn' or "
            "'telephone-event'",
            id="unknown-codec",
        ),
        pytest.param(
            {"audio_codec_order": ["opus", "OPUS"]},
            "audio_codec_order: name each codec once",
            id="codec-twice",
        ),
        pytest.param(
            {"offer_candidate": "drop_all"},
            "offer_candidate: Extra inputs are not permitted",
            id="unknown-switch",
        ),
        pytest.param(
            {"offer_candidates": "drop"},
            "offer_candidates: Input should be 'keep', 'drop_private' or 'drop_all'",
            id="unknown-value",
        ),
        pytest.param(
            {"answer_addresses": ["20.0.0.1/8"]}, f"answer_addresses.0: {NO_RANGE}", id="host-bits"
        ),
        pytest.param(
            {"answer_addresses": ["openai.com"]}, f"answer_addresses.0: {NO_RANGE}", id="name"
        ),
        pytest.param(
            {"offer_audio": {"max_average_bitrate": 5999}},
            "offer_audio.max_average_bitrate: Input should be greater than or equal to 6000",
            id="bitrate-too-low",
        ),
        pytest.param(
            {"answer_audio": {"max_average_bitrate": 510_001}},
            "answer_audio.max_average_bitrate: Input should be less than or equal to 510000",
            id="bitrate-too-high",
        ),
        pytest.param(
            {"min_fingerprint_hash": "sha-1"},
            "min_fingerprint_hash: Input should be 'sha-256', 'sha-384' or 'sha-512'",
            id="weak-hash",
        ),
        # Synthetic
        pytest.param(
            {"answer_addresses": []},
            "answer_addresses: name at least one range: with none every answer would be refused",
            id="no-range",
        ),
        pytest.param(
            {"audio_codecs": "opus"},
            "audio_codecs: expected a list",
            id="no-list",
        ),
        pytest.param(
            {"audio_codecs": [["opus"]]},
            "audio_codecs.0: Input should be 'opus', 'g722', 'pcmu', 'pcma', 'red', 'cn' or "
            "'telephone-event'",
            id="list-in-a-list",
        ),
    ],
)
@pytest.mark.parametrize("place", ["policies.mine", "default.inline"])
def test_wrong_switches(policy: dict[str, Any], problem: str, place: str) -> None:
    """What is wrong is told with its place, in a named policy and in the default."""
    named = {"policies": {"mine": policy}} if place == "policies.mine" else {"default": policy}
    assert problems(named) == [f"{place}.{problem}"]


def test_all_mistakes_are_told() -> None:
    """A reader who mends what is listed is done."""
    assert len(problems({"policies": {"a": {"x": 1, "direction": "up"}}, "teams": 3, "y": 0})) == 4


@pytest.mark.parametrize(
    ("switch", "hard_limit"),
    [
        # Realistic
        ("max_bytes", MAX_DESCRIPTION_BYTES),
        ("max_lines", MAX_LINES),
        ("max_line_bytes", MAX_LINE_BYTES),
        ("max_media_sections", MAX_MEDIA_SECTIONS),
    ],
)
def test_limits_are_below_the_hard_ones(switch: str, hard_limit: int) -> None:
    """A policy can lower a limit, and a value above the hard one is a mistake."""
    Policy.model_validate({switch: hard_limit})
    with pytest.raises(ValidationError, match=f"less than or equal to {hard_limit}"):
        Policy.model_validate({switch: hard_limit + 1})
