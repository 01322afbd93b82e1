"""Hosts with addresses of their own on this machine: network namespaces on one bridge.

A host is plugged into the bridge by a cable (veth), or by a `Wire` that delays and loses frames.
The kernel's own netem would do that, too, where it has been built in; a wire works everywhere.
"""

import asyncio
import ctypes
import fcntl
import os
import random
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import pytest

T = TypeVar("T")

_TUN: Final = Path("/dev/net/tun")
_CLONE_NEWNET: Final = 0x40000000
# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_MAX_FRAME_BYTES: Final = 65536
# Global ones: the SDP policy of the gateway lets no other candidate out.
_ADDRESS: Final = "11.77.0.{}"


def find_ip() -> str:
    """Return the path of iproute2's ``ip``.

    Without it, root or TAP devices the test is skipped, or fails in CI.
    """
    found = shutil.which("ip")
    if found is None or os.geteuid() != 0 or not _TUN.exists():
        verdict = pytest.fail if os.environ.get("CI") else pytest.skip
        verdict(f"needs root, iproute2 (apt-get install iproute2) and {_TUN}")
    assert found is not None
    return found


class Host:
    """A network namespace.

    Attributes:
        address: Its IPv4 address.
        program: What runs a program there, in front of the program's own arguments.
    """

    def __init__(self, namespace: str, address: str, ip: str) -> None:
        self.namespace = namespace
        self.address = address
        self.program = (ip, "netns", "exec", namespace)

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine returns, in the event loop of a thread that is on this host."""
        done: Future[T] = Future()

        def enter() -> None:
            try:
                _enter(self.namespace)
                done.set_result(asyncio.run(work()))
            except BaseException as error:  # noqa: BLE001  the test is told
                done.set_exception(error)

        threading.Thread(target=enter, name=self.namespace, daemon=True).start()
        return await asyncio.wrap_future(done)


class Wire:
    """What lies between a host and the bridge; carried by the event loop that starts it.

    Attributes:
        delay_s: Of each frame, in each direction.
        loss: The share of the frames that are lost.
        is_cut: Whether all of them are.
        frames: Those that went over since `record` was set.
        record: Whether frames are kept.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.loss = 0.0
        self.is_cut = False
        self.record = False
        self.frames: list[bytes] = []
        self._ends: tuple[int, int] = (-1, -1)
        # The same frames are lost in each run, as far as frames come in the same order.
        self._random = random.Random(1)

    def lay(self, names: tuple[str, str]) -> None:
        """Make two interfaces of these names, here, which the wire connects."""
        self._ends = (_open_tap(names[0]), _open_tap(names[1]))

    def carry(self) -> None:
        """Begin to carry frames."""
        loop = asyncio.get_running_loop()
        one, other = self._ends
        loop.add_reader(one, self._read, loop, one, other)
        loop.add_reader(other, self._read, loop, other, one)

    def remove(self) -> None:
        """Stop, and take both interfaces away."""
        loop = asyncio.get_running_loop()
        for end in self._ends:
            loop.remove_reader(end)
            os.close(end)

    def _read(self, loop: asyncio.AbstractEventLoop, end: int, other: int) -> None:
        with suppress(BlockingIOError):
            while True:
                frame = os.read(end, _MAX_FRAME_BYTES)
                if self.is_cut or self._random.random() < self.loss:
                    continue
                if self.record:
                    self.frames.append(frame)
                if self.delay_s:
                    loop.call_later(self.delay_s, _write, other, frame)
                else:
                    _write(other, frame)


class Network:
    """Hosts on a bridge, between the ends of an ``async with`` block.

    Args:
        hosts: Names; with the wire that leads there, None for a cable.
    """

    def __init__(self, hosts: Mapping[str, Wire | None]) -> None:
        self._ip = find_ip()
        self._wires = hosts
        # Interfaces have names of 15 characters at most.
        self._prefix = f"rb{os.getpid()}"
        self._bridge = f"{self._prefix}-bridge"
        self._hosts = {
            name: Host(f"{self._prefix}-{name}", _ADDRESS.format(number), self._ip)
            for number, name in enumerate(hosts, start=2)
        }

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    async def __aenter__(self) -> Self:
        try:
            self._run("netns", "add", self._bridge)
            self._run("-n", self._bridge, "link", "add", "br0", "type", "bridge")
            self._run("-n", self._bridge, "link", "set", "br0", "up")
            for number, (name, wire) in enumerate(self._wires.items()):
                self._plug_in(self._hosts[name], number, wire)
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._remove()

    def set_link(self, name: str, state: str) -> None:
        """Plug a host's cable out (``down``) or in (``up``), at the side of the bridge."""
        number = list(self._hosts).index(name)
        self._run("-n", self._bridge, "link", "set", f"port{number}", state)

    def _plug_in(self, host: Host, number: int, wire: Wire | None) -> None:
        space, port = host.namespace, f"port{number}"
        self._run("netns", "add", space)
        if wire is None:
            at_host = ("peer", "name", "eth0", "netns", space)
            self._run("-n", self._bridge, "link", "add", port, "type", "veth", *at_host)
        else:
            names = (f"{self._prefix}a{number}", f"{self._prefix}b{number}")
            wire.lay(names)
            self._run("link", "set", names[0], "netns", space, "name", "eth0")
            self._run("link", "set", names[1], "netns", self._bridge, "name", port)
            wire.carry()
        self._run("-n", self._bridge, "link", "set", port, "master", "br0", "up")
        self._run("-n", space, "link", "set", "lo", "up")
        # Without an IPv6 address there is nothing to gather and to wait for.
        self._run("-n", space, "link", "set", "eth0", "addrgenmode", "none")
        self._run("-n", space, "addr", "add", f"{host.address}/24", "dev", "eth0")
        self._run("-n", space, "link", "set", "eth0", "up")

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], check=True, capture_output=True, timeout=20)

    def _remove(self) -> None:
        for wire in self._wires.values():
            if wire is not None:
                wire.remove()
        for space in (*(host.namespace for host in self._hosts.values()), self._bridge):
            if Path("/run/netns", space).exists():
                self._run("netns", "delete", space)


def _enter(namespace: str) -> None:
    """Let this thread be on a host. os.setns is there from Python 3.12 on."""
    with Path("/run/netns", namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def _open_tap(name: str) -> int:
    end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return end


def _write(end: int, frame: bytes) -> None:
    # Where nobody listens any more, or the other side is full, a frame is lost as on any wire.
    with suppress(OSError):
        os.write(end, frame)
