import pytest

from extauthz.fields import Field
from extauthz.priceentry import parse_prices


def parse(params: object, info: object) -> tuple[dict[str, object], list[str]]:
    """Return what an entry says, and its mistakes."""
    entry = Field({"litellm_params": params, "model_info": info}, "model_list.0", [], {})
    return parse_prices(entry), entry.problems


def test_prices_are_taken_as_they_are_written() -> None:
    """Those of litellm_params win; other costs are none of ours."""
    found, problems = parse(
        {"model": "openai/gpt-realtime", "input_cost_per_token": "4e-6"},
        {
            "input_cost_per_token": 1,
            "output_cost_per_audio_token": 6.4e-05,
            "search_context_cost_per_query": {"low": 1},
            "base_model": "azure/gpt-realtime",
        },
    )
    assert problems == []
    assert found == {
        "prices": {"input_cost_per_token": "4e-6", "output_cost_per_audio_token": "6.4e-05"},
        "base_model": "azure/gpt-realtime",
        "is_free": False,
    }


@pytest.mark.parametrize("price", [-1, "dear", [1]])
def test_a_price_that_is_none_is_a_mistake(price: object) -> None:
    """It is named, and the file refused."""
    _, problems = parse({}, {"input_cost_per_second": price})
    assert len(problems) == 1
    assert "input_cost_per_second" in problems[0]
