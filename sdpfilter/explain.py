"""What the edits mean, in a sentence each: for ``ringback sdp check`` and ``docs/sdp.md``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sdpfilter.draft import Edit

EDIT_RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "candidate_dropped": "the policy does not let this candidate through",
        "end_of_candidates": "goes with the last candidate: without one it would end ICE at once",
        "related_address": "mask_related_addresses hides the address behind this candidate",
        "default_address": "goes with its candidate: a default address elsewhere would end ICE",
        "origin_address": "offer_candidates hides addresses, and nothing depends on this one",
        "codec_removed": "audio_codecs does not name it, or it is of use only to such a codec",
        "codec_order": "audio_codec_order prefers another order",
        "opus_parameters": "offer_audio or answer_audio sets what this side asks to receive",
        "bandwidth": "offer_audio or answer_audio sets what this side asks to receive",
        "direction": "direction allows one way only",
        "section_rejected": "media or max_data_sections does not allow this section",
    }
)
"""The rules of all edits to why they are made."""

_DROPPED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "private": "offer_candidates: drop_private, and this address is private",
        "mdns": "offer_candidates: drop_private, and only the own network resolves an mDNS name",
        "name": "offer_candidates: drop_private, and a name may stand for any address",
        "any": "offer_candidates: drop_all",
        "unreadable": "it has not the fields of a candidate",
        "transport": "answer_candidates does not allow its transport or port",
        "address": "answer_addresses does not contain its address",
    }
)


def explain_edit(edit: Edit) -> str:
    """Return why an edit was made: the policy's switch, and what it found where that is known."""
    if edit.rule == "candidate_dropped":
        return _DROPPED.get(edit.detail, EDIT_RULES[edit.rule])
    why = EDIT_RULES.get(edit.rule, "the policy asks for it")
    return f"{why} ({edit.detail})" if edit.detail else why
