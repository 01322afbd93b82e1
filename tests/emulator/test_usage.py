from typing import Any

from openai.types.realtime import RealtimeResponseUsage

from emulator.usage import Ledger, Tokens, transcription_usage


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
    usage = transcription_usage(1300, "Hello there.")
    assert usage["input_tokens"] == 13
    assert usage["output_tokens"] == 3
    assert usage["total_tokens"] == 16


def assert_consistent(usage: dict[str, Any]) -> None:
    """Check the sums, and the shape against the SDK's model."""
    RealtimeResponseUsage.model_validate(usage, strict=True)
    details = usage["input_token_details"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens"] == details["text_tokens"] + details["audio_tokens"]
    assert details["cached_tokens"] == sum(details["cached_tokens_details"].values())
    assert usage["output_tokens"] == sum(usage["output_token_details"].values())
