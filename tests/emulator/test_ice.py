import socket
from collections.abc import Iterator

import pytest

from emulator.ice import (
    LOOPBACK,
    NoPortError,
    bind_to_one_port,
    parse_address,
    parse_port_range,
)

# An address of TEST-NET-3, which no machine has.
ELSEWHERE = "203.0.113.7"


@pytest.fixture
def taken() -> Iterator[int]:
    """A UDP port of loopback that is in use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((LOOPBACK, 0))
        yield udp.getsockname()[1]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        pytest.param("50000-50019", range(50000, 50020), id="twenty"),
        pytest.param("50000", range(50000, 50001), id="one"),
        pytest.param("1-65535", range(1, 65536), id="all"),
    ],
)
def test_port_ranges_are_read(text: str, ports: range) -> None:
    """Both ends belong to the range."""
    assert parse_port_range(text) == ports


@pytest.mark.parametrize("text", ["", "-", "50000-", "-50000", "2-1", "0-5", "1-65536", "a-b"])
def test_what_is_no_port_range_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(ValueError, match="expected"):
        parse_port_range(text)


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.256"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Names are not looked up."""
    with pytest.raises(ValueError, match="IP address"):
        parse_address(text)


def test_addresses_share_a_port() -> None:
    """Local addresses get a socket each; others none, so that they can be offered only."""
    port, sockets = bind_to_one_port([LOOPBACK, "127.0.0.2", ELSEWHERE], None)
    try:
        assert {udp.getsockname() for udp in sockets.values()} == {
            (LOOPBACK, port),
            ("127.0.0.2", port),
        }
    finally:
        for udp in sockets.values():
            udp.close()


def test_taken_ports_are_skipped(taken: int) -> None:
    """The next port of the range is used."""
    port, sockets = bind_to_one_port([LOOPBACK], range(taken, taken + 20))
    for udp in sockets.values():
        udp.close()
    assert taken < port < taken + 20


def test_no_free_port_is_an_error(taken: int) -> None:
    """The message says what to do."""
    with pytest.raises(NoPortError, match="--ice-ports"):
        bind_to_one_port(["127.0.0.2", LOOPBACK], range(taken, taken + 1))
