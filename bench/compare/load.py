"""Load by wrk: one kind of request over and over, on as many connections as wanted."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCRIPT: Final = Path(__file__).with_name("load.lua")
_TIMEOUT_S: Final = 30


class NoWrkError(Exception):
    """wrk is not installed."""

    def __str__(self) -> str:
        return "The load comes from wrk: apt-get install wrk, or brew install wrk."


class LoadError(Exception):
    """Requests were answered with an error, or not at all."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is posted.

    Attributes:
        path: Where to, from the slash on.
        headers: Names and values.
        body: A file.
    """

    path: str
    headers: Mapping[str, str]
    body: Path


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk saw.

    Attributes:
        requests: How many were answered.
        seconds: How long that took.
        p50_ms: Half of the answers took no longer.
        p99_ms: The same for 99 of 100.
        failed: How many got an error of HTTP, or of the connection.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int

    @property
    def per_s(self) -> float:
        """Requests answered in a second."""
        return self.requests / self.seconds


def run(
    url: str, request: Request, connections: int, seconds: int, keys: tuple[int, int] | None = None
) -> Load:
    """Send requests for some time.

    Args:
        url: Scheme, host and port.
        request: What to send.
        connections: How many requests are under way at any moment.
        seconds: How long.
        keys: Another key for each request: how many have been sent, of how many there are.

    Raises:
        LoadError: If a request failed.
        NoWrkError: If there is no wrk.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise NoWrkError
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_TIMEOUT_S}s", "--latency"]
    headers = [
        word for name, value in request.headers.items() for word in ("-H", f"{name}: {value}")
    ]
    command = [wrk, *options, f"-s{_SCRIPT}", *headers, url + request.path, "--", str(request.body)]
    command += map(str, keys or ())
    ended = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    load = Load(**json.loads(ended.stdout.splitlines()[-1]))
    if load.failed or not load.requests:
        raise LoadError(f"{load.failed} of {load.requests} requests to {request.path} failed")
    return load
