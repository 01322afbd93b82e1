from collections import Counter
from typing import Final

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.rewriting import policy, rewrite_answer, rewrite_offer
from ringback.sdppolicy import Policy
from sdpfilter.errors import SDPError
from sdpfilter.policy import PRESETS

# Not whole: its BUNDLE group names two sections that the source left out.
DESCRIPTIONS: Final = {
    name: data.replace(b"BUNDLE audio video data", b"BUNDLE audio")
    for name, data in {**OFFERS, **ANSWERS}.items()
}
POLICIES: Final[dict[str, Policy]] = {
    **PRESETS,
    "media: audio": policy(media=["audio"]),
    "media: voice, refuse": policy(media=["audio", "application"], forbidden_media="refuse"),
    "max_data_sections: 0": policy(max_data_sections=0),
    "audio_codecs: opus": policy(audio_codecs=["opus"]),
    "audio_codecs: pcmu": policy(audio_codecs=["pcmu"]),
    "audio_codec_order: pcmu": policy(audio_codec_order=["pcmu"]),
    "offer_candidates: drop_private": policy(offer_candidates="drop_private"),
    "offer_candidates: drop_all": policy(offer_candidates="drop_all"),
    "mask_related_addresses": policy(mask_related_addresses=True),
    "answer_candidates: udp_only": policy(answer_candidates="udp_only"),
    "answer_candidates: tcp_443_only": policy(answer_candidates="tcp_443_only"),
    "answer_addresses: 20.0.0.0/8, 4.0.0.0/8": policy(answer_addresses=["20.0.0.0/8", "4.0.0.0/8"]),
    "offer_audio: opus": policy(
        offer_audio={
            "max_average_bitrate": 20000,
            "use_inband_fec": True,
            "use_dtx": True,
            "stereo": False,
        }
    ),
    "answer_audio: bandwidth": policy(answer_audio={"bandwidth_as_kbps": 40}),
    "min_fingerprint_hash: sha-384": policy(min_fingerprint_hash="sha-384"),
    "direction: recvonly": policy(direction="recvonly"),
    "max_candidates: 4": policy(max_candidates=4),
    "max_lines: 64": policy(max_lines=64),
    "max_media_sections: 2": policy(max_media_sections=2),
}
# By policy: what is done, as rules with the number of their edits or as the code of a refusal, to
# which descriptions. All others pass as they came. Answers are those to Chromium's offer.
EXPECTED: Final[dict[str, dict[str, list[str]]]] = {
    "privacy": {
        "candidate_dropped 2": ["offer_aiortc1.16_gathered"],
        "candidate_dropped 10, default_address 4, related_address 2": [
            "offer_aiortc_old_2026-01-25_public"
        ],
        "candidate_dropped 4": ["offer_chromium156_audio_dc_gathered"],
        "candidate_dropped 1, related_address 1": ["offer_safari13_partial_audio_section"],
    },
    "kiosk": {
        "candidate_dropped 2, codec_removed 2": ["offer_aiortc1.16_gathered"],
        "codec_removed 2": ["offer_aiortc1.16_initial"],
        "candidate_dropped 10, default_address 4, related_address 2": [
            "offer_aiortc_old_2026-01-25_public"
        ],
        "candidate_dropped 4, codec_removed 7": ["offer_chromium156_audio_dc_gathered"],
        "codec_removed 7": [
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
        ],
        "codec_removed 7, section_rejected 2": ["offer_chromium156_audio_video_dc_initial"],
        "codec_removed 5": ["offer_firefox153_audio_dc_initial"],
        "candidate_dropped 1, codec_removed 9, related_address 1": [
            "offer_safari13_partial_audio_section"
        ],
    },
    "strict_firewall": {
        "candidate_dropped 4, default_address 4, end_of_candidates 2": [
            "offer_aiortc1.16_gathered"
        ],
        "candidate_dropped 12, default_address 4, end_of_candidates 2": [
            "offer_aiortc_old_2026-01-25_public"
        ],
        "candidate_dropped 8, default_address 4": ["offer_chromium156_audio_dc_gathered"],
        "candidate_dropped 3, default_address 2": ["offer_safari13_partial_audio_section"],
        "sdp_no_candidate": ["answer_openai_2025-05-13_esp32"],
        "candidate_dropped 3": [
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
        ],
        "candidate_dropped 1": ["answer_openai_docs_example"],
    },
    "low_bandwidth": {
        "bandwidth 1, codec_removed 4, opus_parameters 1": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
        ],
        "bandwidth 1, codec_removed 3, opus_parameters 1": [
            "offer_aiortc_old_2026-01-25_public",
            "answer_openai_2026-01-25_to_aiortc",
        ],
        "bandwidth 1, codec_removed 9, opus_parameters 1": [
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
        ],
        "bandwidth 1, codec_removed 9, opus_parameters 1, section_rejected 2": [
            "offer_chromium156_audio_video_dc_initial"
        ],
        "bandwidth 1, codec_removed 11, opus_parameters 1": [
            "offer_safari13_partial_audio_section"
        ],
        "bandwidth 1, opus_parameters 1": [
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-08-17_ga_calls",
        ],
        "bandwidth 1, codec_removed 1, opus_parameters 1": ["answer_openai_docs_example"],
    },
    "media: audio": {
        "section_rejected 2": [
            "offer_aiortc1.16_initial",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
            "answer_openai_docs_example",
        ],
        "section_rejected 3": ["offer_chromium156_audio_video_dc_initial"],
        "section_rejected 5": ["offer_aiortc1.16_gathered"],
        "section_rejected 6": ["offer_chromium156_audio_dc_gathered"],
        "section_rejected 9": ["offer_aiortc_old_2026-01-25_public"],
    },
    "media: voice, refuse": {
        "sdp_media_forbidden": ["offer_chromium156_audio_video_dc_initial"],
    },
    "max_data_sections: 0": {
        "section_rejected 2": [
            "offer_aiortc1.16_initial",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
            "answer_openai_docs_example",
        ],
        "section_rejected 5": ["offer_aiortc1.16_gathered"],
        "section_rejected 6": ["offer_chromium156_audio_dc_gathered"],
        "section_rejected 9": ["offer_aiortc_old_2026-01-25_public"],
    },
    "audio_codecs: opus": {
        "codec_removed 4": ["offer_aiortc1.16_gathered", "offer_aiortc1.16_initial"],
        "codec_removed 3": [
            "offer_aiortc_old_2026-01-25_public",
            "answer_openai_2026-01-25_to_aiortc",
        ],
        "codec_removed 9": [
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
        ],
        "codec_removed 11": ["offer_safari13_partial_audio_section"],
        "codec_removed 1": ["answer_openai_docs_example"],
    },
    "audio_codecs: pcmu": {
        "codec_removed 4": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
            "answer_openai_2026-01-25_to_aiortc",
        ],
        "codec_removed 3": ["offer_aiortc_old_2026-01-25_public"],
        "codec_removed 11": [
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
        ],
        "codec_removed 10": ["offer_firefox153_audio_dc_initial"],
        "codec_removed 13": ["offer_safari13_partial_audio_section"],
        "sdp_answer_forbidden": [
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-08-17_ga_calls",
        ],
        "codec_removed 2": ["answer_openai_docs_example"],
    },
    "audio_codec_order: pcmu": {
        "codec_order 1": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
            "offer_aiortc_old_2026-01-25_public",
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "offer_safari13_partial_audio_section",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_docs_example",
        ],
    },
    "offer_candidates: drop_private": {
        "candidate_dropped 2": ["offer_aiortc1.16_gathered"],
        "candidate_dropped 10, default_address 4": ["offer_aiortc_old_2026-01-25_public"],
        "candidate_dropped 4": ["offer_chromium156_audio_dc_gathered"],
        "candidate_dropped 1": ["offer_safari13_partial_audio_section"],
    },
    "offer_candidates: drop_all": {
        "candidate_dropped 4, default_address 4, end_of_candidates 2": [
            "offer_aiortc1.16_gathered"
        ],
        "candidate_dropped 12, default_address 4, end_of_candidates 2": [
            "offer_aiortc_old_2026-01-25_public"
        ],
        "candidate_dropped 8, default_address 4": ["offer_chromium156_audio_dc_gathered"],
        "candidate_dropped 3, default_address 2": ["offer_safari13_partial_audio_section"],
    },
    "mask_related_addresses": {
        "related_address 2": ["offer_aiortc_old_2026-01-25_public"],
        "related_address 1": ["offer_safari13_partial_audio_section"],
    },
    "answer_candidates: udp_only": {
        "candidate_dropped 2": ["answer_openai_2025-05-13_esp32"],
        "candidate_dropped 3": [
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
        ],
        "candidate_dropped 1": ["answer_openai_docs_example"],
    },
    "answer_candidates: tcp_443_only": {
        "sdp_no_candidate": ["answer_openai_2025-05-13_esp32"],
        "candidate_dropped 3": [
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
        ],
        "candidate_dropped 1": ["answer_openai_docs_example"],
    },
    "answer_addresses: 20.0.0.0/8, 4.0.0.0/8": {
        "sdp_no_candidate": ["answer_openai_2025-05-13_esp32"],
        "candidate_dropped 4": [
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
        ],
    },
    "offer_audio: opus": {
        "opus_parameters 1": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
            "offer_aiortc_old_2026-01-25_public",
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "offer_safari13_partial_audio_section",
        ],
    },
    "answer_audio: bandwidth": {
        "bandwidth 1": [
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
            "answer_openai_docs_example",
        ],
    },
    "min_fingerprint_hash: sha-384": {
        "sdp_weak_fingerprint": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
            "offer_aiortc_old_2026-01-25_public",
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_chromium156_audio_video_dc_initial",
            "offer_chromium156_recvonly_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "offer_safari13_partial_audio_section",
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
            "answer_openai_docs_example",
        ],
    },
    "direction: recvonly": {
        "direction 1": [
            "offer_aiortc1.16_gathered",
            "offer_aiortc1.16_initial",
            "offer_aiortc_old_2026-01-25_public",
            "offer_chromium156_audio_dc_gathered",
            "offer_chromium156_audio_dc_initial",
            "offer_firefox153_audio_dc_initial",
            "offer_safari13_partial_audio_section",
            "answer_openai_2025-05-13_esp32",
            "answer_openai_2026-01-25_to_aiortc",
            "answer_openai_2026-08-17_ga_calls",
            "answer_openai_docs_example",
        ],
        "direction 2": ["offer_chromium156_audio_video_dc_initial"],
    },
    "max_candidates: 4": {
        "sdp_too_many_candidates": [
            "offer_aiortc_old_2026-01-25_public",
            "offer_chromium156_audio_dc_gathered",
        ],
    },
    "max_lines: 64": {
        "sdp_too_many_lines": ["offer_chromium156_audio_video_dc_initial"],
    },
    "max_media_sections: 2": {
        "sdp_too_many_sections": ["offer_chromium156_audio_video_dc_initial"],
    },
}


def outcome(name: str, wanted: Policy) -> str:
    """Return what a policy does to a description, as the table has it."""
    rewrite = rewrite_offer if name in OFFERS else rewrite_answer
    data = DESCRIPTIONS[name]
    try:
        rewritten = rewrite(data, wanted)
    except SDPError as refusal:
        return refusal.code
    assert (rewritten.data is data) == (not rewritten.edits)
    counts = Counter(edit.rule for edit in rewritten.edits)
    return ", ".join(f"{rule} {count}" for rule, count in sorted(counts.items()))


@pytest.mark.parametrize("name", DESCRIPTIONS)
@pytest.mark.parametrize("what", POLICIES)
def test_what_a_policy_does(what: str, name: str) -> None:
    """Each policy does to each real description what the table says, and nothing else."""
    expected = next((done for done, names in EXPECTED[what].items() if name in names), "")
    assert outcome(name, POLICIES[what]) == expected


def test_the_table_is_whole() -> None:
    """Every policy has its rows, and every name in them is a description's."""
    assert [*EXPECTED] == [*POLICIES]
    named = {name for rows in EXPECTED.values() for names in rows.values() for name in names}
    assert named <= {*DESCRIPTIONS}
