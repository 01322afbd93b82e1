"""A whole gateway whose calls are supervised, with the emulator behind it."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
from grpc import aio

from callsapi.v1.calls_pb2 import CallState, Event, ListRequest, WatchRequest
from callsapi.v1.calls_pb2_grpc import CallsStub
from extauthz.keys import VirtualKey, hash_key
from extauthz.keys.keyfile import save_keys
from helpers.gateway import until
from helpers.secretscan import find_secrets
from helpers.upprocess import RINGBACK
from helpers.voiceclient import VoiceClient
from ringback.cli.plan import StackOptions
from ringback.cli.stack import Stack
from ringback.secrets import Secret

CALLS: Final = "/v1/realtime/calls"


@dataclass
class Supervised:
    """A whole gateway with callkeeper, and the emulator behind it."""

    stack: Stack
    http: httpx.AsyncClient
    calls: CallsStub
    events: list[Event] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Where callkeeper listens."""
        return self.stack.folders.socket("callkeeper-0")

    @property
    def port(self) -> int:
        """Where downstreams connect."""
        return int(self.stack.url.rpartition(":")[2])

    @property
    def key(self) -> str:
        """The demo key."""
        assert self.stack.demo_key is not None
        return self.stack.demo_key.reveal()

    async def ringback(self, *arguments: str) -> tuple[int | None, str]:
        """Run a command that asks callkeeper; return its exit code and what it prints."""
        command = [RINGBACK, *arguments, "--address", self.address]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    async def open(self, client: VoiceClient, model: str = "gpt-realtime") -> httpx.Response:
        """Send an offer with the demo key."""
        return await self.call(self.key, await client.offer(), model)

    async def call(
        self, credential: str, offer: str | bytes, model: str = "gpt-realtime"
    ) -> httpx.Response:
        """Send an offer with a key or a token, which has a model of its own."""
        return await self.http.post(
            f"{self.stack.url}{CALLS}",
            params={"model": model},
            content=offer,
            headers={
                "authorization": f"Bearer {credential}",
                "content-type": "application/sdp",
            },
        )

    async def join(self, client: VoiceClient, model: str = "gpt-realtime") -> CallState:
        """Open a call, and return it once callkeeper listens to it."""
        answer = await self.open(client, model)
        assert answer.status_code == 201, answer.text
        return await self.joined(client, answer.text)

    async def joined(self, client: VoiceClient, answer: str) -> CallState:
        """Connect by the provider's answer, and return the call once callkeeper listens to it."""
        before = len(self.named("call.attached"))
        await client.accept(answer)
        await asyncio.wait_for(client.is_connected.wait(), 20)
        return await self.attached(before)

    async def attached(self, before: int) -> CallState:
        """Return the latest call, once callkeeper listens to it, as to ``before`` others before."""
        await until(lambda: len(self.named("call.attached")) > before)
        return self.named("call.attached")[-1].call

    async def event(self, name: str, call: CallState) -> Event:
        """Return the first event of a name of a call, once it has come."""
        await until(lambda: bool(self.named(name, call)))
        return self.named(name, call)[0]

    def named(self, name: str, call: CallState | None = None) -> list[Event]:
        """Return the events of a name, of one call or all."""
        return [
            event
            for event in self.events
            if event.name == name and (call is None or event.call.id == call.id)
        ]

    async def end_of(self, call: CallState) -> Event:
        """Return the event of a call's end."""
        return await self.event("call.ended", call)

    async def last_at_provider(self, *, state: str | None = None) -> dict[str, Any]:
        """Return the call that the emulator took last, once it is in a state."""
        async with asyncio.timeout(20):
            while True:
                last = (await self.at_provider())[-1]
                if state in (None, last["state"]):
                    return last
                await asyncio.sleep(0.1)

    @asynccontextmanager
    async def without_callkeeper(self, how: str) -> AsyncIterator[None]:
        """Stop callkeeper for a time, or let it hang."""
        name = "callkeeper-0"
        if how == "hangs":
            pid = self.stack.pid_of(name)
            os.kill(pid, signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(pid, signal.SIGCONT)
            return
        child = self.stack.supervisor._running[name].child
        await self.stack.supervisor.stop([name])
        yield
        await self.stack.supervisor.start(child)
        await self.calls.List(ListRequest(), wait_for_ready=True, timeout=20)

    async def asked_provider(self) -> dict[str, int]:
        """Return how often the emulator was asked for mints and calls, whatever it answered."""
        answer = await self.http.get(f"{self.stack.emulator_url}/emulator/counters")
        answers = answer.json()["answers"]
        return {name: sum(answers.get(name, {}).values()) for name in ("client_secrets", "calls")}

    async def at_provider(self) -> list[dict[str, Any]]:
        """Return what the emulator knows of calls."""
        answer = await self.http.get(f"{self.stack.emulator_url}/emulator/calls")
        found: list[dict[str, Any]] = answer.json()["calls"]
        return found


@asynccontextmanager
async def supervised(
    folder: Path,
    *,
    keys: Mapping[str, VirtualKey] | None = None,
    workers: int = 1,
    more: Mapping[str, object] | None = None,
    **supervision: object,
) -> AsyncIterator[Supervised]:
    """Run a gateway with the emulator whose calls are supervised.

    Args:
        folder: For its files.
        keys: Those that it knows, without their hash, in place of the demo key.
        workers: Of extauthz and sdpfilter.
        more: Other settings.
        supervision: The settings of this name.
    """
    settings = folder / "ringback.yaml"
    values = {"log_level": "debug", **(more or {}), "supervision": supervision}
    settings.write_text(json.dumps(values))
    options = StackOptions(
        settings=settings,
        keys=_write_keys(folder / "keys.yaml", keys) if keys else None,
        port=0,
        egress_port=0,
        admin_port=0,
        workers=workers,
        ready_timeout_s=60,
    )
    async with (
        Stack(options) as stack,
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
        aio.insecure_channel(stack.folders.socket("callkeeper-0")) as channel,
    ):
        gateway = Supervised(stack, http, CallsStub(channel))
        stream = gateway.calls.Watch(WatchRequest())
        await stream.initial_metadata()
        watching = asyncio.create_task(_collect(stream, gateway.events))
        try:
            yield gateway
        finally:
            stream.cancel()
            await asyncio.wait([watching])
        secrets = tuple(keys) if keys else (gateway.key,)
        for name in ("extauthz-0", "sdpfilter-0", "callkeeper-0", "envoy"):
            assert find_secrets(stack.logs(name), *secrets) == set(), name


def _write_keys(path: Path, keys: Mapping[str, VirtualKey]) -> Path:
    save_keys(path, [replace(key, hash=hash_key(Secret(raw))) for raw, key in keys.items()])
    return path


async def _collect(stream: Any, events: list[Event]) -> None:
    # Ends with callkeeper, or when it is cancelled.
    with contextlib.suppress(aio.AioRpcError, asyncio.CancelledError):
        async for event in stream:
            events.append(event)  # noqa: PERF401  each as it comes
