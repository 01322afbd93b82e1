import asyncio
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from types import ModuleType
from wsgiref.simple_server import WSGIServer

import pytest
from prometheus_client import Counter

from ringback.metrics import MetricsAddressError, forget, serve_metrics, shift_port
from ringback.vitals import LAG_SECONDS, Vitals

REFUSAL = (
    "metrics address {}: expected host:port "
    "with an address of this machine and a free port from 0 to 65535."
)
Start = Callable[[str, Vitals], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an endpoint that ends with the test, and returns its port."""
    servers: list[WSGIServer] = []

    def serve(address: str, vitals: Vitals) -> int:
        servers.append(serve_metrics(address, vitals))
        return servers[-1].server_port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def get(url: str) -> tuple[int, bytes]:
    """Return what is answered to a GET."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  http
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("", "127.0.0.1"), ("localhost", "localhost"), ("[::1]", "[::1]")],
)
def test_metrics_are_served_over_http(start: Start, host: str, reached: str) -> None:
    """Prometheus reads the process's own metrics at the address; without a host on loopback."""
    port = start(f"{host}:0", Vitals())
    status, text = get(f"http://{reached}:{port}/metrics")
    assert status == 200
    assert b"process_cpu_seconds_total" in text
    assert b"ringback_event_loop_lag_seconds_count" in text


def test_without_a_host_only_loopback_is_served(start: Start) -> None:
    """Metrics are for the machine unless an address says otherwise."""
    port = start(":0", Vitals())
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))


def test_health_over_http(start: Start) -> None:
    """A worker is alive while its event loop comes back, and ready only while it can serve."""
    now = 100.0
    vitals = Vitals(lambda: now)
    url = f"http://127.0.0.1:{start(':0', vitals)}"
    assert get(f"{url}/healthz") == (200, b'{"status":"alive"}')
    assert get(f"{url}/readyz") == (503, b'{"status":"not ready"}')
    vitals.is_ready = True
    assert get(f"{url}/readyz") == (200, b'{"status":"ready"}')

    async def beat_once() -> None:
        asyncio.create_task(vitals.watch())  # noqa: RUF006  it ends with the loop
        await asyncio.sleep(0)

    asyncio.run(beat_once())
    now += 9.9
    assert get(f"{url}/healthz")[0] == get(f"{url}/readyz")[0] == 200
    now += 0.2
    assert get(f"{url}/healthz") == (503, b'{"status":"not alive"}')
    assert get(f"{url}/readyz") == (503, b'{"status":"not ready"}')


async def test_a_blocked_loop_is_measured() -> None:
    """What blocks the event loop shows as lag of at least its length."""
    before = LAG_SECONDS._sum.get()
    watching = asyncio.create_task(Vitals().watch())
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251  on purpose
    await asyncio.sleep(0.05)
    watching.cancel()
    assert LAG_SECONDS._sum.get() - before >= 0.3


def test_an_address_in_use_is_refused() -> None:
    """A port that somebody listens on cannot be shared."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MetricsAddressError) as caught:
            serve_metrics(address, Vitals())
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
        serve_metrics(address, Vitals())
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


def test_metrics_of_another_service_are_not_served(start: Start) -> None:
    """A fork of a process that knows both services shows what it counts itself alone."""
    other = ModuleType("other")
    vars(other).update(COUNTED=Counter("other_counted", "By somebody else"), name="other", limit=3)
    port = start("127.0.0.1:0", Vitals())
    url = f"http://127.0.0.1:{port}/metrics"
    assert b"other_counted" in get(url)[1]

    forget(other)

    assert b"other_counted" not in get(url)[1]
    assert b"ringback_event_loop_tasks" in get(url)[1]
