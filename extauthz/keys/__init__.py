"""Virtual keys: what they are, and the places where they are looked up."""

from extauthz.keys.model import (
    AccessGroup,
    Budget,
    BudgetWindow,
    KeyQuery,
    Limits,
    Scope,
    VirtualKey,
    hash_key,
)
from extauthz.keys.sources import MASTER_ALIAS, KeySource, KeySources, MasterKeySource

__all__ = [
    "MASTER_ALIAS",
    "AccessGroup",
    "Budget",
    "BudgetWindow",
    "KeyQuery",
    "KeySource",
    "KeySources",
    "Limits",
    "MasterKeySource",
    "Scope",
    "VirtualKey",
    "hash_key",
]
