"""Measures what is left of the capacity at 4 times the load that it can take; prints a table.

Run it on a quiet machine: ``PYTHONPATH=.:tests python bench/overload.py``. Capacity is what
is answered with 200 or 201 when 32 clients wait for their answers; then requests come at four times
that rate and do not wait, turn by turn. The gateway has half of the cores, one worker of each
service for each of them; client and provider have the others, so that four times the load takes
nothing from it but what refusing costs.
"""

import argparse
import asyncio
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from helpers.gateway import OFFER, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import request_bytes, send
from helpers.openloop import OpenLoop, Seen
from helpers.quickprovider import provider
from ringback.cli.stack import Stack

AT_ONCE: Final = 32
GOOD: Final = (200, 201)
# Until queues are as long as they will be.
RAMP_S: Final = 1.0


def mint_request() -> bytes:
    """Return a request for a token."""
    body = json.dumps({"session": {"type": "realtime", "model": "voice"}}).encode()
    lines = [bearer(KEY), ("content-type", "application/json")]
    return request_bytes("POST", "/v1/realtime/client_secrets", lines, body)


async def call_request(port: int) -> bytes:
    """Return a call with a token."""
    answer = await send(port, mint_request())
    lines = [bearer(answer.json()["value"]), ("content-type", "application/sdp")]
    return request_bytes("POST", "/v1/realtime/calls", lines, OFFER)


def halves() -> tuple[set[int], set[int]]:
    """Return the cores for the gateway, and those for all else; the same if there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    half = max(len(cores) // 2, 1)
    return set(cores[:half]), set(cores[half:] or cores)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn of capacity and one of flood gave: rates per second, and shares of a core."""

    capacity: float
    goodput: float
    shed: float
    client: float
    seen: Seen


async def take_turn(port: int, requests: list[bytes], seconds: float) -> Turn:
    """Measure the capacity, then what is left of it, once the flood has lasted for a second."""
    load = OpenLoop(port, requests)
    capacity = await load.closed(AT_ONCE, seconds)
    load.close()
    flood = OpenLoop(port, requests)
    cpu = os.times()
    sending = asyncio.create_task(flood.open(4 * capacity, RAMP_S + seconds))
    await asyncio.sleep(RAMP_S)
    good, shed = flood.seen.count(*GOOD), flood.seen.count(503)
    await asyncio.sleep(seconds)
    good, shed = flood.seen.count(*GOOD) - good, flood.seen.count(503) - shed
    used = os.times()
    await sending
    flood.close()
    own = (used.user + used.system - cpu.user - cpu.system) / (RAMP_S + seconds)
    return Turn(capacity, good / seconds, shed / seconds, own, flood.seen)


async def measure(
    name: str, port: int, requests: list[bytes], arguments: argparse.Namespace
) -> None:
    """Print a row: medians of rates, and how long answers of all turns took."""
    await OpenLoop(port, requests).closed(AT_ONCE, arguments.seconds)
    turns = [await take_turn(port, requests, arguments.seconds) for _ in range(arguments.turns)]
    seen = Seen()
    for turn in turns:
        seen.failed += turn.seen.failed
        for status, times in turn.seen.times.items():
            seen.times.setdefault(status, []).extend(times)
    capacity = median(turn.capacity for turn in turns)
    goodput = median(turn.goodput for turn in turns)
    ratios = sorted(turn.goodput / turn.capacity for turn in turns)
    others = {s: len(t) for s, t in seen.times.items() if s not in {*GOOD, 503}}
    print(
        f"{name:8}{capacity:10.0f}{4 * capacity:10.0f}{goodput:10.0f}"
        f"{median(ratios):7.0%} ({ratios[0]:.0%} to {ratios[-1]:.0%})"
        f"{seen.quantile(0.5, *GOOD) * 1000:8.0f}{seen.quantile(0.99, *GOOD) * 1000:8.0f}"
        f"{median(turn.shed for turn in turns):10.0f}{seen.quantile(0.5, 503) * 1000:8.0f}"
        f"{seen.quantile(0.99, 503) * 1000:8.0f}{median(turn.client for turn in turns):8.0%}"
        f"  {others or ''} {seen.failed or ''}"
    )


async def main() -> None:
    """Start everything and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--delay", type=float, default=0, help="of the provider's answers")
    arguments = parser.parse_args()
    gateway_cores, other_cores = halves()
    os.sched_setaffinity(0, other_cores)
    with provider(arguments.delay) as provider_port, tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        files.write_config([openai_entry("voice", f"http://127.0.0.1:{provider_port}/v1")])
        files.write_keys()
        files.write_settings()
        size = len(gateway_cores)
        options = replace(files.options(workers=size), concurrency=size)
        # Processes inherit the cores of the one that starts them.
        os.sched_setaffinity(0, gateway_cores)
        async with Stack(options) as stack:
            os.sched_setaffinity(0, other_cores)
            port = int(stack.url.rpartition(":")[2])
            call = await call_request(port)
            print(
                "        "
                + "".join(f"{word:>10}" for word in ("capacity", "offered", "goodput"))
                + f"{'ratio':>7} (of turns)   "
                + f"{'p50 ms':>8}{'p99 ms':>8}{'shed /s':>10}"
                + f"{'p50 ms':>8}{'p99 ms':>8}{'client':>8}"
            )
            await measure("calls", port, [call], arguments)
            await measure("mints", port, [mint_request()], arguments)
            await measure("mixed", port, [call, call, call, mint_request()], arguments)


if __name__ == "__main__":
    asyncio.run(main())
