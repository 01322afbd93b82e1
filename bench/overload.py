"""Measures what is left of the capacity at 4 times the load that it can take; prints a table.

Run it on a quiet machine: ``PYTHONPATH=.:tests python bench/overload.py``. Capacity is what
is answered with 200 or 201 when 32 clients wait for their answers; then requests come at four times
that rate and do not wait. The gateway has half of the cores, one worker of each service for each
of them; client and provider have the others, so that four times the load takes nothing from it but
what refusing costs.
"""

import argparse
import asyncio
import json
import os
import resource
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from helpers.gateway import OFFER, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import request_bytes, send
from helpers.openloop import OpenLoop
from helpers.quickprovider import provider
from ringback.cli.stack import Stack

AT_ONCE: Final = 32
GOOD: Final = (200, 201)


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


async def measure(name: str, port: int, requests: list[bytes], seconds: float) -> None:
    """Print a row: capacity, then what is left of it at four times the load."""
    warm = OpenLoop(port, requests)
    await warm.closed(AT_ONCE, seconds / 2)
    warm.close()
    load = OpenLoop(port, requests)
    capacity = await load.closed(AT_ONCE, seconds)
    load.close()
    flood = OpenLoop(port, requests)
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    await flood.open(4 * capacity, seconds)
    used = resource.getrusage(resource.RUSAGE_SELF)
    flood.close()
    seen = flood.seen
    goodput = seen.count(*GOOD) / seconds
    own = (used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime) / seconds
    others = {s: len(t) for s, t in seen.times.items() if s not in {*GOOD, 503}}
    print(
        f"{name:8}{capacity:10.0f}{4 * capacity:10.0f}{goodput:10.0f}{goodput / capacity:9.0%}"
        f"{seen.quantile(0.5, *GOOD) * 1000:9.0f}{seen.quantile(0.99, *GOOD) * 1000:9.0f}"
        f"{seen.count(503) / seconds:10.0f}{seen.quantile(0.5, 503) * 1000:9.0f}"
        f"{seen.quantile(0.99, 503) * 1000:9.0f}{own:8.0%}  {others or ''} {seen.failed or ''}"
    )


async def main() -> None:
    """Start everything and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
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
                + "".join(f"{word:>9}" for word in ("ratio", "p50 ms", "p99 ms"))
                + f"{'shed /s':>10}{'p50 ms':>9}{'p99 ms':>9}{'client':>8}"
            )
            await measure("calls", port, [call], arguments.seconds)
            await measure("mints", port, [mint_request()], arguments.seconds)
            await measure("mixed", port, [call, call, call, mint_request()], arguments.seconds)


if __name__ == "__main__":
    asyncio.run(main())
