from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callkeeper.meter import Meter, response_tokens, transcription_tokens
from callkeeper.model import Tokens, Usage

# From openai/openai-openapi, openapi.yaml at f85dbe2.
SPEC_USAGE: dict[str, Any] = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
SPEC_TOKENS = Tokens(text_in=55, audio_in=13, cached_text_in=64, text_out=30, audio_out=91)


def done(response_id: object, usage: object) -> dict[str, Any]:
    """Return the event of a response."""
    return {"type": "response.done", "response": {"id": response_id, "usage": usage}}


def transcribed(item: object, usage: object, **more: object) -> dict[str, Any]:
    """Return the event of a transcription."""
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": item, "usage": usage, **more}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        # Realistic
        pytest.param(SPEC_USAGE, SPEC_TOKENS, id="specification"),
        pytest.param({}, Tokens(), id="none"),
        # Synthetic
        pytest.param(
            {"input_tokens": 7, "output_tokens": 3}, Tokens(text_in=7, text_out=3), id="unsplit"
        ),
        pytest.param(
            {
                "input_token_details": {
                    "text_tokens": 10,
                    "audio_tokens": 20,
                    "image_tokens": 5,
                    "cached_tokens": 33,
                }
            },
            Tokens(cached_text_in=10, cached_audio_in=20, image_in=2, cached_image_in=3),
            id="cached-of-unknown-kind",
        ),
        # Pathological
        pytest.param(
            {
                "input_token_details": {
                    "audio_tokens": 5,
                    "cached_tokens_details": {"audio_tokens": 9, "text_tokens": 1},
                }
            },
            Tokens(cached_audio_in=5),
            id="more-cached-than-there-is",
        ),
        pytest.param(
            {"input_tokens": -1, "output_tokens": True, "input_token_details": "x"},
            Tokens(),
            id="no-counts",
        ),
    ],
)
def test_tokens_of_a_response(usage: dict[str, Any], tokens: Tokens) -> None:
    """What was cached is taken from its kind; what is not split is text."""
    assert response_tokens(usage) == tokens


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {
                "type": "tokens",
                "input_tokens": 13,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 13},
                "output_tokens": 9,
            },
            Tokens(audio_in=13, text_out=9),
            id="tokens",
        ),
        pytest.param({"type": "duration", "seconds": 2.5}, Tokens(seconds=2.5), id="duration"),
        pytest.param({"type": "duration", "seconds": "2"}, Tokens(), id="no-number"),
        pytest.param({"type": "duration", "seconds": float("nan")}, Tokens(), id="nan"),
    ],
)
def test_tokens_of_a_transcription(usage: dict[str, Any], tokens: Tokens) -> None:
    """A transcription is billed by tokens or by its duration."""
    assert transcription_tokens(usage) == tokens


def test_a_response_counts_once() -> None:
    """An event that comes again, however late, has used nothing."""
    meter = Meter()
    assert meter.read(done("resp_1", SPEC_USAGE), 5.0) == Usage(
        "resp_1", "response", "", SPEC_TOKENS, 5.0
    )
    assert meter.read(done("resp_2", SPEC_USAGE), 6.0) is not None
    assert meter.read(done("resp_1", SPEC_USAGE), 7.0) is None


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": 0, "input_tokens": 0}])
def test_a_response_without_usage_is_none_and_may_come_again_with_it(usage: object) -> None:
    """Nothing is billed for a response that was refused; its id is not spent."""
    meter = Meter()
    assert meter.read(done("resp_1", usage), 1.0) is None
    assert meter.read(done("resp_1", SPEC_USAGE), 2.0) is not None


def test_a_transcription_is_billed_by_the_model_of_the_session() -> None:
    """Its own event does not name a model; parts of one item are counted one by one."""
    meter = Meter()
    usage = {"type": "duration", "seconds": 1}
    session = {"audio": {"input": {"transcription": {"model": "gpt-transcribe"}}}}
    meter.read({"type": "session.updated", "session": session}, 1.0)
    first = meter.read(transcribed("item_1", usage), 2.0)
    assert first == Usage("item_1", "transcription", "gpt-transcribe", Tokens(seconds=1.0), 2.0)
    second = meter.read(transcribed("item_1", usage, content_index=1), 3.0)
    assert second is not None
    assert second.id == "item_1/1"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
_counts = st.dictionaries(
    st.sampled_from(["text_tokens", "audio_tokens", "image_tokens", "cached_tokens"]), _json
)


@given(_json, _counts, _counts, st.integers(0, 2000))
def test_whatever_comes_no_amount_is_negative_and_none_is_lost(
    usage: object, read: dict[str, Any], cached: dict[str, Any], total: int
) -> None:
    """The meter takes any event; all that the provider counts is in one of the kinds."""
    assert Meter().read(done(usage, usage), 0.0) is None
    details = {**read, "cached_tokens_details": cached}
    tokens = response_tokens({"input_tokens": total, "input_token_details": details})
    kinds = [tokens.text_in, tokens.audio_in, tokens.image_in]
    kinds += [tokens.cached_text_in, tokens.cached_audio_in, tokens.cached_image_in]
    assert min(kinds) >= 0
    assert sum(kinds) >= total
