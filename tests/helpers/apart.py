"""Services that listen on TCP, apart from Envoy: on this machine or on another host."""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from helpers.gatewayfiles import Files
from helpers.svids import Identity
from helpers.waiting import until
from ringback.contract import AUTHZ_CLUSTER, CALLKEEPER, PROC_CLUSTER
from ringback.processes import Child
from ringback.supervisor import Supervisor

_START_S: Final = 60


class Apart:
    """Services with their workers, between the ends of an ``async with`` block.

    Args:
        files: The configuration; its settings say how the services are reached.
        folder: An empty one for logs.
        ports: By service, one for each worker.
        host: The address that they listen on.
        program: What runs them, for example in another network namespace.
    """

    def __init__(
        self,
        files: Files,
        folder: Path,
        ports: Mapping[str, Sequence[int]],
        *,
        host: str = "127.0.0.1",
        program: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._supervisor = Supervisor(lambda _line: None)
        self._supervisor.restarts = False
        given = {"extauthz": ["--config", str(files.config), "--keys", str(files.keys)]}
        self._workers = {service: len(of_service) for service, of_service in ports.items()}
        self._children = {
            service: Child(
                service,
                [
                    *(*program, sys.executable, "-m", service),
                    *(word for port in of_service for word in ("--listen", f"{host}:{port}")),
                    *("--settings", str(files.settings), *given.get(service, ())),
                ],
                {"PATH": os.environ["PATH"]},
                folder / f"{service}.log",
            )
            for service, of_service in ports.items()
        }

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all workers, and return when they serve."""
        wanted = {
            name: len(self.logged(name, "ready")) + workers
            for name, workers in self._workers.items()
        }
        for child in self._children.values():
            await self._supervisor.start(child)
        await until(
            lambda: (
                self._supervisor.lost
                or all(len(self.logged(name, "ready")) >= count for name, count in wanted.items())
            ),
            _START_S,
        )
        assert not self._supervisor.lost, {name: self.log(name) for name in self._supervisor.lost}

    async def stop(self) -> None:
        """End all of them at once, with SIGKILL."""
        self._supervisor.kill()
        await self._supervisor.stop(self._children)

    def log(self, name: str) -> str:
        """Return what the workers of a service have logged so far."""
        file = self._folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def logs(self) -> dict[str, str]:
        """Return what all of them have logged."""
        return {name: self.log(name) for name in self._children}

    def logged(self, name: str, event: str) -> list[dict[str, Any]]:
        """Return the lines of an event."""
        # Lines of gRPC's own, and one that is not whole yet, are passed over.
        lines = (line for line in self.log(name).splitlines() if line[:1] + line[-1:] == "{}")
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def free_ports(extauthz: int = 1, sdpfilter: int = 1, callkeeper: int = 0) -> dict[str, list[int]]:
    """Return ports of 127.0.0.1 for so many workers, on which nobody listens at this moment."""
    wanted = {AUTHZ_CLUSTER: extauthz, PROC_CLUSTER: sdpfilter, CALLKEEPER: callkeeper}
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(sum(wanted.values()))]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        found = iter([probe.getsockname()[1] for probe in probes])
    return {name: list(islice(found, count)) for name, count in wanted.items() if count}


def server_tls(identity: Identity, *peers: str, **others: Any) -> dict[str, Any]:
    """Return the setting ``services.tls`` for an identity and those whom it lets in."""
    return {
        "certificate_file": str(identity.certificate),
        "key_file": str(identity.key),
        "client_ca_file": str(identity.authorities),
        "allowed_peers": peers,
        **others,
    }


def envoy_tls(identity: Identity, folder: Path, *peers: str) -> dict[str, Any]:
    """Return the setting ``services.envoy``, with the files that belong to it in a folder."""
    return {
        "certificate_file": str(identity.certificate),
        "key_file": str(identity.key),
        "ca_file": str(identity.authorities),
        "allowed_peers": peers,
        "folder": str(folder),
    }


def places(host: str, ports: Mapping[str, Sequence[int]]) -> dict[str, list[str]]:
    """Return the settings that tell Envoy where the services are."""
    return {
        service: [f"{host}:{port}" for port in ports[service]]
        for service in (AUTHZ_CLUSTER, PROC_CLUSTER)
    }
