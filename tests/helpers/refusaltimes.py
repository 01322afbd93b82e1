"""How long refusals take, compared on a machine that does other things, too."""

import statistics
import time
from collections.abc import Mapping
from typing import Final

from helpers.gateway import OFFER, SDP_TYPE, Gateway, bearer
from helpers.http11 import Client, request_bytes

MOST_MS: Final = 1.0
_ROUNDS: Final = 60
# A busy machine needs more of them before the medians say anything.
_BATCHES: Final = 10


async def check_one_time(gateway: Gateway, tokens: Mapping[str, str]) -> None:
    """Check that to refuse any of these tokens takes as long as to refuse any other.

    All are sent in turns over one connection, and each refusal is compared with the others of its
    own round, so that what the machine does meanwhile hits all alike.

    Args:
        gateway: Where to.
        tokens: None of which is accepted, by what is wrong with it.
    """
    requests = {
        kind: request_bytes("POST", "/v1/realtime/calls", [bearer(token), SDP_TYPE], OFFER)
        for kind, token in tokens.items()
    }
    gaps: dict[str, list[float]] = {kind: [] for kind in requests}
    medians: dict[str, float] = {}
    async with Client(gateway.port) as client:
        for _ in range(_BATCHES):
            for number in range(_ROUNDS):
                await _go_round(client, requests, number, gaps)
            medians = {kind: statistics.median(values) for kind, values in gaps.items()}
            if max(medians.values()) - min(medians.values()) < MOST_MS:
                return
    raise AssertionError(medians)


async def _go_round(
    client: Client, requests: Mapping[str, bytes], number: int, gaps: dict[str, list[float]]
) -> None:
    """Send each once, another one first each time, and note by how much it misses the middle."""
    kinds = [*requests]
    times = {}
    for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
        began = time.perf_counter()
        await client.write(requests[kind])
        assert (await client.read()).status == 401
        times[kind] = (time.perf_counter() - began) * 1000
    middle = statistics.median(times.values())
    for kind, taken in times.items():
        gaps[kind].append(taken - middle)
