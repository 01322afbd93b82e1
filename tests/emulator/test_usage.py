from typing import Any

import pytest
from openai.types.realtime import RealtimeResponseUsage

from emulator.usage import FULL_USAGE, Ledger, Tokens, spoil_usage, transcription_usage


def test_usage_adds_up_turn_by_turn() -> None:
    """Input is instructions and all that was said before; output becomes input of the next turn."""
    ledger = Ledger()
    ledger.add(Tokens(text=10, audio=30))
    first = ledger.respond("Be nice.", Tokens(text=20, audio=100))
    assert_consistent(first)
    assert first["input_token_details"]["text_tokens"] == 12
    assert first["input_token_details"]["audio_tokens"] == 30
    assert first["input_token_details"]["cached_tokens"] == 0
    second = ledger.respond("Be nice.", Tokens(text=1, audio=1))
    assert_consistent(second)
    assert second["input_token_details"]["audio_tokens"] == 130
    third = ledger.respond("Be nice.", Tokens())
    assert_consistent(third)
    assert third["input_token_details"]["cached_tokens_details"] == {
        "text_tokens": 0,
        "audio_tokens": 128,
        "image_tokens": 0,
    }


def test_cached_tokens_never_exceed_the_input() -> None:
    """Shorter instructions than before leave less to be cached."""
    ledger = Ledger()
    ledger.respond("x" * 1000, Tokens())
    usage = ledger.respond("x", Tokens())
    assert usage["input_tokens"] == 1
    assert usage["input_token_details"]["cached_tokens"] == 1


def test_a_transcription_is_billed_by_its_own_tokens() -> None:
    """Ten tokens a second of audio, and the text."""
    usage = transcription_usage("gpt-4o-transcribe", 1300, "Hello there.")
    assert usage["input_tokens"] == 13
    assert usage["output_tokens"] == 3
    assert usage["total_tokens"] == 16


@pytest.mark.parametrize(("length_ms", "seconds"), [(0, 0), (1, 1), (1000, 1), (1001, 2)])
def test_whisper_is_billed_by_begun_seconds(length_ms: int, seconds: int) -> None:
    """Whatever the transcript is."""
    usage = transcription_usage("whisper-1", length_ms, "Hello there.")
    assert usage == {"type": "duration", "seconds": seconds}


def test_usage_can_be_full() -> None:
    """Every part differs from 0 and from every other, and the sums are right."""
    assert_consistent(dict(FULL_USAGE))
    inputs = FULL_USAGE["input_token_details"]
    cached = inputs["cached_tokens_details"]
    parts = [
        *(inputs[f"{kind}_tokens"] for kind in ("text", "audio", "image")),
        *cached.values(),
        *FULL_USAGE["output_token_details"].values(),
    ]
    assert len({0, *parts}) == 9
    assert all(cached[name] < inputs[name] for name in cached)


def test_usage_can_be_zero() -> None:
    """Every number is 0; what is no number stays."""
    usage = spoil_usage("zero", transcription_usage("gpt-4o-transcribe", 1300, "Hello there."))
    assert usage == {
        "type": "tokens",
        "total_tokens": 0,
        "input_tokens": 0,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 0},
        "output_tokens": 0,
    }


def assert_consistent(usage: dict[str, Any]) -> None:
    """Check the sums, and the shape against the SDK's model."""
    RealtimeResponseUsage.model_validate(usage, strict=True)
    details = usage["input_token_details"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    parts = ("text_tokens", "audio_tokens", "image_tokens")
    assert usage["input_tokens"] == sum(details[part] for part in parts)
    assert details["cached_tokens"] == sum(details["cached_tokens_details"].values())
    assert usage["output_tokens"] == sum(usage["output_token_details"].values())
