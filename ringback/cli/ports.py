"""TCP ports: whether they are free, and which one is."""

import errno
import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from ringback.errors import StartError
from ringback.render.bootstrap import Address


class LaunchError(Exception):
    """What keeps ``ringback up`` from starting though its settings are right; exit code 1."""


class PortError(LaunchError):
    """A port that cannot be listened on.

    Args:
        wanted: The port, and where it was asked for.
        reason: Why.
    """

    def __init__(self, wanted: "Wanted", reason: str) -> None:
        self.wanted, self.reason = wanted, reason

    def __str__(self) -> str:
        return (
            f"Port {self.wanted.port} {self.reason}. Choose another one with {self.wanted.flag}, "
            "0 for any that is free, or stop what listens there."
        )


class HostError(StartError):
    """The host is no address."""

    def __str__(self) -> str:
        return "--host takes an IP address of this machine, for example 127.0.0.1 or 0.0.0.0."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A port that somebody asks for.

    Attributes:
        flag: The option that sets it.
        host: IP address.
        port: 0 for any free one.
    """

    flag: str
    host: str
    port: int


def take_ports(*wanted: Wanted) -> list[Address]:
    """Return an address for each port that is asked for, after seeing that all of them are free.

    They are free at this moment and not reserved. Envoy would share a port with another Envoy
    instead of complaining (SO_REUSEPORT), so somebody has to look.

    Raises:
        PortError: If one is in use or not for us.
        HostError: If a host is no address of this machine.
    """
    with ExitStack() as held:
        return [_bind(one, held) for one in wanted]


def _bind(wanted: Wanted, held: ExitStack) -> Address:
    try:
        version = ipaddress.ip_address(wanted.host).version
    except ValueError as error:
        raise HostError from error
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    listener = held.enter_context(socket.socket(family))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((wanted.host, wanted.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortError(wanted, "is in use") from error
        if error.errno == errno.EACCES:
            raise PortError(wanted, "is reserved for administrators") from error
        raise HostError from error
    # Two sockets that only are bound do not exclude each other.
    listener.listen()
    return Address(wanted.host, listener.getsockname()[1])
