"""How many nodes so many calls need: an estimate from the processor time of a mint and a call."""

import math
import statistics
from typing import Final

from bench.compare.results import Results
from bench.compare.systems import CALL, MINT, RINGBACK

CONCURRENT_CALLS: Final = 1_000_000
MEAN_CALL_S: Final = 300
# The part of a node that is used at the mean rate; the rest is for peaks and for a node that fails.
UTILISATION: Final = 0.6
NODES: Final = (2, 8, 16, 64)


def cost_us(results: Results, operation: str) -> float:
    """Return the processor time of a request in microseconds, all our processes together.

    Raises:
        ValueError: If it has not been measured.
    """
    if results.comparison is None:
        raise ValueError("there is no comparison yet")
    samples = results.comparison.runs[operation][16][RINGBACK]
    return statistics.median(sample.all_cpu_us for sample in samples)


def model_rows(results: Results) -> list[list[str]]:
    """Return how many nodes of some sizes carry a million calls at once."""
    rows = [["cores of a node", "calls set up per second", "calls at once", "nodes for a million"]]
    if results.comparison is None:
        return rows
    both_us = cost_us(results, MINT) + cost_us(results, CALL)
    arrivals = CONCURRENT_CALLS / MEAN_CALL_S
    for cores in NODES:
        per_s = cores * UTILISATION * 1e6 / both_us
        nodes = math.ceil(arrivals / per_s)
        rows.append([str(cores), f"{per_s:,.0f}", f"{per_s * MEAN_CALL_S:,.0f}", str(nodes)])
    return rows
