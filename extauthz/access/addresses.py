"""From which addresses keys may be used: ``general_settings.allowed_ips``."""

from collections.abc import Collection
from contextlib import suppress

from extauthz.access.errors import AddressDeniedError
from extauthz.generalsettings import Address, parse_address


def check_address(address: str, allowed: Collection[Address] | None) -> None:
    """Check that keys may be used from an address.

    Args:
        address: The downstream's; what is no address is refused.
        allowed: None for any; an empty collection admits nobody.

    Raises:
        AddressDeniedError: If they may not: 403.
    """
    if allowed is None:
        return
    with suppress(ValueError):
        if parse_address(address) in allowed:
            return
    raise AddressDeniedError
