"""What a key may do: LiteLLM's rules, over data that a key source has found. Pure.

Each rule raises its error or says nothing. `extauthz.admission` calls them in order.
"""

from extauthz.access.addresses import check_address
from extauthz.access.budgets import HeldBudget, are_free, check_budgets, held_budgets
from extauthz.access.identity import check_key, check_owners
from extauthz.access.models import ALL_MODELS, WORDS, Wanted, check_model, resolve
from extauthz.access.routes import check_route
from extauthz.access.wildcards import matches

__all__ = [
    "ALL_MODELS",
    "WORDS",
    "HeldBudget",
    "Wanted",
    "are_free",
    "check_address",
    "check_budgets",
    "check_key",
    "check_model",
    "check_owners",
    "check_route",
    "held_budgets",
    "matches",
    "resolve",
]
