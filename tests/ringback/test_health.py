import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc_testing  # type: ignore[import-untyped]  # no stubs exist
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ringback.health import check, check_channel, main
from ringback.metrics import serve_metrics
from ringback.vitals import Vitals

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
CHECK = SERVICE.methods_by_name["Check"]
Status = health_pb2.HealthCheckResponse


class Asked:
    """A check in another thread, over a channel whose server is the test."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.channel = grpc_testing.channel([SERVICE], grpc_testing.strict_fake_time(0))
        self.result: Future[bool] = pool.submit(check_channel, self.channel, 5)
        _, self.request, self.server = self.channel.take_unary_unary(CHECK)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for checks that wait for an answer."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize(
    ("status", "is_serving"),
    [
        # Realistic
        pytest.param(Status.SERVING, True, id="serving"),
        pytest.param(Status.NOT_SERVING, False, id="not-serving"),
        # Synthetic
        pytest.param(Status.UNKNOWN, False, id="unknown"),
        pytest.param(Status.SERVICE_UNKNOWN, False, id="service-unknown"),
        # Pathological
        pytest.param(99, False, id="a-status-of-the-future"),
    ],
)
def test_only_serving_is_healthy(pool: ThreadPoolExecutor, status: int, is_serving: bool) -> None:
    """Of all statuses that a server may answer, SERVING alone counts."""
    asked = Asked(pool)
    asked.server.terminate(Status(status=status), (), grpc.StatusCode.OK, "")

    assert asked.result.result(5) is is_serving
    assert asked.request == health_pb2.HealthCheckRequest(service="")


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_any_failure_is_unhealthy(pool: ThreadPoolExecutor, code: grpc.StatusCode) -> None:
    """A call that ends with an error says nothing good about the server, whatever the error."""
    asked = Asked(pool)
    asked.server.terminate(None, (), code, "made up")

    assert asked.result.result(5) is False


@pytest.fixture
def status() -> health.HealthServicer:
    """The health of the server, settable."""
    return health.HealthServicer()


@pytest.fixture
def server(status: health.HealthServicer) -> Iterator[grpc.Server]:
    """A real server, without an address yet."""
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    yield server
    server.stop(None).wait()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_check_follows_a_real_server(
    server: grpc.Server, status: health.HealthServicer, tmp_path: Path, kind: str
) -> None:
    """Over a socket or a port, the answer is that of the moment, before, while and after."""
    address = f"unix:{tmp_path}/s.sock" if kind == "unix" else "127.0.0.1:0"
    port = server.add_insecure_port(address)
    if kind == "tcp":
        address = f"127.0.0.1:{port}"
    server.start()

    status.set("", Status.NOT_SERVING)
    assert not check(address)
    status.set("", Status.SERVING)
    assert check(address)
    server.stop(None).wait()
    assert not check(address, 0.5)


def test_a_silent_server_is_unhealthy_after_the_timeout(tmp_path: Path) -> None:
    """A server that accepts and says nothing is waited for no longer than the timeout."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        start = time.monotonic()
        assert not check(f"unix:{path}", 0.3)
        assert 0.25 < time.monotonic() - start < 3


def test_a_server_that_comes_up_is_seen_at_once(
    server: grpc.Server, status: health.HealthServicer, tmp_path: Path
) -> None:
    """Refused connections do not put off the next check, as gRPC's own backoff would."""
    address = f"unix:{tmp_path}/s.sock"
    assert not any(check(address, 0.2) for _ in range(3))
    server.add_insecure_port(address)
    server.start()
    status.set("", Status.SERVING)

    assert check(address, 0.5)


def test_the_command_says_one_line_and_exits_with_the_answer(
    server: grpc.Server, status: health.HealthServicer, tmp_path: Path
) -> None:
    """As a container's health check: exit code 0 or 1, and one line for the person who looks."""
    address = f"unix:{tmp_path}/s.sock"
    command = [sys.executable, "-m", "ringback.health", address]
    server.add_insecure_port(address)
    server.start()

    status.set("", Status.SERVING)
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    status.set("", Status.NOT_SERVING)
    bad = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (good.returncode, good.stdout, good.stderr) == (0, f"{address} is serving\n", "")
    assert (bad.returncode, bad.stdout, bad.stderr) == (1, f"{address} is not serving\n", "")


@pytest.fixture
def worker() -> Iterator[tuple[Vitals, str]]:
    """The HTTP endpoint of a worker, and its vitals."""
    vitals = Vitals(clock=lambda: 100.0)
    server = serve_metrics("127.0.0.1:0", vitals)
    yield vitals, f"http://127.0.0.1:{server.server_port}/healthz"
    server.shutdown()
    server.server_close()


def test_workers_are_asked_over_http(
    worker: tuple[Vitals, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is well while its event loop is alive, ready or not; no proxy is asked."""
    vitals, url = worker
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert main([url]) == 0
    vitals._beat = 0.0
    assert main([url]) == 1
    assert capsys.readouterr().out == f"{url} is well\n{url} is not well\n"


def test_one_of_several_that_is_not_well_counts(
    worker: tuple[Vitals, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """All are asked, and each has its line."""
    _, url = worker
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    nobody = f"http://127.0.0.1:{port}/healthz"

    assert main([nobody, url]) == 1
    assert capsys.readouterr().out == f"{nobody} is not well\n{url} is well\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1:x/", "http://[::1/", "http://"])
def test_a_url_that_is_none_is_not_well(url: str) -> None:
    """Whatever is wrong with it, the command ends with an answer."""
    assert main([url]) == 1


def test_the_command_without_an_address_explains_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong usage is exit code 2 and the usage."""
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: python -m ringback.health")
