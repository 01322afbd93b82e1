"""Measures callkeeper with thousands of calls: memory, idle CPU, events, a storm of new calls.

Run it on a quiet machine: ``PYTHONPATH=.:proto:tests python bench/calls.py``. callkeeper is one
worker, as it runs behind Envoy; its provider and extauthz are stand-ins on loopback, so the only
calls are WebSockets. Time of an event is from its sending to when callkeeper has counted it.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from grpc import aio

from callsapi.v1 import calls_pb2 as messages
from callsapi.v1 import calls_pb2_grpc as services
from helpers.sidebands import sideband_standin

MARGIN_S: Final = 60.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Extauthz(services.UpstreamsServicer):
    """Tells where any call is: at the stand-in."""

    async def Reach(
        self,
        request: messages.ReachRequest,
        context: Any,  # noqa: ARG002 - of the interface
    ) -> messages.ReachResponse:
        """Answer with the paths of a call."""
        return messages.ReachResponse(
            cluster="standin",
            authority="standin.test",
            sideband_path=f"/v1/realtime?call_id={request.handle}",
            hangup_path=f"/v1/realtime/calls/{request.handle}/hangup",
            headers={"authorization": "Bearer sk-made-up"},
        )

    async def Standing(
        self,
        request: messages.StandingRequest,
        context: Any,  # noqa: ARG002 - of the interface
    ) -> messages.StandingResponse:
        """Answer that everybody may go on, with a budget that is not used up."""
        budget = messages.Budget(kind="key", spend=1, limit=1e9)
        return messages.StandingResponse(
            standings=[messages.Standing(budgets=[budget]) for _ in request.of]
        )


@dataclass(frozen=True, slots=True)
class Size:
    """What a process takes: memory, and CPU since its start."""

    kilobytes: int
    cpu_s: float


def size_of(pid: int) -> Size:
    """Return what a process takes at this moment."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return Size(int(resident[1]) if resident else 0, (user + system) / TICKS_PER_S)


class Bench:
    """One run against one worker of callkeeper."""

    def __init__(
        self, stub: services.CallsStub, standin: str, client: aiohttp.ClientSession, pid: int
    ) -> None:
        self._stub = stub
        self._standin = standin
        self._client = client
        self._pid = pid
        self._handles: dict[str, str] = {}

    async def open_calls(self, count: int, seconds: float) -> float:
        """Register calls, evenly; return how long after the last one all are attached."""
        began, first = time.monotonic(), len(self._handles)
        for number in range(first, first + count):
            due = began + (number - first) * seconds / count
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._register(f"call-{number}")
        last = time.monotonic()
        async with asyncio.timeout(MARGIN_S):
            while await self.counter("open") < len(self._handles):  # noqa: ASYNC110 - it is polled
                await asyncio.sleep(0.05)
        return time.monotonic() - last

    async def _register(self, handle: str) -> None:
        request = messages.RegisterRequest(
            handle=handle,
            deployment="voice",
            origin=self._standin,
            upstream_call_id=handle,
            model="gpt-realtime",
            payer=messages.Payer(key_hash="0" * 64, team_id="team", user_id="user"),
            token_id="token",  # noqa: S106 - no secret
            request_id=handle,
        )
        answer = await self._stub.Register(request)
        self._handles[answer.id] = handle

    async def counter(self, name: str) -> int:
        """Return one of the stand-in's counts."""
        async with self._client.get(f"{self._standin}/standin/counters") as answer:
            return int((await answer.json())[name])

    async def cpu(self, seconds: float) -> float:
        """Return the share of a core that callkeeper uses for a while."""
        before = size_of(self._pid).cpu_s
        await asyncio.sleep(seconds)
        return (size_of(self._pid).cpu_s - before) / seconds

    async def events(self, rate: float, seconds: float) -> tuple[list[float], float]:
        """Have events sent; return how long each took in seconds, and the share of a core."""
        counted: defaultdict[str, deque[float]] = defaultdict(deque)
        watching = asyncio.create_task(self._watch(counted))
        await asyncio.sleep(1)
        await self._set_rate(rate)
        share = await self.cpu(seconds)
        await self._set_rate(0)
        async with self._client.get(f"{self._standin}/standin/sent") as answer:
            sent = await answer.json()
        async with asyncio.timeout(MARGIN_S):
            while sum(map(len, counted.values())) < len(sent) and not watching.done():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        if watching.done():
            # It was too slow, and was cut off.
            await watching
        watching.cancel()
        return [counted[handle].popleft() - at for handle, at in sent], share

    async def _watch(self, counted: defaultdict[str, deque[float]]) -> None:
        async for event in self._stub.Watch(messages.WatchRequest()):
            if event.name == "call.usage":
                counted[self._handles[event.call.id]].append(event.at)

    async def _set_rate(self, rate: float) -> None:
        body = {"events_per_s": rate}
        async with self._client.post(f"{self._standin}/standin/rate", json=body):
            pass


async def measure(bench: Bench, pid: int, given: argparse.Namespace) -> None:
    """Print what comes of it."""
    await bench.open_calls(1, 0)
    empty = size_of(pid).kilobytes
    late_s = await bench.open_calls(given.storm, given.storm_s)
    print(f"{given.storm:,} calls in {given.storm_s:g} s: all attached {late_s:.2f} s later")
    rest = given.calls - given.storm - 1
    await bench.open_calls(rest, rest * given.storm_s / given.storm)
    per_call = (size_of(pid).kilobytes - empty) / (given.calls - 1)
    print(f"{given.calls:,} calls open: {per_call:.1f} kB each, over {empty / 1024:.0f} MB")
    print(f"idle: {await bench.cpu(given.seconds):.1%} of a core")
    times, share = await bench.events(given.rate, given.seconds)
    cuts = [cut * 1000 for cut in statistics.quantiles(times, n=100)]
    print(
        f"{len(times) / given.seconds:.0f} events a second: p50 {cuts[49]:.1f} ms, "
        f"p99 {cuts[98]:.1f} ms, {share:.1%} of a core"
    )


async def run(given: argparse.Namespace, port: int, folder: Path) -> None:
    """Start callkeeper and its extauthz, and measure."""
    keeper, extauthz = f"unix:{folder}/callkeeper.sock", f"unix:{folder}/extauthz.sock"
    standin = f"http://127.0.0.1:{port}"
    settings = folder / "ringback.yaml"
    settings.write_text(
        json.dumps(
            {
                "upstream": {"egress_url": standin},
                "supervision": {
                    "mode": "required",
                    "callkeeper": [keeper],
                    "extauthz": [extauthz],
                },
            }
        )
    )
    server = aio.server()
    services.add_UpstreamsServicer_to_server(Extauthz(), server)
    server.add_insecure_port(extauthz)
    await server.start()
    command = [sys.executable, "-m", "callkeeper", "--listen", keeper, "--settings", str(settings)]
    log = (folder / "log").open("w")
    with subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: ASYNC220, S603
        try:
            async with aio.insecure_channel(keeper) as channel, aiohttp.ClientSession() as client:
                await asyncio.wait_for(channel.channel_ready(), MARGIN_S)
                stub = services.CallsStub(channel)
                await measure(Bench(stub, standin, client, process.pid), process.pid, given)
        finally:
            process.kill()
            await server.stop(None)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=5000, help="open at once (%(default)s)")
    parser.add_argument("--storm", type=int, default=1000, help="new at first (%(default)s)")
    parser.add_argument("--storm-s", type=float, default=10, help="within seconds (%(default)s)")
    parser.add_argument("--rate", type=float, default=500, help="events a second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each part (%(default)s)")
    given = parser.parse_args()
    with sideband_standin() as port, tempfile.TemporaryDirectory(prefix="ringback-") as folder:
        asyncio.run(run(given, port, Path(folder)))


if __name__ == "__main__":
    main()
