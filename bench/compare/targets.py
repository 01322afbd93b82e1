"""The targets, and whether what was measured meets them."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.compare.results import Comparison, Flatness, Results, Sample, ratio
from bench.compare.systems import BARE, CALL, LITELLM, MINT, RINGBACK

CALLED = {MINT: "client_secrets", CALL: "calls"}
FLAT = 1.10


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    Attributes:
        figure: What is measured.
        limit: What it has to be at least or at most.
        at_least: Which of the two.
        measured: What it is; None if it has not been measured.
        unit: Behind the numbers.
        moonshot: What it should be one day.
    """

    figure: str
    limit: float
    at_least: bool
    measured: float | None
    unit: str = "x"
    moonshot: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether it is met; None if it has not been measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def verdict(self) -> str:
        """In a word."""
        return {None: "not measured", True: "met", False: "**missed**"}[self.is_met]

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"{'>=' if self.at_least else '<='} {_shown(self.limit, self.unit)}"

    @property
    def found(self) -> str:
        """What was measured in words."""
        return "" if self.measured is None else _shown(self.measured, self.unit)


def targets(results: Results) -> list[Target]:
    """Return all targets, in the order of the table."""
    return [*_compared(results.comparison), *_whole(results), *_flat(results)]


def _compared(found: Comparison | None) -> Iterator[Target]:
    def against(field: str, operation: str, connections: int) -> float | None:
        if found is None or LITELLM not in found.runs[operation][connections]:
            return None
        runs = found.runs[operation][connections]
        return ratio(values(runs[RINGBACK], field), values(runs[LITELLM], field))

    for operation, limit, moonshot in ((CALL, 8.0, 10.0), (MINT, 10.0, 14.0)):
        for connections in (16, 64):
            name = f"{CALLED[operation]} per second at {connections} at once, against LiteLLM"
            measured = against("per_s", operation, connections)
            yield Target(name, limit, at_least=True, measured=measured, moonshot=moonshot)
    for operation in (CALL, MINT):
        for field, connections, limit in (("p50", 1, 1 / 5), ("p99", 1, 1 / 5), ("p99", 64, 1 / 8)):
            name = f"{field} of {CALLED[operation]} at {connections} at once, against LiteLLM"
            measured = against(f"{field}_ms", operation, connections)
            yield Target(name, limit, at_least=False, measured=measured)
    added = None
    if found is not None and BARE in found.runs[CALL][1]:
        runs = found.runs[CALL][1]
        pairs = zip(runs[RINGBACK], runs[BARE], strict=True)
        added = statistics.median(ours.p50_ms - bare.p50_ms for ours, bare in pairs)
    name = "p50 that a call takes longer than through bare Envoy, at 1 at once"
    yield Target(name, 1.5, at_least=False, measured=added, unit=" ms")


def _whole(results: Results) -> Iterator[Target]:
    memory = starts = None
    if results.comparison and LITELLM in results.comparison.memory_bytes:
        used = results.comparison.memory_bytes
        memory = used[RINGBACK] / used[LITELLM]
    if results.starts and LITELLM in results.starts.seconds:
        took = results.starts.seconds
        starts = ratio(took[RINGBACK], took[LITELLM])
    yield Target("memory of all processes, against LiteLLM", 1 / 4, at_least=False, measured=memory)
    yield Target("from start to first 200, against LiteLLM", 1 / 8, at_least=False, measured=starts)


def _flat(results: Results) -> Iterator[Target]:
    parts = (
        ("deployments", results.deployments),
        ("virtual keys in the database", results.keys),
        ("SDP policies", results.policies),
    )
    for what, part in parts:
        if part is None:
            yield Target(f"processor time with many {what}", FLAT, at_least=False, measured=None)
        else:
            yield from _growth(what, part)


def _growth(what: str, part: Flatness) -> Iterator[Target]:
    for operation, variants in part.runs.items():
        small, *large = variants
        for variant in large:
            measured = ratio(*([run.all_cpu_us for run in variants[x]] for x in (variant, small)))
            name = f"processor time of {CALLED[operation]} with {part.size:,} {what}"
            name += f", {variant}" if len(large) > 1 else ""
            yield Target(f"{name}, against few", FLAT, at_least=False, measured=measured)


def values(samples: list[Sample], field: str) -> list[float]:
    """Return one field of samples."""
    return [getattr(sample, field) for sample in samples]


def _shown(number: float, unit: str) -> str:
    if unit == "x" and number < 1:
        return f"1/{1 / number:.3g}"
    return f"{number:.3g}{unit}"
