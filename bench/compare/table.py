"""The figures as tables, for the terminal and in Markdown."""

import statistics
from collections.abc import Iterator
from typing import Final

from bench.compare.model import model_rows
from bench.compare.results import Comparison, Results, Sample, spread
from bench.compare.systems import BARE, LITELLM, OPERATIONS, RINGBACK
from bench.compare.targets import CALLED, targets, values

SYSTEMS: Final = {RINGBACK: "Ringback", LITELLM: "LiteLLM", BARE: "bare Envoy"}
NOTHING: Final = "Not measured yet: make bench does it."
UNRELIABLE: Final = (
    "**UNRELIABLE**: other programs had up to {others:.0%} of the machine while this was measured."
)

Rows = list[list[str]]


def text(results: Results) -> str:
    """Return everything for a terminal."""
    tables = (_aligned(rows) for rows in everything(results) if len(rows) > 1)
    return "\n\n".join([*notes(results), *tables]).replace("**", "")


def everything(results: Results) -> list[Rows]:
    """Return all tables."""
    return [compared(results), target_rows(results), costs(results), model_rows(results)]


def notes(results: Results) -> list[str]:
    """Return what machine it was, when, and whether the figures are to be believed."""
    parts = results.parts
    if not parts:
        return [NOTHING]
    latest = max(parts, key=lambda part: part.when)
    machine = ", ".join(f"{what} {which}" for what, which in latest.machine.items())
    said = [f"Measured {latest.when} on: {machine}."]
    if results.comparison:
        runs, stub = results.comparison.seconds, results.comparison.stub_per_s
        rounds = len(next(_samples(results.comparison)))
        said[0] += (
            f" Medians of {rounds} interleaved runs of {runs} s each;"
            f" the upstream alone answers {stub:,.0f} requests per second."
        )
    if not all(part.is_reliable for part in parts):
        said.insert(0, UNRELIABLE.format(others=max(part.others for part in parts)))
    return said


def compared(results: Results) -> Rows:
    """Return the systems side by side. The spread is that of the first ratio over the rounds."""
    found = results.comparison
    head = ["", "at once", "figure", *SYSTEMS.values(), "to LiteLLM", "spread", "to bare Envoy"]
    rows: Rows = [head]
    if found is None:
        return rows
    for operation in OPERATIONS:
        for connections, runs in found.runs[operation].items():
            for figure, field, digits in (
                ("per second", "per_s", 0),
                ("p50, ms", "p50_ms", 2),
                ("p99, ms", "p99_ms", 2),
            ):
                sequences = {name: values(samples, field) for name, samples in runs.items()}
                cells = _cells(sequences, digits)
                rows.append([CALLED[operation], str(connections), figure, *cells])
    used = {name: [size / 2**20] for name, size in found.memory_bytes.items()}
    rows.append(["memory", "", "MiB, PSS", *_cells(used, 0)])
    if results.starts:
        rows.append(["start", "", "s to first 200", *_cells(results.starts.seconds, 2)])
    return rows


def target_rows(results: Results) -> Rows:
    """Return the targets."""
    rows: Rows = [["figure", "target", "moonshot", "measured", ""]]
    for target in targets(results):
        moonshot = f"{target.moonshot:g}x" if target.moonshot else ""
        rows.append([target.figure, target.wanted, moonshot, target.found, target.verdict])
    return rows


def costs(results: Results) -> Rows:
    """Return the processor time of a request by process, in microseconds, at 16 at once."""
    kinds = ("envoy", "extauthz", "sdpfilter", "other")
    rows: Rows = [["us of processor time", "system", *kinds, "all"]]
    if results.comparison is None:
        return rows
    for operation in OPERATIONS:
        for name, samples in results.comparison.runs[operation][16].items():
            parts = [[run.cpu_us.get(kind, 0.0) for run in samples] for kind in kinds]
            parts.append([run.all_cpu_us for run in samples])
            cells = [
                f"{cost:,.0f}" if cost >= 0.5 else "" for cost in map(statistics.median, parts)
            ]
            rows.append([CALLED[operation], SYSTEMS[name], *cells])
    return rows


def markdown(rows: Rows) -> str:
    """Return rows as a table in Markdown, the first one as its head."""
    head, *body = rows
    if not body:
        return NOTHING
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(sequences: dict[str, list[float]], digits: int) -> list[str]:
    """Return the median of each system, then the ratios of ours to theirs, and the spread."""
    ours = sequences[RINGBACK]
    cells = [
        f"{statistics.median(sequences[name]):,.{digits}f}" if name in sequences else ""
        for name in SYSTEMS
    ]
    for name in (LITELLM, BARE):
        theirs = sequences.get(name)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)] if theirs else []
        cells.append(_times(statistics.median(ratios)) if ratios else "")
        if name == LITELLM:
            cells.append(f"{spread(ratios):.0%}" if len(ratios) > 1 else "")
    return cells


def _times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio >= 1 else f"1/{1 / ratio:.3g}"


def _samples(found: Comparison) -> Iterator[list[Sample]]:
    for by_connections in found.runs.values():
        for by_system in by_connections.values():
            yield from by_system.values()


def _aligned(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
