import json
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callkeeper.model import Tokens, Usage
from callkeeper.pricelists import PricesUnusableError, open_price_book
from callkeeper.prices import (
    PriceBook,
    PricedDeployment,
    PriceError,
    parse_prices,
    parse_rates,
    priced_deployment,
)

_PAIRS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "data/prices/litellm-1.106.2.json").read_text()
)
_BOOK = open_price_book()


def _usage(tokens: Tokens, model: str = "", *, transcribed: bool = False) -> Usage:
    kind: Any = "transcription" if transcribed else "response"
    return Usage("resp_1", kind, model, tokens, 0.0)


def _cost(tokens: Tokens, model: str, provider: str = "openai", book: PriceBook = _BOOK) -> int:
    price = book.cost(_usage(tokens, model), PricedDeployment(provider, model))
    assert price.is_known
    return price.microdollars


def _ours(pair: dict[str, Any]) -> int:
    deployment = priced_deployment(
        pair["provider"],
        {"model": pair["model"], **pair.get("own", {})},
        {"base_model": pair.get("base_model")},
        f"https://{pair['region']}.api.openai.com" if "region" in pair else "https://a.example",
    )
    model = pair.get("transcription_model", "")
    usage = _usage(Tokens(**pair["tokens"]), model, transcribed=pair["kind"] == "transcription")
    price = _BOOK.cost(usage, deployment)
    assert price.is_known
    return price.microdollars


def test_costs_are_those_that_litellm_calculates() -> None:
    """For the same usage we and LiteLLM 1.106.2 come to the same, to half a microdollar."""
    for pair in _PAIRS["same"]:
        litellms = Decimal(pair["litellm_usd"]) * 1_000_000
        assert abs(_ours(pair) - litellms) <= Decimal("0.500001"), pair


def test_costs_differ_where_litellm_is_wrong() -> None:
    """Cached images, models that its list lacks, and prices of the wrong model."""
    assert [
        (pair["model"], round(Decimal(pair["litellm_usd"]) * 1_000_000), _ours(pair))
        for pair in _PAIRS["litellm_differs"]
    ] == [
        # 400 and 900 cached tokens of images at 0.5 dollars a million instead of 0.4.
        ("gpt-realtime", 8844, 8884),
        ("gpt-realtime", 440, 530),
        # 5, 40, 2.5, 20 and 80 dollars a million, as Azure lists the same model.
        ("gpt-4o-realtime-preview-2024-12-17", 0, 72435),
        ("eu/gpt-realtime", 0, 52521),
        # The transcription costs what gpt-4o-transcribe does.
        ("gpt-realtime", 23276, 3493),
    ]


@pytest.mark.parametrize(
    ("model", "provider", "per_million"),
    [
        # Realistic
        pytest.param("gpt-realtime", "openai", 4_000_000, id="plain"),
        pytest.param("openai/gpt-realtime", "openai", 4_000_000, id="prefixed"),
        pytest.param("azure/gpt-realtime", "azure", 4_000_000, id="prefixed-azure"),
        pytest.param(
            "azure/eu/gpt-4o-realtime-preview-2024-12-17", "azure", 5_500_000, id="region"
        ),
        pytest.param("eu/gpt-4o-realtime-preview-2024-12-17", "azure", 5_500_000, id="short"),
        pytest.param("gpt-realtime-mini-2031-10-06", "openai", 600_000, id="date-unknown"),
        pytest.param("us/gpt-realtime", "azure", 4_000_000, id="region-unknown"),
        pytest.param("gpt-4o-realtime-preview-2024-10-01", "openai", 5_000_000, id="azure-only"),
    ],
)
def test_models_are_found_by_the_names_that_they_go_by(
    model: str, provider: str, per_million: int
) -> None:
    """A prefix, a region or a date that the list does not have is left out."""
    assert _cost(Tokens(text_in=1_000_000), model, provider) == per_million


def test_model_without_a_price_costs_nothing_and_says_so() -> None:
    """What has no price is left out, what has one is not."""
    book = PriceBook(parse_prices('{"heard": {"input_cost_per_second": 0.0001}}'))
    unknown = book.cost(_usage(Tokens(text_in=5)), PricedDeployment("openai", "home-made"))
    half = book.cost(_usage(Tokens(text_in=5, seconds=3)), PricedDeployment("openai", "heard"))
    nothing = book.cost(_usage(Tokens()), PricedDeployment("openai", "home-made"))
    assert (unknown.microdollars, unknown.is_known) == (0, False)
    assert (half.microdollars, half.is_known) == (300, False)
    assert (nothing.microdollars, nothing.is_known) == (0, True)


def test_the_session_s_model_is_priced_where_the_deployment_s_name_says_nothing() -> None:
    """At Azure the provider reports the model, and ``base_model`` goes before that."""
    usage = _usage(Tokens(text_in=1_000_000), "gpt-realtime-mini")
    reported = PricedDeployment("azure", "voice")
    declared = PricedDeployment("azure", "voice", base_model="azure/gpt-realtime")
    assert _BOOK.cost(usage, reported).microdollars == 600_000
    assert _BOOK.cost(usage, declared).microdollars == 4_000_000


def test_own_prices_win_and_a_file_beats_what_ships(tmp_path: Path) -> None:
    """``litellm_params``, ``model_info``, the price file, ours: in this order."""
    file = tmp_path / "prices.json"
    file.write_text('{"gpt-realtime": {"input_cost_per_token": 7e-06}, "sample_spec": "none"}')
    book = open_price_book(file)
    tokens = Tokens(text_in=1_000_000)
    assert _cost(tokens, "gpt-realtime", book=book) == 7_000_000
    assert _cost(tokens, "gpt-realtime-mini", book=book) == 600_000
    for params, info, expected in (
        ({}, {"input_cost_per_token": "3e-6"}, 3_000_000),
        ({"input_cost_per_token": 2e-06}, {"input_cost_per_token": 3e-06}, 2_000_000),
        ({"input_cost_per_token": None}, {"input_cost_per_token": 0}, 0),
    ):
        deployment = priced_deployment("openai", {"model": "gpt-realtime", **params}, info, "")
        assert book.cost(_usage(tokens), deployment).microdollars == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"input_cost_per_token": -1e-06}, "input_cost_per_token", id="negative"),
        pytest.param({"output_cost_per_token": "cheap"}, "output_cost_per_token", id="word"),
        pytest.param({"input_cost_per_token": "nan"}, "input_cost_per_token", id="nan"),
        pytest.param({"input_cost_per_second": 1e300}, "input_cost_per_second", id="huge"),
        pytest.param({"input_cost_per_token": "1e-999999"}, "input_cost_per_token", id="tiny"),
        pytest.param({"input_cost_per_token": True}, "input_cost_per_token", id="boolean"),
        pytest.param(
            {"input_cost_per_token": 1, "regional_processing_uplift_multiplier_eu": []},
            "regional_processing_uplift_multiplier_eu",
            id="uplift",
        ),
    ],
)
def test_prices_that_make_no_sense_are_refused(entry: dict[str, Any], expected: str) -> None:
    """The error names the price, not its value."""
    with pytest.raises(PriceError, match=f"^a-model: {expected}: expected an amount in dollars"):
        parse_rates(entry, "a-model")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '"' + "[" * 9999], ids=["empty", "list", "cut", "deep"]
)
def test_price_file_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    """The message says which file and what it should be."""
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(PricesUnusableError, match=r"prices\.json: the price list: expected"):
        open_price_book(file)
    with pytest.raises(PricesUnusableError, match="No such file"):
        open_price_book(tmp_path / "gone.json")


@given(st.builds(Tokens, *[st.integers(0, 10**7)] * 8))
def test_costs_are_exact_and_rounded_once(tokens: Tokens) -> None:
    """No binary fraction gets between the list and the sum; half a microdollar is rounded up."""
    exact = sum(
        (
            tokens.text_in * Decimal(4),
            tokens.audio_in * Decimal(32),
            tokens.image_in * Decimal(5),
            tokens.cached_text_in * Decimal("0.4"),
            tokens.cached_audio_in * Decimal("0.4"),
            tokens.cached_image_in * Decimal("0.5"),
            tokens.text_out * Decimal(16),
            tokens.audio_out * Decimal(64),
        ),
        Decimal(0),
    )
    assert _cost(tokens, "gpt-realtime") == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def test_shipped_prices_are_read_digit_by_digit() -> None:
    """What looks like a third stays what is written."""
    rates = parse_prices('{"m": {"input_cost_per_second": 0.000283333333333}}')["m"]
    assert rates.price("seconds", None) == Fraction(283333333333, 10**9)
