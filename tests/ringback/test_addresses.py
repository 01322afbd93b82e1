import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.addresses import parse_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        # Realistic
        pytest.param("127.0.0.1:9001", "127.0.0.1", 9001, id="ipv4"),
        pytest.param("[::1]:9001", "::1", 9001, id="ipv6"),
        pytest.param("metrics.internal:80", "metrics.internal", 80, id="name"),
        pytest.param(":9464", "", 9464, id="no-host"),
        # Pathological
        pytest.param("127.0.0.1:0", "127.0.0.1", 0, id="any-port"),
        pytest.param("127.0.0.1:65535", "127.0.0.1", 65535, id="last-port"),
        pytest.param("127.0.0.1:00080", "127.0.0.1", 80, id="zeros"),
    ],
)
def test_addresses_have_a_host_and_a_port(text: str, host: str, port: int) -> None:
    """The port is what stands behind the last colon; brackets are no part of the host."""
    assert parse_host_port(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        # Realistic
        pytest.param("9464", id="port-alone"),
        pytest.param("localhost", id="host-alone"),
        pytest.param("::1", id="ipv6-without-brackets"),
        pytest.param("http://127.0.0.1:80", id="url"),
        # Pathological
        pytest.param("", id="empty"),
        pytest.param("127.0.0.1:", id="no-port"),
        pytest.param("127.0.0.1:65536", id="above-the-last-port"),
        pytest.param("127.0.0.1:-1", id="negative"),
        pytest.param("127.0.0.1:+80", id="sign"),
        pytest.param("127.0.0.1: 80", id="space"),
        pytest.param("127.0.0.1:80 ", id="space-behind"),
        pytest.param("127.0.0.1:8_0", id="underscore"),
        pytest.param("127.0.0.1:٨٠", id="arabic-digits"),
        pytest.param("127.0.0.1:" + "0" * 5000 + "80", id="thousands-of-digits"),
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    """What is no host:port is refused, rather than read as some other port."""
    with pytest.raises(ValueError, match=r"expected host:port|needs brackets"):
        parse_host_port(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """There is no third outcome."""
    try:
        _, port = parse_host_port(text)
    except ValueError:
        return
    assert 0 <= port <= 65535
