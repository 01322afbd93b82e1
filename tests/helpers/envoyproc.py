"""A real Envoy that belongs to a test, on ports that the kernel chooses."""

import asyncio
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from helpers.http11 import request_bytes, send
from ringback.paths import envoy_dir, find_envoy
from ringback.processes import Child
from ringback.render.bootstrap import Address, Changes, own_bootstrap
from ringback.supervisor import Supervisor

Json = dict[str, Any]

BOOTSTRAP: Final = envoy_dir() / "envoy.yaml"
ANYWHERE: Final = Address("127.0.0.1", 0)
_START_TIMEOUT_S: Final = 30
_STOP_TIMEOUT_S: Final = 60


def local_bootstrap(**changes: Any) -> Json:
    """Return envoy.yaml with listeners on free ports of 127.0.0.1.

    Args:
        changes: Further fields of `ringback.render.bootstrap.Changes`.
    """
    return own_bootstrap(local_changes(**changes))


def local_changes(**changes: Any) -> Changes:
    """Return what puts all listeners on free ports of 127.0.0.1.

    Args:
        changes: Further fields.
    """
    addresses = dict.fromkeys(("ingress", "egress", "admin", "metrics"), ANYWHERE)
    return Changes(**{**addresses, **changes})


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Let Envoy validate a bootstrap; relative paths in it are below the checkout."""
    return subprocess.run(
        [find_envoy(), "--mode", "validate", "-c", file],
        cwd=BOOTSTRAP.parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class EnvoyProcess:
    """Runs between the ends of an ``async with`` block.

    Args:
        bootstrap: From `local_bootstrap`.
        folder: An empty one for files.
        program: What runs Envoy.
        env: Its whole environment; ours when None.
        options: Of Envoy's hot restart.
    """

    def __init__(
        self,
        bootstrap: Json,
        folder: Path,
        *,
        program: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = ("--disable-hot-restart",),
    ) -> None:
        self._folder = folder
        self._program = program or [str(find_envoy())]
        self._env = env
        self._options = options
        self._bootstrap = bootstrap
        self._reports: list[str] = []
        self._supervisor = Supervisor(self._reports.append)
        self._supervisor.restarts = False
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def start(self) -> None:
        """Start it, after `kill` once more; listeners of port 0 may then be elsewhere."""
        file, admin = self._folder / "envoy.json", self._folder / "admin"
        file.write_text(json.dumps(self._bootstrap))
        command = [*self._program, "-c", str(file), "--admin-address-path", str(admin)]
        command += [*self._options, "--concurrency", "1", "--file-flush-interval-msec", "50"]
        log, self._ports = self._folder / "envoy.log", {}
        await self._supervisor.start(Child("envoy", command, self._env, log))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not self._ports:
                    await asyncio.sleep(0.02)
                    self._ports = await self._read_ports(admin)
        except BaseException:
            await self.kill()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.kill()

    def port(self, listener: str) -> int:
        """Return where a listener listens."""
        return self._ports[listener]

    @property
    def log(self) -> str:
        """What Envoy has written so far: access log and messages."""
        return (self._folder / "envoy.log").read_text(errors="replace")

    async def ended(self) -> None:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await self._supervisor.loss.wait()

    async def terminate(self) -> None:
        """Send SIGTERM and wait for the end."""
        await self._supervisor.stop(["envoy"], grace_s=_STOP_TIMEOUT_S)

    async def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self._supervisor.kill()
        await self._supervisor.stop(["envoy"])

    async def _read_ports(self, admin: Path) -> dict[str, int]:
        assert not self._reports, f"{self._reports}: {self.log[-2000:]}"
        admin_port = _port_in(admin)
        if not admin_port:
            return {}
        try:
            # Addresses are known before anybody listens there.
            if (await send(admin_port, request_bytes("GET", "/ready"))).status != 200:
                return {}
            answer = await send(admin_port, request_bytes("GET", "/listeners?format=json"))
        except (OSError, asyncio.IncompleteReadError):
            # It is not there yet, or it has just ended and the report is on its way.
            return {}
        return {"admin": admin_port} | {
            listener["name"]: listener["local_address"]["socket_address"]["port_value"]
            for listener in answer.json().get("listener_statuses", [])
        }


def _port_in(file: Path) -> int:
    """Return the port of an address in a file; 0 if it is not there yet."""
    text = file.read_text() if file.exists() else ""
    return int(text.rpartition(":")[2] or 0)
