"""The stack of docker-compose.yml, run by whatever command COMPOSE_COMMAND names."""

import os
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
# What changes the stack, and is not for a test to inherit.
_VARIABLES: Final = re.compile(r"\$\{([A-Z_]+)|^ +([A-Z_]+):$", re.MULTILINE)
# A call takes one; a call that has just ended may still have its own.
_MEDIA_PORTS: Final = 4


def read_services(profile: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the services of a profile, or those that belong to none, by name."""
    content = yaml.safe_load(COMPOSE_FILE.read_text())
    return {
        name: service
        for name, service in content["services"].items()
        if service.get("profiles", [None]) == [profile]
    }


def read_variables() -> set[str]:
    """Return the names of the environment variables that the file reads."""
    found = _VARIABLES.finditer(COMPOSE_FILE.read_text())
    return {match[1] or match[2] for match in found}


class Containers:
    """A project of its own, beside whatever else this machine runs.

    Args:
        project: Its name.
    """

    def __init__(self, project: str) -> None:
        port, media = _free_tcp_port(), _free_udp_ports()
        self.url = f"http://127.0.0.1:{port}"
        self._command = _compose_command()
        self._environ = {
            name: value for name, value in os.environ.items() if name not in read_variables()
        } | {
            "COMPOSE_PROJECT_NAME": project,
            "GATEWAY_PORT": str(port),
            "MEDIA_PORTS": f"{media}-{media + _MEDIA_PORTS - 1}",
        }

    def run(self, *arguments: str, timeout_s: float = 120) -> str:
        """Run a command of compose and return what it writes; fails the test if it fails."""
        # A file, since containers may inherit a pipe and keep it open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [*self._command, *arguments],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        assert done.returncode == 0, f"{arguments} failed:\n{text[-4000:]}"
        return text

    def exec(self, service: str, command: Iterable[str]) -> str:
        """Run a command in the container of a service, and return what it writes."""
        return self.run("exec", "-T", service, *command)

    def wait_until_ready(self, timeout_s: float = 120) -> None:
        """Wait until Envoy and both services serve; fails the test with all logs if not."""
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if time.monotonic() > deadline:
                pytest.fail(f"not ready after {timeout_s} s:\n{self.run('logs')[-8000:]}")
            time.sleep(0.5)

    def _is_ready(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 200


def _compose_command() -> list[str]:
    command = os.environ.get("COMPOSE_COMMAND")
    if not command:
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict("set COMPOSE_COMMAND to run the containers, for example to `docker compose`")
    return shlex.split(command)


def _free_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _free_udp_ports() -> int:
    """Return the first of some adjacent UDP ports that are free, outside of the ephemeral range."""
    for first in range(20100, 30000, _MEDIA_PORTS):
        sockets = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(_MEDIA_PORTS)]
        try:
            for offset, udp in enumerate(sockets):
                udp.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        finally:
            for udp in sockets:
                udp.close()
        return first
    pytest.fail("no UDP ports are free")
