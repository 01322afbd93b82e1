"""What a kubelet does with the pod of a manifest: volumes, order of starts and ends, probes."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from helpers.http11 import Message, read_message, request_bytes
from helpers.manifests import Manifest
from helpers.podhost import POD_ADDRESS, Confined, Mount, PodHost
from helpers.waiting import until

# kubelet's own: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter
_DATA: Final = "..data"
_LIMIT_BYTES: Final = 1024 * 1024


class Volumes:
    """The volumes of a pod, as folders.

    Args:
        folder: An empty one.
        pod: The pod's ``spec``.
        sources: By kind and name the ``data`` of ConfigMaps and Secrets.
    """

    def __init__(
        self, folder: Path, pod: Manifest, sources: Mapping[tuple[str, str], Mapping[str, str]]
    ) -> None:
        self._folder = folder
        self._group = pod["securityContext"].get("fsGroup", 0)
        self._volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        self._sources = dict(sources)
        self._writes = 0
        for name, volume in self._volumes.items():
            place = folder / name
            place.mkdir()
            if "emptyDir" in volume:
                os.chown(place, 0, self._group)
                place.chmod(0o2777)
            else:
                self._write(place, volume)

    def mounts(self, container: Manifest) -> list[Mount]:
        """Return what a container mounts."""
        return [
            Mount(self._folder / mount["name"], mount["mountPath"], mount.get("readOnly", False))
            for mount in container.get("volumeMounts", [])
        ]

    def update(self, kind: str, name: str, **data: str) -> None:
        """Change keys of a ConfigMap or Secret, and the files of all volumes that show it."""
        self._sources[kind, name] = {**self._sources[kind, name], **data}
        for volume_name, volume in self._volumes.items():
            if "emptyDir" not in volume:
                self._write(self._folder / volume_name, volume)

    def _write(self, place: Path, volume: Manifest) -> None:
        """Write the files of a volume all at once, behind a symbolic link that is replaced."""
        self._writes += 1
        version = place / f"..{self._writes}"
        mode = volume.get("secret", {}).get("defaultMode", 0o644)
        files = dict(self._files(volume))
        for path, text in files.items():
            file = version / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            os.chown(file, 0, self._group)
            file.chmod(mode)
        link = place / "..new"
        link.symlink_to(version.name)
        old = (place / _DATA).resolve() if (place / _DATA).exists() else None
        link.replace(place / _DATA)
        for top in {Path(path).parts[0] for path in files}:
            if not (place / top).is_symlink():
                (place / top).symlink_to(Path(_DATA, top))
        if old:
            shutil.rmtree(old)

    def _files(self, volume: Manifest) -> Iterable[tuple[str, str]]:
        for part in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in part:
                reference, kind = part["configMap"], "ConfigMap"
                name = reference["name"]
            else:
                reference, kind = part["secret"], "Secret"
                name = reference.get("secretName") or reference["name"]
            data = self._sources[kind, name]
            # A key that is missing is a KeyError here; there it keeps the pod from starting.
            items = reference.get("items") or [{"key": key, "path": key} for key in data]
            yield from ((item["path"], data[item["key"]]) for item in items)


@dataclass(slots=True)
class Pod:
    """A pod that runs.

    Attributes:
        host: Where it runs.
        spec: Of the pod.
        volumes: Its volumes.
        folder: For logs.
    """

    host: PodHost
    spec: Manifest
    volumes: Volumes
    folder: Path
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def start(self) -> None:
        """Start the sidecars one after the other, then the containers, and wait until all have."""
        for container in [*self.spec.get("initContainers", []), *self.spec["containers"]]:
            self._running[container["name"]] = self.host.start(self.confined(container))
            await self._pass(container, "startupProbe")
        for container in self.spec["containers"]:
            await self._pass(container, "readinessProbe")

    def pid(self, name: str) -> int:
        """Return the process of a container."""
        return self._running[name].pid

    def about(self, name: str, what: str) -> str:
        """Return a file of ``/proc`` about a container: ``status``, ``mounts``."""
        return Path(f"/proc/{self.pid(name)}/{what}").read_text()

    def log(self, name: str) -> str:
        """Return what a container has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def probe(self, container: Manifest, kind: str) -> bool:
        """Tell whether a probe passes."""
        probe = container[kind]
        timeout_s = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            confined = self.confined(container, probe["exec"]["command"])
            pid = self.pid(container["name"])
            return await asyncio.to_thread(self.host.execute, pid, confined, timeout_s) == 0
        (port,) = [
            port["containerPort"]
            for port in container["ports"]
            if port["name"] == probe["httpGet"]["port"]
        ]
        try:
            async with asyncio.timeout(timeout_s):
                answer = await get(port, probe["httpGet"]["path"])
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        return 200 <= answer.status < 400

    async def stop(self) -> float:
        """End it in the order of a kubelet and return how many seconds that took.

        Containers first, all at once; then sidecars, the last one first. Nothing is killed.
        """
        begin = time.monotonic()
        names = [container["name"] for container in self.spec["containers"]]
        sidecars = [container["name"] for container in self.spec.get("initContainers", [])]
        for group in (names, *([name] for name in reversed(sidecars))):
            children = [self._running[name] for name in group]
            for child in children:
                child.send_signal(signal.SIGTERM)
            grace_s = self.spec["terminationGracePeriodSeconds"]
            await until(lambda c=children: all(child.poll() is not None for child in c), grace_s)  # type: ignore[misc]
        return time.monotonic() - begin

    def exit_codes(self) -> dict[str, int | None]:
        """Return how each container has ended, None for those that run."""
        return {name: child.poll() for name, child in self._running.items()}

    def confined(self, container: Manifest, command: list[str] | None = None) -> Confined:
        """Return a container as this machine runs it, with another command if one is given."""
        return Confined(
            command=command or [*container["command"], *container.get("args", [])],
            environ={entry["name"]: entry["value"] for entry in container.get("env", [])},
            mounts=self.volumes.mounts(container),
            user=self.spec["securityContext"]["runAsUser"],
            log=self.folder / f"{container['name']}.log",
        )

    async def _pass(self, container: Manifest, kind: str) -> None:
        if kind not in container:
            return
        name, probe = container["name"], container[kind]
        # A start takes as long as the manifest allows; readiness has no end.
        deadline = time.monotonic() + probe.get("periodSeconds", 10) * max(
            probe.get("failureThreshold", 3), 20
        )
        while time.monotonic() < deadline:
            assert self._running[name].poll() is None, f"{name} has ended: {self.log(name)[-2000:]}"
            if await self.probe(container, kind):
                return
            await asyncio.sleep(0.2)
        raise AssertionError(f"{kind} of {name} does not pass: {self.log(name)[-2000:]}")


async def get(port: int, path: str, address: str = POD_ADDRESS) -> Message:
    """Ask at the address of the pod, as kubelets and Prometheus do."""
    reader, writer = await asyncio.open_connection(address, port, limit=_LIMIT_BYTES)
    try:
        writer.write(request_bytes("GET", path, [("connection", "close")]))
        return await read_message(reader, is_answer=True)
    finally:
        writer.close()
