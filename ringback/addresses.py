"""Addresses of TCP listeners as people write them."""

import ipaddress


def parse_host_port(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``, ``[address]:port`` or ``:port``.

    Args:
        text: The port is 0 to 65535; 0 stands for any free one.

    Returns:
        The host without brackets, empty if there is none, and the port.

    Raises:
        ValueError: If the form is another one.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError("expected host:port with a port from 0 to 65535")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not is_bracketed and ":" in host:
        raise ValueError("an IPv6 address needs brackets before the port")
    return (host[1:-1] if is_bracketed else host), int(port)


def is_loopback(address: str) -> bool:
    """Tell whether nobody beyond this machine, or this pod, is at ``host:port``.

    Raises:
        ValueError: If the form is another one.
    """
    host, _ = parse_host_port(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
