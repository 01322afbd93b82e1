"""Measures what supervision adds to a call: its registration, and the slot of a limited one.

Run it on a quiet machine: ``PYTHONPATH=.:tests python bench/supervised.py``. A gateway each, one
worker of each service, one thread of Envoy, the same stand-in for a provider; calls with one token
each, one after the other, a few at each gateway in turn. callkeeper attaches to them while nothing
is measured: what is, is their beginning alone.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from helpers.descriptions import OFFERS
from helpers.gatewayfiles import KEY, Files, openai_entry
from helpers.meteredprovider import metered_provider
from ringback.cli.stack import Stack

# The settings `supervision` by what they are called here.
MODES: Final[dict[str, dict[str, object]]] = {
    "off": {"mode": "off"},
    "best_effort": {"mode": "best_effort"},
    "required": {"mode": "required"},
    "open calls": {"mode": "required", "max_open_calls": {"key": 10_000}},
}
# So many calls are over before callkeeper, which waits for 0.1 s, attaches to the first of them.
BURST: Final = 8
BURSTS: Final = 60
# Bursts that do not count.
WARM: Final = 5
PAUSE_S: Final = 0.4
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]


@asynccontextmanager
async def gateway(
    folder: Path, provider: str, supervision: dict[str, object]
) -> AsyncIterator[Stack]:
    """Run a gateway with settings of supervision."""
    await asyncio.to_thread(folder.mkdir)
    files = Files(folder)
    files.write_config([openai_entry("voice", f"{provider}/v1")])
    files.write_keys()
    files.write_settings(supervision=supervision)
    async with Stack(files.options()) as stack:
        yield stack


async def token(client: aiohttp.ClientSession, url: str) -> str:
    """Return a token that is good for all calls of a gateway."""
    body = {"session": {"type": "realtime", "model": "voice"}}
    headers = {"authorization": f"Bearer {KEY}"}
    async with client.post(f"{url}/v1/realtime/client_secrets", json=body, headers=headers) as got:
        return str((await got.json())["value"])


async def call_s(client: aiohttp.ClientSession, url: str, bearer: str) -> float:
    """Return how many seconds a call took to be answered."""
    headers = {"authorization": f"Bearer {bearer}", "content-type": "application/sdp"}
    began = time.perf_counter()
    async with client.post(f"{url}/v1/realtime/calls", data=OFFER, headers=headers) as answer:
        await answer.read()
        if answer.status != 201:
            raise RuntimeError(f"expected 201, got {answer.status}")
    return time.perf_counter() - began


async def main() -> None:
    """Start everything and measure."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = await stack.enter_async_context(metered_provider(turns=0, pause_s=0.001))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        urls = {
            mode: (await stack.enter_async_context(gateway(folder / mode, provider.url, how))).url
            for mode, how in MODES.items()
        }
        tokens = {mode: await token(client, url) for mode, url in urls.items()}
        times: dict[str, list[float]] = {mode: [] for mode in MODES}
        for number in range(WARM + BURSTS):
            for mode, url in urls.items():
                took = [await call_s(client, url, tokens[mode]) * 1000 for _ in range(BURST)]
                if number >= WARM:
                    times[mode] += took
                await asyncio.sleep(PAUSE_S)
    base = statistics.median(times["off"])
    print(f"{'supervision':14}{'p50 ms':>9}{'p99 ms':>9}{'p50 more':>10}")
    for mode, found in times.items():
        median, worst = statistics.median(found), statistics.quantiles(found, n=100)[98]
        print(f"{mode:14}{median:9.2f}{worst:9.2f}{median - base:10.2f}")


if __name__ == "__main__":
    asyncio.run(main())
