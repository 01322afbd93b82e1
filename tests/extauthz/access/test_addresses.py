from collections.abc import Collection

import pytest

from extauthz.access import check_address
from extauthz.access.errors import AddressDeniedError
from extauthz.generalsettings import parse_address


@pytest.mark.parametrize(
    ("address", "allowed", "admitted"),
    [
        # Realistic
        pytest.param("203.0.113.7", None, True, id="no-list"),
        pytest.param("203.0.113.7", ("203.0.113.7",), True, id="listed"),
        pytest.param("203.0.113.8", ("203.0.113.7",), False, id="not-listed"),
        pytest.param("2001:db8::1", ("2001:DB8:0::1",), True, id="ipv6-written-otherwise"),
        pytest.param("::ffff:203.0.113.7", ("203.0.113.7",), True, id="ipv4-in-ipv6"),
        # Synthetic
        pytest.param("203.0.113.7", (), False, id="empty-list"),
        pytest.param("", ("203.0.113.7",), False, id="no-address"),
        pytest.param("", None, True, id="no-address-and-no-list"),
        # Pathological
        pytest.param("203.0.113.7, 10.0.0.1", ("203.0.113.7",), False, id="a-list"),
        pytest.param("203.0.113.07", ("203.0.113.7",), False, id="octal"),
    ],
)
def test_keys_may_be_used_from_some_addresses(
    address: str, allowed: Collection[str] | None, admitted: bool
) -> None:
    """Without a list from anywhere, with one only from what it names."""
    parsed = None if allowed is None else frozenset(map(parse_address, allowed))
    if admitted:
        check_address(address, parsed)
    else:
        with pytest.raises(AddressDeniedError):
            check_address(address, parsed)
