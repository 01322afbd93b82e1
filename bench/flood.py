"""Floods the whole of Envoy with random keys, then asks many times at once with one; a table.

Run it by hand, for some minutes: ``PYTHONPATH=.:tests python bench/flood.py [KEYS]``; 100,000
random keys when absent. One worker of each service, keys in a Postgres with LiteLLM's schema. Ends
with an error if a random key gets anything but 401 or costs more than one lookup, or if the crowd
costs more than one.
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp

from helpers.gatewayfiles import Files, openai_entry
from helpers.postgres import PostgresServer
from helpers.recording import RecordingUpstream
from helpers.scraping import free_metrics_ports
from ringback.cli.stack import Stack

KEYS: Final = 100_000
STEPS: Final = 10
AT_ONCE: Final = 32
CROWD: Final = 200
BODY: Final = {"session": {"type": "realtime", "model": "voice"}}
WORKER: Final = "extauthz-0"
_LOOKUPS: Final = re.compile(
    r'^ringback_key_lookups_total\{outcome="\w+",source="database"\} (\S+)$', re.MULTILINE
)


class Rig:
    """A gateway, who asks it, and what its worker tells of itself.

    Args:
        client: Keeps its connections.
        stack: The gateway.
        metrics_url: Of the worker of extauthz.
    """

    def __init__(self, client: aiohttp.ClientSession, stack: Stack, metrics_url: str) -> None:
        self._client = client
        self._stack = stack
        self._metrics_url = metrics_url

    async def ask(self, raw: str, expected: int) -> None:
        """Ask for a token with a key.

        Raises:
            RuntimeError: If another status comes back.
        """
        url = f"{self._stack.url}/v1/realtime/client_secrets"
        headers = {"authorization": f"Bearer {raw}"}
        async with self._client.post(url, json=BODY, headers=headers) as answer:
            await answer.read()
            if answer.status != expected:
                raise RuntimeError(f"expected {expected}, got {answer.status}")

    async def lookups(self) -> int:
        """Return how often the worker has asked the database."""
        async with self._client.get(self._metrics_url) as answer:
            return int(sum(float(count) for count in _LOOKUPS.findall(await answer.text())))

    def resident_mb(self) -> float:
        """Return the memory that the worker has, in MB."""
        status = Path(f"/proc/{self._stack.pid_of(WORKER)}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def ask_all(rig: Rig, numbers: Iterator[int]) -> None:
    """Ask with one random key after another."""
    for number in numbers:
        await rig.ask(f"sk-random-{number}", 401)


async def flood(rig: Rig, keys: int) -> None:
    """Send each key once and print rows."""
    print(f"{'random keys':>12} {'lookups':>9} {'worker MB':>10} {'per s':>8}")
    before = await rig.lookups()
    for step in range(STEPS):
        begin, end = keys * step // STEPS, keys * (step + 1) // STEPS
        numbers = iter(range(begin, end))
        started = time.perf_counter()
        await asyncio.gather(*(ask_all(rig, numbers) for _ in range(AT_ONCE)))
        rate = (end - begin) / (time.perf_counter() - started)
        cost = await rig.lookups() - before
        print(f"{end:12,} {cost:9,} {rig.resident_mb():10.1f} {rate:8.0f}", flush=True)
        if cost > end:
            raise RuntimeError("a random key has cost more than one lookup")


async def crowd(rig: Rig, raw: str) -> None:
    """Ask many times at once with a key that is not remembered, and print a row."""
    before = await rig.lookups()
    await asyncio.gather(*(rig.ask(raw, 200) for _ in range(CROWD)))
    cost = await rig.lookups() - before
    print(f"{CROWD} requests at once of one key: {cost} lookup")
    if cost != 1:
        raise RuntimeError("requests of one key have not shared a lookup")


async def main(keys: int) -> None:
    """Start everything and measure."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        database, port = server.create_database(), free_metrics_ports().base
        raw = database.rows.key()
        files = Files(Path(folder))
        files.write_keys()
        files.write_settings(database={"url": database.url}, metrics_address=f"127.0.0.1:{port}")
        connector = aiohttp.TCPConnector(limit=CROWD)
        async with RecordingUpstream() as upstream:
            files.write_config([openai_entry("voice", f"{upstream.url()}/v1")])
            async with (
                Stack(files.options()) as stack,
                aiohttp.ClientSession(connector=connector) as client,
            ):
                await stack.settle()
                rig = Rig(client, stack, f"http://127.0.0.1:{port}/metrics")
                await flood(rig, keys)
                if upstream.received:
                    raise RuntimeError("the upstream has received something")
                await crowd(rig, raw)
        database.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else KEYS))
