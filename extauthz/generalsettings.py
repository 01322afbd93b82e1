"""Who may call, as LiteLLM's ``general_settings`` and ``litellm_settings`` say. Pure."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from extauthz.fields import MAX_SECRET_CHARS, Field
from ringback.secrets import Secret

# RFC 9110 section 5.1.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ZERO: Final = re.compile(r"0+(\.0*)?")
_DATABASE_VARIABLE: Final = "DATABASE_URL"
# LiteLLM's default since it tells a budget from a rate limit.
BUDGET_STATUS: Final = 422

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class GeneralSettings:
    """What is used of both sections.

    Attributes:
        database_url: LiteLLM's Postgres (``general_settings.database_url``, else DATABASE_URL).
        cache_ttl_s: How long a key that was found is remembered (``user_api_key_cache_ttl``);
            None leaves it to our own settings.
        key_header: The only header in which keys are sent, in lower case
            (``litellm_key_header_name``); None for the usual ones.
        user_budget_for_team_keys: Whether a user's budget holds for keys of teams, too
            (``apply_user_budget_to_team_keys``).
        budget_status: The status of an answer when a budget is used up
            (``litellm_settings.budget_exceeded_status_code``).
        allowed_ips: Where keys may be used (``allowed_ips``); None for anywhere.
        max_budget: What all keys together may spend, in US dollars
            (``litellm_settings.max_budget``); None is no limit.
    """

    database_url: Secret | None = None
    cache_ttl_s: float | None = None
    key_header: str | None = None
    user_budget_for_team_keys: bool = False
    budget_status: int = BUDGET_STATUS
    max_budget: float | None = None
    allowed_ips: frozenset[Address] | None = None


# What holds where a configuration says nothing.
NO_SETTINGS: Final = GeneralSettings()


def parse_general(general_settings: Field, litellm_settings: Field) -> GeneralSettings:
    """Return what both sections say; mistakes are noted in the fields.

    Args:
        general_settings: The section, absent if there is none.
        litellm_settings: The same.
    """
    litellm_settings.entries()
    url = general_settings.child("database_url").text(
        _DATABASE_VARIABLE, max_chars=MAX_SECRET_CHARS
    )
    return GeneralSettings(
        database_url=None if url is None else Secret(url),
        cache_ttl_s=_number(general_settings.child("user_api_key_cache_ttl")),
        key_header=_header(general_settings.child("litellm_key_header_name")),
        user_budget_for_team_keys=general_settings.child("apply_user_budget_to_team_keys").flag(),
        budget_status=_status(litellm_settings.child("budget_exceeded_status_code")),
        # LiteLLM's 0 means that there is none.
        max_budget=_number(litellm_settings.child("max_budget")) or None,
        allowed_ips=_addresses(general_settings.child("allowed_ips")),
    )


def parse_address(text: str) -> Address:
    """Parse an IP address; one of IPv4 inside IPv6 is one of IPv4.

    Raises:
        ValueError: If it is none.
    """
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _number(field: Field) -> float | None:
    """Return a number from 0 on."""
    text = field.text(numbers=True)
    if text is not None and _ZERO.fullmatch(text):
        return 0.0
    return field.positive_number()


def _addresses(field: Field) -> frozenset[Address] | None:
    if field.value is None:
        return None
    addresses = set()
    for item in field.items():
        try:
            addresses.add(parse_address(item.required_text("write an IP address")))
        except ValueError:
            item.problem("expected one IP address, as in LiteLLM; no network and no name")
    return frozenset(addresses)


def _header(field: Field) -> str | None:
    text = field.text()
    if text is not None and not _HEADER_NAME.fullmatch(text):
        field.problem("expected the name of an HTTP header")
    return None if text is None else text.lower()


def _status(field: Field) -> int:
    before = len(field.problems)
    number = field.positive_number()
    if number is None:
        return BUDGET_STATUS
    if len(field.problems) == before and not (number.is_integer() and 400 <= number < 500):
        field.problem("expected a status from 400 to 499, such as 422 or 429")
    return int(number)
