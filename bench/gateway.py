"""Measures the check of a virtual key through the whole of Envoy; prints a table.

Run it on a quiet machine: ``PYTHONPATH=.:tests python bench/gateway.py``. Keys are in a Postgres
with LiteLLM's schema and may not use the model that is asked for, so that each request is answered
with 403 after the check and no provider is asked. One worker of each service, one thread of Envoy.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

import aiohttp

from helpers.gatewayfiles import Files, openai_entry
from helpers.postgres import PostgresServer
from ringback.cli.stack import Stack

ALONE: Final = 500
TOGETHER: Final = 4_000
AT_ONCE: Final = 32
KEYS: Final = ALONE + TOGETHER + 100
FILL: Final = f"""
INSERT INTO "LiteLLM_VerificationToken" (token, models)
SELECT encode(sha256(('sk-' || n)::bytea), 'hex'), '{{other}}' FROM generate_series(1, {KEYS}) n;
ANALYZE;
"""  # noqa: S608  a literal
BODY: Final = {"session": {"type": "realtime", "model": "voice"}}


async def ask(client: aiohttp.ClientSession, url: str, raw: str) -> float:
    """Ask with a key, and return how many seconds the refusal took."""
    started = time.perf_counter()
    headers = {"authorization": f"Bearer {raw}"}
    async with client.post(url, json=BODY, headers=headers) as answer:
        await answer.read()
        if answer.status != 403:
            raise RuntimeError(f"expected 403, got {answer.status}")
    return time.perf_counter() - started


async def measure(client: aiohttp.ClientSession, url: str, name: str, keys: Iterator[str]) -> None:
    """Print a row: one request after the other, then many at once."""
    alone = [await ask(client, url, next(keys)) * 1000 for _ in range(ALONE)]
    times: list[float] = []

    async def line() -> None:
        while len(times) + AT_ONCE <= TOGETHER:
            times.append(await ask(client, url, next(keys)) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(line() for _ in range(AT_ONCE)))
    rate = len(times) / (time.perf_counter() - started)
    shown = [statistics.median(alone), _p99(alone), statistics.median(times), _p99(times)]
    print(f"{name:10}" + "".join(f"{value:12.2f}" for value in shown) + f"{rate:12.0f}")


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


async def main() -> None:
    """Start everything and measure."""
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        database = server.create_database()
        database.execute(FILL)
        files = Files(Path(folder))
        files.write_config([openai_entry("voice", "http://127.0.0.1:1/v1")])
        files.write_keys()
        files.write_settings(database={"url": database.url})
        async with (
            Stack(files.options()) as stack,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as client,
        ):
            url = f"{stack.url}/v1/realtime/client_secrets"
            for number in range(50):
                await ask(client, url, f"sk-{number % 5 + 1}")
            print("ms" + " " * 8 + "".join(f"{n:>12}" for n in ("p50", "p99", *_busy(), "per s")))
            fresh = (f"sk-{number}" for number in range(6, KEYS + 1))
            await measure(client, url, "uncached", fresh)
            known = cycle(f"sk-{number}" for number in range(6, 506))
            await measure(client, url, "cached", known)
        database.close()


def _busy() -> tuple[str, str]:
    return f"p50 of {AT_ONCE}", f"p99 of {AT_ONCE}"


if __name__ == "__main__":
    asyncio.run(main())
