"""The callkeeper service: keeps calls whose media never pass on a leash: meters, limits, ends."""
