"""What was measured, kept as JSON: each part with the machine and the moment it was measured on."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

LATEST: Final = Path(__file__).parents[1] / "results" / "latest.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sample(_Model):
    """One run of wrk."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """Processor time of a request in microseconds, by kind of process: ``envoy``, ``extauthz``,
    ``sdpfilter``, ``other``."""

    @property
    def all_cpu_us(self) -> float:
        """Processor time of a request, all processes together."""
        return sum(self.cpu_us.values())


class Part(_Model):
    """What one part of the benchmark found out."""

    when: str
    machine: dict[str, str]
    others: float
    """The largest share of the machine that other programs had during a run."""

    is_reliable: bool
    """Whether all runs stood on a machine that was quiet enough."""


class Comparison(Part):
    """Systems side by side."""

    seconds: int
    """How long a run was."""

    stub_per_s: float
    """Requests that the upstream alone answers in a second, on 64 connections."""

    runs: dict[str, dict[int, dict[str, list[Sample]]]]
    """By operation, connections and system: one sample of each round."""

    memory_bytes: dict[str, int]
    """By system, all of its processes, after the load."""


class Starts(Part):
    """How long systems take from their start to their first good answer."""

    seconds: dict[str, list[float]]


class Flatness(Part):
    """What a request costs with much configuration or data, against little."""

    size: int
    runs: dict[str, dict[str, list[Sample]]]
    """By operation, then by variant: ``small`` first, and the large ones."""


class Results(_Model):
    """All parts that have been measured."""

    comparison: Comparison | None = None
    starts: Starts | None = None
    deployments: Flatness | None = None
    policies: Flatness | None = None
    keys: Flatness | None = None

    @property
    def parts(self) -> list[Part]:
        """Those that have been measured."""
        every = (self.comparison, self.starts, self.deployments, self.policies, self.keys)
        return [part for part in every if part is not None]


def load(file: Path = LATEST) -> Results:
    """Read what was measured; nothing yet if there is no file."""
    if not file.exists():
        return Results()
    return Results.model_validate_json(file.read_bytes())


def save(results: Results, file: Path = LATEST) -> None:
    """Write what was measured."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rounded = results.model_dump_json(indent=1, exclude_none=True)
    file.write_text(rounded + "\n", encoding="utf-8")


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of each round: what slows down both cancels out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(values: Iterable[float]) -> float:
    """Return the distance between the largest and the smallest value, as a part of the median."""
    ordered = sorted(values)
    return (ordered[-1] - ordered[0]) / statistics.median(ordered)
