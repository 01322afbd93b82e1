"""Which addresses tell where in a private network somebody is."""

from bisect import bisect_right
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

# Not `is_private` of the standard library: that counts ranges as private which may be in use, such
# as those for documentation, and others as public which are not, such as site-local ones.
_HIDDEN: Final = (
    "0.0.0.0/8",  # this network (RFC 1122)
    "10.0.0.0/8",  # private (RFC 1918)
    "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local (RFC 3927)
    "172.16.0.0/12",  # private (RFC 1918)
    "192.168.0.0/16",  # private (RFC 1918)
    "224.0.0.0/3",  # multicast and reserved
    "::/96",  # unspecified, loopback, IPv4-compatible
    "64:ff9b:1::/48",  # local translation (RFC 8215)
    "fc00::/7",  # unique local (RFC 4193)
    "fe80::/9",  # link-local and site-local
    "ff00::/8",  # multicast
)


def _ranges(version: int) -> tuple[list[int], list[int]]:
    networks = [net for net in map(ip_network, _HIDDEN) if net.version == version]
    return (
        [int(network.network_address) for network in networks],
        [int(network.broadcast_address) for network in networks],
    )


_RANGES: Final = {4: _ranges(4), 6: _ranges(6)}
_UNSET: Final = frozenset({b"0.0.0.0", b"::"})


def why_hidden(address: bytes) -> str:
    """Return why an address is not public, empty if it is: ``private``, ``mdns`` or ``name``.

    A name is not public either: nobody can tell what it stands for.
    """
    try:
        ip = ip_address(address.decode("ascii"))
    except ValueError:
        return "mdns" if address.lower().rstrip(b".").endswith(b".local") else "name"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    firsts, lasts = _RANGES[ip.version]
    at = bisect_right(firsts, int(ip)) - 1
    return "private" if at >= 0 and int(ip) <= lasts[at] else ""


def is_unset(address: bytes) -> bool:
    """Tell whether an address stands for none (RFC 8840, section 4.3)."""
    return address in _UNSET


def unset(address_type: bytes) -> bytes:
    """Return the address that stands for none, of the type ``IP4`` or ``IP6``."""
    return b"::" if address_type.upper() == b"IP6" else b"0.0.0.0"
