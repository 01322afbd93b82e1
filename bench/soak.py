"""Sends a million requests and shows what they leave behind: memory, file descriptors, tasks.

Run it by hand: ``PYTHONPATH=.:tests python bench/soak.py``. Of ten requests six are calls, one is a
mint, three are refused: a wrong key, a wrong token, a wrong path. Memory is compared with what it
was after the first 5 %, by when caches and pools have their size.
"""

import argparse
import asyncio
import os
import random
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from helpers.gateway import OFFER, bearer
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.http11 import request_bytes, send
from helpers.openloop import OpenLoop
from helpers.quickprovider import provider
from ringback.cli.stack import Stack
from ringback.worker import METRICS_PORT_STEP

AT_ONCE: Final = 16
WORKERS: Final = 2
STEPS: Final = 20
JSON: Final = ("content-type", "application/json")
SDP: Final = ("content-type", "application/sdp")


@dataclass(frozen=True, slots=True)
class Size:
    """What a process takes."""

    kilobytes: int
    files: int
    threads: int
    tasks: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kilobytes / 1024:8.1f} MB {self.files:4} fd {self.threads:3} thr {self.tasks:4}"
        )


def size_of(pid: int, tasks: int) -> Size:
    """Return what a process takes at this moment."""
    status = Path(f"/proc/{pid}/status").read_text()

    def number(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        return int(found[1]) if found else 0

    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Size(number("VmRSS"), files, number("Threads"), tasks)


async def tasks_at(client: aiohttp.ClientSession, port: int) -> int:
    """Return how many tasks the event loop of a worker has."""
    async with client.get(f"http://127.0.0.1:{port}/metrics") as answer:
        found = re.search(r"^ringback_event_loop_tasks (\d+)", await answer.text(), re.MULTILINE)
    return int(found[1]) if found else 0


async def requests_for(port: int) -> list[bytes]:
    """Return the mixture, with a fresh token."""
    body = b'{"session": {"type": "realtime", "model": "voice"}}'
    mint = request_bytes("POST", "/v1/realtime/client_secrets", [bearer(KEY), JSON], body)
    token = (await send(port, mint)).json()["value"]
    call = request_bytes("POST", "/v1/realtime/calls", [bearer(token), SDP], OFFER)
    wrong = [
        request_bytes("POST", "/v1/realtime/client_secrets", [bearer("sk-wrong"), JSON], body),
        request_bytes("POST", "/v1/realtime/calls", [bearer(f"{token[:-9]}AAAAAAAAA"), SDP], OFFER),
        request_bytes("POST", "/v1/realtime/nothing", [bearer(KEY)]),
    ]
    return [call, call, wrong[0], call, call, wrong[1], call, mint, call, wrong[2]]


async def soak(stack: Stack, metrics: int, count: int) -> None:
    """Send the requests and print a table."""
    port = int(stack.url.rpartition(":")[2])
    names = [name for name in stack.supervisor.names if name != "emulator"]
    first: dict[str, Size] = {}
    done, began = 0, time.monotonic()
    async with aiohttp.ClientSession() as client:

        async def sizes() -> dict[str, Size]:
            found = {}
            for name in names:
                service, _, index = name.partition("-")
                offset = int(index or 0) * METRICS_PORT_STEP + (service == "sdpfilter")
                tasks = await tasks_at(client, metrics + offset) if index else 0
                found[name] = size_of(stack.pid_of(name), tasks)
            return found

        for _ in range(STEPS):
            load = OpenLoop(port, await requests_for(port))
            await load.exactly(count // STEPS, AT_ONCE)
            load.close()
            done += count // STEPS
            await asyncio.sleep(1)
            now = await sizes()
            first = first or now
            statuses = {status: len(times) for status, times in sorted(load.seen.times.items())}
            rate = done / (time.monotonic() - began)
            print(
                f"{done} requests, {rate:.0f}/s, {statuses}, {load.seen.failed} broken", flush=True
            )
            for name in names:
                growth = now[name].kilobytes / first[name].kilobytes - 1
                print(f"  {name:12}{now[name]}  {growth:+7.2%}", flush=True)
            for name in names:
                # A million lines of the access log are a gigabyte.
                os.truncate(stack.folders.log(name), 0)


async def main() -> None:
    """Start everything and soak it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    count = parser.parse_args().requests
    with provider() as provider_port, tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        files.write_config([openai_entry("voice", f"http://127.0.0.1:{provider_port}/v1")])
        files.write_keys()
        # Below the ports that the kernel gives to others; the next few are needed, too.
        metrics = random.randrange(20_000, 30_000)  # noqa: S311  no secret
        files.write_settings(metrics_address=f"127.0.0.1:{metrics}")
        async with Stack(files.options(workers=WORKERS)) as stack:
            await soak(stack, metrics, count)


if __name__ == "__main__":
    asyncio.run(main())
