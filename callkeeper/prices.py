"""What a usage costs, by price lists of LiteLLM's schema. Pure; exact until the last rounding."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final
from urllib.parse import urlsplit

from callkeeper.model import Tokens, Usage

_MICRO: Final = 1_000_000
_HALF: Final = Fraction(1, 2)
# Beyond these it is a mistake: a price of tokens that was meant for a million of them.
_MAX_DOLLARS: Final = 1_000
# For each counter of `Tokens`: LiteLLM's name of its price in dollars, and whose price is taken
# where that is missing, as LiteLLM does it.
_PRICES: Final[Mapping[str, tuple[str, str | None]]] = {
    "text_in": ("input_cost_per_token", None),
    "audio_in": ("input_cost_per_audio_token", "text_in"),
    "image_in": ("input_cost_per_image_token", "text_in"),
    "cached_text_in": ("cache_read_input_token_cost", "text_in"),
    "cached_audio_in": ("cache_read_input_audio_token_cost", "cached_text_in"),
    "cached_image_in": ("cache_read_input_image_token_cost", "cached_text_in"),
    "text_out": ("output_cost_per_token", None),
    "audio_out": ("output_cost_per_audio_token", "text_out"),
    "seconds": ("input_cost_per_second", None),
}
_COUNTERS: Final = tuple(counter.name for counter in fields(Tokens))
_UPLIFT: Final = "regional_processing_uplift_multiplier_"
_OPENAI, _AZURE = "openai", "azure"
_DATE: Final = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}$")
# OpenAI's hosts for customers whose data stay in a region.
_REGIONAL_HOST: Final = re.compile(r"(eu|us)\.api\.openai\.com")


class PriceError(ValueError):
    """A price list or a price that cannot be used.

    Args:
        place: Where: the file's part or the model, and the name of the price.
        expected: What should be there.
    """

    def __init__(self, place: str, expected: str) -> None:
        self.place, self.expected = place, expected

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of one model.

    Attributes:
        per_unit: Microdollars for one unit of each counter of `Tokens` that has a price.
        uplift: Factor on all of it in regions that have one.
    """

    per_unit: Mapping[str, Fraction] = field(default_factory=dict)
    uplift: Mapping[str, Fraction] = field(default_factory=dict)

    def price(self, counter: str, region: str | None) -> Fraction | None:
        """Return what one unit costs in microdollars; None if that is not known."""
        rate = self.per_unit.get(counter)
        if rate is None or region is None:
            return rate
        return rate * self.uplift.get(region, 1)


@dataclass(frozen=True, slots=True)
class PricedDeployment:
    """What the configuration says of a deployment that matters for its prices.

    Attributes:
        provider: ``openai`` or ``azure``.
        model: The upstream's model; at Azure the name of a deployment, which says nothing.
        base_model: ``model_info.base_model``: what that is a deployment of.
        region: Where OpenAI keeps the data: ``eu``, ``us`` or None.
        own: Prices of the configuration, which beat every list.
    """

    provider: str
    model: str
    base_model: str | None = None
    region: str | None = None
    own: Rates = Rates()


@dataclass(frozen=True, slots=True)
class Price:
    """What a usage costs.

    Attributes:
        microdollars: 0 or more.
        is_known: Whether everything that was used has a price; what has none is left out.
    """

    microdollars: int
    is_known: bool


class PriceBook:
    """Finds the price of a model under the names that it goes by.

    Args:
        lists: What `parse_prices` returns; a model's entry in a later one replaces the earlier.
    """

    def __init__(self, *lists: Mapping[str, Rates]) -> None:
        self._rates: dict[str, Rates] = {}
        for entries in lists:
            self._rates.update(entries)

    def cost(self, usage: Usage, deployment: PricedDeployment) -> Price:
        """Return what a usage of a call costs, rounded half up once to a whole microdollar.

        Args:
            usage: What was used.
            deployment: Which deployment answered the call.
        """
        own = deployment.own if _is_of(deployment, usage) else Rates()
        listed = self._find(usage, deployment)
        total, is_known = Fraction(0), True
        for counter in _COUNTERS:
            used = getattr(usage.tokens, counter)
            if not used:
                continue
            rate = own.price(counter, deployment.region)
            if rate is None:
                rate = listed.price(counter, deployment.region)
            if rate is None:
                is_known = False
            else:
                total += Fraction(str(used)) * rate
        return Price(math.floor(total + _HALF), is_known)

    def _find(self, usage: Usage, deployment: PricedDeployment) -> Rates:
        """Return the prices of the first name that a list knows."""
        names: tuple[str | None, ...] = (deployment.base_model, usage.model, deployment.model)
        if usage.kind == "transcription" and usage.model:
            # Inside of a conversation it is another model than the one that speaks.
            names = (usage.model,)
        for name in names:
            for spelling in _spellings(name, deployment.provider) if name else ():
                if (rates := self._rates.get(spelling)) is not None:
                    return rates
        return Rates()


def parse_prices(text: str) -> dict[str, Rates]:
    """Read a price list: ``model_prices_and_context_window.json`` of LiteLLM, or a part of it.

    Args:
        text: JSON: an object for each model, with prices in dollars. What is no price is ignored.

    Raises:
        PriceError: If it is none, or if a price of it makes no sense.
    """
    try:
        entries = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise PriceError("the price list", "JSON") from None
    if not isinstance(entries, dict):
        raise PriceError("the price list", "an object with one entry for each model")
    found = {}
    for name, entry in entries.items():
        if isinstance(entry, dict) and (rates := parse_rates(entry, name)).per_unit:
            found[name] = rates
    return found


def parse_rates(entry: Mapping[str, Any], place: str) -> Rates:
    """Read the prices of one model.

    Args:
        entry: With LiteLLM's names; numbers, or strings of them as YAML makes of ``4e-6``.
        place: For the error.

    Raises:
        PriceError: If a price is no number, negative, or above 1000 dollars for one unit.
    """
    per_unit: dict[str, Fraction] = {}
    # In the order of `_PRICES`: what others fall back on comes first.
    for counter, (name, fallback) in _PRICES.items():
        if entry.get(name) is not None:
            per_unit[counter] = _number(entry[name], f"{place}: {name}") * _MICRO
        elif fallback in per_unit:
            per_unit[counter] = per_unit[fallback]
    uplift = {
        region: _number(entry[_UPLIFT + region], f"{place}: {_UPLIFT}{region}")
        for region in ("eu", "us")
        if entry.get(_UPLIFT + region) is not None
    }
    return Rates(per_unit, uplift)


def priced_deployment(
    provider: str, params: Mapping[str, Any], info: Mapping[str, Any], origin: str
) -> PricedDeployment:
    """Return what an entry of ``model_list`` says about prices.

    Args:
        provider: ``openai`` or ``azure``.
        params: Its ``litellm_params``; their prices beat those of ``model_info``, as in LiteLLM.
        info: Its ``model_info``.
        origin: ``scheme://host[:port]`` of the upstream.

    Raises:
        PriceError: If a price makes no sense.
    """
    model = str(params.get("model") or "").removeprefix(f"{provider}/")
    base_model = info.get("base_model") or params.get("base_model")
    region = _REGIONAL_HOST.fullmatch(urlsplit(origin).hostname or "")
    return PricedDeployment(
        provider=provider,
        model=model,
        base_model=str(base_model) if base_model else None,
        region=region[1] if region and provider == _OPENAI else None,
        own=parse_rates({**info, **_given(params)}, f"deployment of {model}"),
    )


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _number(value: Any, place: str) -> Fraction:
    """Return a number as it was written, not as the nearest double."""
    expected = f"an amount in dollars from 0 to {_MAX_DOLLARS}"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise PriceError(place, expected)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise PriceError(place, expected) from None
    # Not a number compares with nothing; tiny exponents would cost memory.
    if not number.is_finite() or not 0 <= number <= _MAX_DOLLARS or number.adjusted() < -100:
        raise PriceError(place, expected)
    return Fraction(number)


def _is_of(deployment: PricedDeployment, usage: Usage) -> bool:
    """Tell whether a usage is one of the deployment's own model, whose prices then hold."""
    if usage.kind == "response" or not usage.model:
        return True
    names = {_bare(name) for name in (deployment.model, deployment.base_model) if name}
    return _bare(usage.model) in names


def _bare(name: str) -> str:
    return _DATE.sub("", name.rpartition("/")[2])


def _spellings(name: str, provider: str) -> Iterator[str]:
    """Yield the names that a model may have in a list, the most exact first.

    A list may know the model only without its date or region, or only at the other provider: a
    near price is a better guess than none, for which budgets would never end.
    """
    *prefixes, dated = name.split("/")
    if prefixes and prefixes[0] in {_OPENAI, _AZURE}:
        provider, *prefixes = prefixes
    region = "/".join(prefixes)
    for owner in (provider, _OPENAI if provider == _AZURE else _AZURE):
        for stem in (dated, _DATE.sub("", dated)):
            for place in (region, ""):
                # OpenAI's models have no prefix.
                parts = ("" if owner == _OPENAI else owner, place, stem)
                yield "/".join(part for part in parts if part)
                yield "/".join(part for part in (owner, place, stem) if part)
