import socket
from pathlib import Path

import pytest

from ringback.cli.ports import HostError, PortError, Wanted, take_ports
from ringback.render.bootstrap import Address


def test_a_free_port_is_taken_as_it_is() -> None:
    """A port that nobody uses is the answer."""
    (free,) = take_ports(Wanted("--port", "127.0.0.1", 0))

    assert take_ports(Wanted("--port", "127.0.0.1", free.port)) == [free]


def test_free_ports_differ() -> None:
    """Several ports chosen at once are not the same one."""
    addresses = take_ports(*[Wanted("--port", "127.0.0.1", 0)] * 20)

    assert len({address.port for address in addresses}) == 20


@pytest.mark.parametrize("reuse_port", [False, True], ids=["plain", "as-envoy-listens"])
def test_a_port_in_use_is_named_with_its_flag(reuse_port: bool) -> None:
    """What listens already is noticed, also if it would let Envoy share the port."""
    with socket.socket() as other:
        if reuse_port:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PortError) as caught:
            take_ports(Wanted("--admin-port", "127.0.0.1", port))

    assert str(caught.value) == (
        f"Port {port} is in use. Choose another one with --admin-port, 0 for any that is free, "
        "or stop what listens there."
    )


def test_one_port_for_two_purposes_is_in_use() -> None:
    """The same port asked for twice is refused the second time."""
    (free,) = take_ports(Wanted("--port", "127.0.0.1", 0))

    with pytest.raises(PortError, match="--egress-port"):
        take_ports(
            Wanted("--port", "127.0.0.1", free.port),
            Wanted("--egress-port", "127.0.0.1", free.port),
        )


def test_a_port_on_another_interface_counts() -> None:
    """Who listens everywhere listens on loopback too."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PortError):
        take_ports(Wanted("--port", "0.0.0.0", other.getsockname()[1]))


def test_ipv6_is_an_address_too() -> None:
    """An IPv6 address is written with brackets only where a port follows."""
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    (address,) = take_ports(Wanted("--port", "::1", 0))

    assert str(address) == f"[::1]:{address.port}"


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("localhost", id="name"),
        pytest.param("192.0.2.1", id="of-another-machine"),
        pytest.param("[::1]", id="brackets"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_host_is_an_address_of_this_machine(host: str) -> None:
    """Envoy listens on addresses; anything else is refused before it starts."""
    with pytest.raises(HostError, match="--host takes an IP address of this machine"):
        take_ports(Wanted("--port", host, 0))


def test_a_reserved_port_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that only administrators may use is no riddle."""

    class Reserved(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Reserved)

    with pytest.raises(PortError, match="Port 80 is reserved for administrators"):
        take_ports(Wanted("--port", "127.0.0.1", 80))


def test_an_address_shows_as_in_a_url() -> None:
    """Host and port are joined by a colon."""
    assert str(Address("127.0.0.1", 4000)) == "127.0.0.1:4000"
