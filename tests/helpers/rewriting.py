"""Applying a policy to a description and saying what became of it."""

from difflib import unified_diff
from typing import Any, Final

from helpers.descriptions import ANSWERS, OFFERS
from helpers.policies import check_rewritten
from ringback.sdppolicy import Policy
from sdpfilter.draft import Rewritten
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer

CHROMIUM: Final = OFFERS["offer_chromium156_audio_dc_initial"]
GATHERED: Final = OFFERS["offer_chromium156_audio_dc_gathered"]
VIDEO: Final = OFFERS["offer_chromium156_audio_video_dc_initial"]
OPENAI: Final = ANSWERS["answer_openai_2026-08-17_ga_calls"]


def policy(**switches: Any) -> Policy:
    """Return a policy with values as YAML has them."""
    return Policy.model_validate(switches)


def rewrite_offer(data: bytes, wanted: Policy) -> Rewritten:
    """Apply a policy to an offer and check all that must hold of the result."""
    offer = check_offer(data)
    rewritten = apply_to_offer(offer, wanted)
    check_rewritten(offer, rewritten)
    again = check_offer(rewritten.data)
    assert not apply_to_offer(again, wanted).edits
    return rewritten


def rewrite_answer(data: bytes, wanted: Policy, *, offer: bytes = CHROMIUM) -> Rewritten:
    """Apply a policy to an answer, as `rewrite_offer` does, and to the offer before."""
    sent = rewrite_offer(offer, wanted).description
    answer = check_answer(data, sent)
    rewritten = apply_to_answer(answer, sent, wanted)
    check_rewritten(answer, rewritten)
    again = check_answer(rewritten.data, sent)
    assert not apply_to_answer(again, sent, wanted).edits
    return rewritten


def changes(before: bytes, after: bytes) -> list[str]:
    """Return the lines that went, with a minus, and those that came, with a plus."""
    lines = unified_diff(
        before.decode().splitlines(), after.decode().splitlines(), n=0, lineterm=""
    )
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def with_lines(data: bytes, after: bytes, *lines: bytes) -> bytes:
    """Insert lines behind the first one that begins in a way."""
    at = data.index(b"\n", data.index(b"\n" + after) + 1) + 1
    return data[:at] + b"".join(line + b"\r\n" for line in lines) + data[at:]
