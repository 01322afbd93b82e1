"""What an entry of ``model_list`` says about prices: what a call costs, and if it is free. Pure."""

from typing import Any, Final

from extauthz.fields import Field

# In dollars for one unit, by LiteLLM's names. Must match callkeeper/prices.py.
_PRICES: Final = (
    "input_cost_per_token",
    "input_cost_per_audio_token",
    "input_cost_per_image_token",
    "cache_read_input_token_cost",
    "cache_read_input_audio_token_cost",
    "cache_read_input_image_token_cost",
    "output_cost_per_token",
    "output_cost_per_audio_token",
    "input_cost_per_second",
    "regional_processing_uplift_multiplier_eu",
    "regional_processing_uplift_multiplier_us",
)
_FREE_IF_ZERO: Final = ("input_cost_per_token", "output_cost_per_token")


def parse_prices(entry: Field) -> dict[str, Any]:
    """Return fields of `extauthz.deployments.Deployment` by name; mistakes are noted in the entry.

    Prices of ``litellm_params`` beat those of ``model_info``, as in LiteLLM.

    Args:
        entry: One of ``model_list``.
    """
    params, info = entry.child("litellm_params"), entry.child("model_info")
    prices = {}
    for name in _PRICES:
        for field in (params.child(name), info.child(name)):
            if field.value is not None and field.amount() is not None:
                # As it was written: a double is not what it says.
                prices[name] = field.text(numbers=True) or ""
                break
    base_models = (info.child("base_model").text(), params.child("base_model").text())
    return {
        "prices": prices,
        "base_model": base_models[0] or base_models[1],
        # A price that is not named is not known.
        "is_free": all(name in prices and float(prices[name]) == 0 for name in _FREE_IF_ZERO),
    }
