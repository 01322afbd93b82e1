import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from helpers.exchanges import OFFER
from helpers.procmessages import request_body, request_headers, response_headers
from ringback.health import check
from ringback.secrets import Secret
from ringback.settings import Settings, TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.handles import open_handle
from ringback.worker import _worker_command

SECRET = "correct horse battery staple"
ENVIRON = {"LITELLM_SALT_KEY": SECRET, "PATH": os.environ["PATH"]}
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


class Worker:
    """``python -m sdpfilter`` as an operator starts it."""

    def __init__(self, folder: Path, *arguments: str, **environ: str) -> None:
        self._log = folder / "stderr"
        with self._log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sdpfilter", *arguments],
                env=ENVIRON | environ,
                stdout=stderr,
                stderr=stderr,
            )

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log; each must be one JSON object."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def children(self) -> list[int]:
        """Ids of the processes that it has started."""
        pid = self.process.pid
        return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def wait_until_ready(self, *addresses: str) -> None:
        """Wait until every address serves."""
        for address in addresses:
            self.wait_for(lambda address=address: check(address, 1))  # type: ignore[misc]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """Starts a worker that ends with the test."""
    workers = []

    def start(*arguments: str, **environ: str) -> Worker:
        workers.append(Worker(tmp_path, *arguments, **environ))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.terminate()
        worker.process.wait(20)


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Where the first worker listens."""
    return f"unix:{tmp_path}/0.sock"


@pytest.fixture
def second_address(tmp_path: Path) -> str:
    """Where the second worker listens."""
    return f"unix:{tmp_path}/1.sock"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_worker_serves_until_a_signal(
    start: Callable[..., Worker], address: str, tmp_path: Path, number: signal.Signals
) -> None:
    """It says ready and stopping, ends with 0 and leaves no socket behind."""
    worker = start("--listen", address)
    worker.wait_until_ready(address)
    assert worker.children == []
    assert worker.stop(number) == 0
    assert [(line["service"], line["event"], line["address"]) for line in worker.log] == [
        ("sdpfilter", "ready", address),
        ("sdpfilter", "stopping", address),
    ]
    assert not (tmp_path / "0.sock").exists()


def test_the_worker_is_the_ext_proc_service(start: Callable[..., Worker], address: str) -> None:
    """It answers Envoy, and seals calls so that whoever has the secret can open them."""
    start("--listen", address).wait_until_ready(address)
    with grpc.insecure_channel(address) as channel:
        process: Any = channel.stream_stream(
            METHOD, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )
        messages = [request_headers(), request_body(OFFER), response_headers()]
        answers = list(process(iter(messages), timeout=10))
    headers = answers[2].response_headers.response.header_mutation.set_headers
    (location,) = [
        option.header.raw_value.decode() for option in headers if option.header.key == "location"
    ]
    sealer = handle_sealer(TokenSettings(secret=Secret(SECRET)), {})
    handle = open_handle(location.rpartition("/")[2], sealer, time.time())
    assert (handle.deployment, handle.call_id) == ("azure-sweden", "rtc_u1_9c65")


def test_several_workers_are_watched(
    start: Callable[..., Worker], address: str, second_address: str
) -> None:
    """Each address has a process of its own; one that is killed is replaced; all end together."""
    worker = start("--listen", address, "--listen", second_address)
    worker.wait_until_ready(address, second_address)
    before = worker.children
    assert len(before) == 2

    os.kill(before[0], signal.SIGKILL)
    worker.wait_for(lambda: len(worker.children) == 2 and before[0] not in worker.children)
    worker.wait_until_ready(address, second_address)
    assert before[1] in worker.children

    after = worker.children
    assert worker.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in after)
    messages = [line["message"] for line in worker.log if line["event"] == "worker"]
    assert messages == ["sdpfilter-0 ended with code -9; restarted"]
    assert [line["event"] for line in worker.log].count("ready") == 3


def free_port() -> int:
    """Return a port that is free, and whose tenth successor is free too."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 10))
            except (OSError, OverflowError):
                continue
            return port


@pytest.mark.parametrize("by", ["option", "variable"])
def test_every_worker_has_metrics_of_its_own(
    start: Callable[..., Worker], address: str, second_address: str, by: str
) -> None:
    """The second worker exports ten ports above the first."""
    port = free_port()
    listen = ["--listen", address, "--listen", second_address]
    if by == "option":
        worker = start(*listen, "--metrics", f"127.0.0.1:{port}")
    else:
        worker = start(*listen, RINGBACK_METRICS_ADDRESS=f"127.0.0.1:{port}")
    worker.wait_until_ready(address, second_address)
    for own in (port, port + 10):
        with urllib.request.urlopen(f"http://127.0.0.1:{own}/metrics", timeout=5) as answer:
            assert b"process_resident_memory_bytes" in answer.read()


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a worker that cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "sdpfilter", *arguments],
        env=ENVIRON | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NO_SECRET = (
    "There is no secret to seal tokens with. Set LITELLM_SALT_KEY, LITELLM_MASTER_KEY, "
    "general_settings.master_key, RINGBACK_TOKEN__SECRET or RINGBACK_TOKEN__JWK_SET_FILE.\n"
)
BAD_METRICS = (
    "metrics address {}: expected host:port "
    "with an address of this machine and a free port from 0 to 65535.\n"
)


@pytest.mark.parametrize(
    ("arguments", "environ", "text"),
    [
        # Realistic
        pytest.param([], {"LITELLM_SALT_KEY": ""}, NO_SECRET, id="no-secret"),
        pytest.param(
            [],
            {"LITELLM_SALT_KEY": "hunter2"},
            "LITELLM_SALT_KEY is too short to seal tokens with. Use 16 random characters or "
            "more, for example from `openssl rand -hex 32`; RINGBACK_TOKEN__SECRET takes "
            "precedence over all others.\n",
            id="weak-secret",
        ),
        pytest.param(
            [],
            {"RINGBACK_LOG_LEVEL": "loud", "RINGBACK_NONE": "x"},
            "These settings cannot be used:\n"
            "  RINGBACK_NONE: there is no such setting; docs/configuration.md lists them\n"
            "  log_level: Input should be 'debug', 'info', 'warning' or 'error'\n",
            id="settings",
        ),
        pytest.param(
            ["--settings", "/nowhere.yaml"],
            {},
            "These settings cannot be used:\n"
            "  /nowhere.yaml: cannot be read: No such file or directory\n",
            id="no-file",
        ),
        pytest.param(
            ["--metrics", "9464"], {}, BAD_METRICS.format("9464"), id="metrics-without-host"
        ),
        # Pathological
        pytest.param(
            [],
            {"RINGBACK_METRICS_ADDRESS": "127.0.0.1:70000"},
            BAD_METRICS.format("127.0.0.1:70000"),
            id="metrics-port",
        ),
    ],
)
def test_a_wrong_setting_is_exit_code_2(
    address: str, arguments: list[str], environ: dict[str, str], text: str
) -> None:
    """The text says what to mend, shows no value that could be a secret, and nothing else."""
    done = run("--listen", address, *arguments, **environ)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", text)


@pytest.mark.parametrize(
    ("arguments", "environ", "text"),
    [
        pytest.param([], {"RINGBACK_LOG_LEVEL": "loud"}, "log_level: Input should", id="settings"),
        pytest.param([], {"LITELLM_SALT_KEY": ""}, NO_SECRET, id="no-secret"),
        pytest.param(["--metrics", "foo:bar"], {}, BAD_METRICS.format("foo:bar"), id="metrics"),
        pytest.param(
            ["--metrics", "127.0.0.1:65530"],
            {},
            BAD_METRICS.format("127.0.0.1:65530"),
            id="second-metrics-port",
        ),
    ],
)
def test_a_wrong_setting_ends_several_workers(
    address: str, second_address: str, arguments: list[str], environ: dict[str, str], text: str
) -> None:
    """Nothing is restarted that cannot start: exit code 2, and the text."""
    done = run("--listen", address, "--listen", second_address, *arguments, **environ)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_cannot_be_bound_is_exit_code_2(tmp_path: Path) -> None:
    """The last line says what an address is."""
    done = run("--listen", f"unix:{tmp_path}/none/s.sock")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"unix:{tmp_path}/none/s.sock cannot be bound: expected unix:/path in a folder that "
        "exists, or host:port with an address of this machine, that nobody else listens on."
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param([], "the following arguments are required: --listen", id="no-address"),
        pytest.param(
            ["--listen", "unix:/s", "--listen", "unix:/s"],
            "argument --listen: each worker needs an address of its own",
            id="same-address",
        ),
        pytest.param(["--listen", "unix:/s", "--port", "1"], "unrecognized", id="unknown"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], text: str) -> None:
    """Exit code 2 and the usage."""
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m sdpfilter")
    assert text in done.stderr


def test_the_settings_file_is_read_in_every_worker(
    start: Callable[..., Worker], address: str, second_address: str, tmp_path: Path
) -> None:
    """What the file says holds in the processes that are started for the addresses."""
    settings = tmp_path / "ringback.yaml"
    settings.write_text("log_level: error\n")
    worker = start("--listen", address, "--listen", second_address, "--settings", str(settings))
    worker.wait_until_ready(address, second_address)
    assert worker.stop() == 0
    assert worker.log == []


def test_options_are_passed_on() -> None:
    """A child is told its own address, the same files and its own metrics port."""
    arguments = argparse.Namespace(
        listen=["unix:/0", "unix:/1"],
        settings=Path("ringback.yaml"),
        config=Path("config.yaml"),
        keys=None,
    )
    settings = Settings(metrics_address="[::1]:9464")
    command = [sys.executable, "-m", "extauthz", "--listen"]
    files = ["--settings", "ringback.yaml", "--config", "config.yaml", "--metrics"]
    assert [_worker_command("extauthz", arguments, settings, index) for index in (0, 1)] == [
        [*command, "unix:/0", *files, "[::1]:9464"],
        [*command, "unix:/1", *files, "[::1]:9474"],
    ]
