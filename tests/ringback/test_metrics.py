import socket
import urllib.request
from collections.abc import Iterator

import prometheus_client
import pytest

from ringback import metrics
from ringback.metrics import MetricsAddressError, serve_metrics, shift_port

REFUSAL = (
    "metrics address {}: expected host:port "
    "with an address of this machine and a free port from 0 to 65535."
)


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port for one endpoint, which ends with the test."""
    servers = []

    def start(port: int, addr: str) -> None:
        server, thread = prometheus_client.start_http_server(port, addr)
        servers.append((server, thread))

    monkeypatch.setattr(metrics, "start_http_server", start)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield port
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "", "localhost"])
def test_metrics_are_served_over_http(free_port: int, host: str) -> None:
    """Prometheus reads the process's own metrics at the address; without a host on loopback."""
    serve_metrics(f"{host}:{free_port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as answer:
        assert b"process_cpu_seconds_total" in answer.read()


def test_without_a_host_only_loopback_is_served(free_port: int) -> None:
    """Metrics are for the machine unless an address says otherwise."""
    serve_metrics(f":{free_port}")
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", free_port))


def test_an_address_in_use_is_refused() -> None:
    """A port that somebody listens on cannot be shared."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MetricsAddressError) as caught:
            serve_metrics(address)
    assert str(caught.value) == REFUSAL.format(address)


@pytest.mark.parametrize(
    "address",
    [
        # Realistic
        pytest.param("9464", id="port-alone"),
        pytest.param("192.0.2.1:9464", id="not-ours"),
        # Pathological
        pytest.param("127.0.0.1:70000", id="above-the-last-port"),
        pytest.param("nowhere.invalid:9464", id="unknown-name"),
        pytest.param("a..b:9464", id="no-name"),
        pytest.param(f"{'a' * 70}:9464", id="long-name"),
        pytest.param("\ud800:9464", id="half-a-character"),
    ],
)
def test_an_address_of_no_use_is_refused(address: str) -> None:
    """Whatever is wrong with the address, one line says what was expected."""
    with pytest.raises(MetricsAddressError) as caught:
        serve_metrics(address)
    assert str(caught.value) == REFUSAL.format(address)


@pytest.mark.parametrize(
    ("address", "ports", "expected"),
    [
        # Realistic
        pytest.param("127.0.0.1:9464", 0, "127.0.0.1:9464", id="first"),
        pytest.param("127.0.0.1:9464", 10, "127.0.0.1:9474", id="second"),
        pytest.param("[::1]:9464", 20, "[::1]:9484", id="ipv6"),
        pytest.param(":9464", 10, ":9474", id="no-host"),
        # Pathological
        pytest.param("127.0.0.1:0", 10, "127.0.0.1:0", id="any-port-stays"),
        pytest.param("127.0.0.1:65525", 10, "127.0.0.1:65535", id="last-port"),
    ],
)
def test_other_workers_have_higher_ports(address: str, ports: int, expected: str) -> None:
    """The host stays as it is written, the port grows."""
    assert shift_port(address, ports) == expected


@pytest.mark.parametrize("address", ["9464", "foo:bar", "127.0.0.1:65526"])
def test_a_port_that_cannot_be_shifted_is_refused(address: str) -> None:
    """No worker gets an address that is malformed or beyond the last port."""
    with pytest.raises(MetricsAddressError) as caught:
        shift_port(address, 10)
    assert str(caught.value) == REFUSAL.format(address)
