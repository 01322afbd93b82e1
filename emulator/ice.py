"""Which addresses and UDP ports a call's peer is reached at.

aioice leaves loopback out and takes any free port. Both matter here: most callers are on this
machine, and a container must publish its ports. `gather_on` therefore gives one ICE connection its
own way of gathering; nothing of aioice is changed for others in the same process.
"""

import asyncio
import errno
import functools
import ipaddress
import itertools
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from aioice import Candidate, Connection
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, get_host_addresses

LOOPBACK: Final = "127.0.0.1"
# How often a port that is free on one address may be taken on another before we give up.
_ANY_PORT_TRIES: Final = 16


@dataclass(frozen=True, slots=True)
class IceOptions:
    """Where calls can be reached, besides loopback and this machine's IPv4 addresses.

    Attributes:
        addresses: More IP addresses to offer. Those of this machine are bound; others are only
            offered, for peers that reach our port through them (a container's published ports).
        ports: UDP ports to take, one per call; None takes any free one.
    """

    addresses: tuple[str, ...] = ()
    ports: range | None = None


class NoPortError(Exception):
    """Every UDP port that calls may use is taken; the client receives 503."""

    def __str__(self) -> str:
        return "no UDP port is free for a call: allow more with --ice-ports, or end calls"


def parse_address(text: str) -> str:
    """Return an IP address in its usual spelling.

    Raises:
        ValueError: If it is none; names are not looked up.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as exc:
        raise ValueError("expected an IP address such as 192.0.2.7") from exc


def parse_port_range(text: str) -> range:
    """Return the ports of ``50000-50019``, or of a single number.

    Raises:
        ValueError: If it is no range of UDP ports.
    """
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or "-" not in text)):
        raise ValueError("expected a range of ports such as 50000-50019")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports.start < 1 or ports.stop > 65536:
        raise ValueError("expected ports from 1 to 65535, the lower one first")
    return ports


def gather_on(connection: Connection, options: IceOptions) -> None:
    """Make an ICE connection gather host candidates as the options say.

    Must be called before the connection gathers. It replaces, on this one object, the method that
    aioice calls once per component.
    """
    connection.get_component_candidates = functools.partial(  # type: ignore[method-assign]
        _host_candidates, connection, options
    )


async def _host_candidates(
    connection: Connection,
    options: IceOptions,
    component: int,
    addresses: Sequence[str],  # noqa: ARG001 - what aioice would bind
    timeout: int = 5,  # noqa: ARG001 - of STUN and TURN servers, which there are none of
) -> list[Candidate]:
    wanted = [LOOPBACK, *get_host_addresses(use_ipv4=True, use_ipv6=False), *options.addresses]
    port, sockets = bind_to_one_port(dict.fromkeys(wanted), options.ports)
    loop = asyncio.get_running_loop()
    for address, udp in sockets.items():
        _, protocol = await loop.create_datagram_endpoint(
            lambda: StunProtocol(connection), sock=udp
        )
        protocol.local_candidate = _candidate(component, address, port)
        connection._protocols.append(protocol)  # noqa: SLF001 - as the replaced method does
    return [_candidate(component, address, port) for address in dict.fromkeys(wanted)]


def _candidate(component: int, address: str, port: int) -> Candidate:
    return Candidate(
        foundation=candidate_foundation("host", "udp", address),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host"),
        host=address,
        port=port,
        type="host",
    )


def bind_to_one_port(
    addresses: Iterable[str], ports: range | None
) -> tuple[int, dict[str, socket.socket]]:
    """Return a port and UDP sockets on it, one per address that this machine has.

    Args:
        addresses: IP addresses; those of other machines get no socket.
        ports: The ports to choose from; None for any.

    Raises:
        NoPortError: If none is free on all of the addresses.
    """
    addresses = list(addresses)
    for port in ports or itertools.repeat(0, _ANY_PORT_TRIES):
        sockets = _try_port(addresses, port)
        if sockets:
            return next(iter(sockets.values())).getsockname()[1], sockets
    raise NoPortError


def _try_port(addresses: Iterable[str], port: int) -> dict[str, socket.socket]:
    """Return a socket per local address, or none at all if the port is taken on one of them."""
    sockets: dict[str, socket.socket] = {}
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            udp.bind((address, port))
        except OSError as exc:
            udp.close()
            if exc.errno == errno.EADDRNOTAVAIL:
                continue
            for other in sockets.values():
                other.close()
            if exc.errno in {errno.EADDRINUSE, errno.EACCES}:
                return {}
            raise
        udp.setblocking(False)
        port = udp.getsockname()[1]
        sockets[address] = udp
    return sockets
