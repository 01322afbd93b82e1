"""The comparison as a picture: bars for what matters most, in SVG."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.compare.results import Results, Sample
from bench.compare.systems import BARE, CALL, LITELLM, MINT, RINGBACK
from bench.compare.table import NOTHING, SYSTEMS
from bench.compare.targets import CALLED, values

_WIDTH: Final = 720
_BAR_X: Final = 110
_BAR_WIDTH: Final = 500
_ROW: Final = 20
_TITLE: Final = 26
_GAP: Final = 14
_COLOURS: Final = {RINGBACK: "#1a7f5a", LITELLM: "#8a94a6", BARE: "#c9ced8"}
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.note{fill:#6a737d}"
)


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars for one figure.

    Attributes:
        title: What it is.
        bars: By system.
        digits: Behind the point.
    """

    title: str
    bars: dict[str, float]
    digits: int = 0


def panels(results: Results) -> Iterator[Panel]:
    """Return what is shown."""
    if found := results.comparison:
        for operation in (CALL, MINT):
            rates = _medians(found.runs[operation][16], "per_s")
            yield Panel(f"{CALLED[operation]} per second, 16 at once (more is better)", rates)
        times = _medians(found.runs[CALL][1], "p50_ms")
        yield Panel("p50 of a call in ms, one after the other (less is better)", times, digits=2)
        memory = {name: size / 2**20 for name, size in found.memory_bytes.items()}
        yield Panel("memory in MiB (less is better)", memory)
    if results.starts:
        times = {name: statistics.median(took) for name, took in results.starts.seconds.items()}
        yield Panel("seconds from start to the first 200 (less is better)", times, digits=1)


def svg(results: Results) -> str:
    """Return the picture."""
    parts: list[str] = []
    y = _GAP
    for panel in panels(results):
        parts.append(_text(_GAP, y + 14, panel.title, "title"))
        y += _TITLE
        largest = max(panel.bars.values())
        for name, value in panel.bars.items():
            width = max(1.0, value / largest * _BAR_WIDTH)
            parts.append(_text(_GAP, y + 12, SYSTEMS[name]))
            parts.append(
                f'<rect x="{_BAR_X}" y="{y}" width="{width:.1f}" height="15" rx="2"'
                f' fill="{_COLOURS[name]}"/>'
            )
            parts.append(_text(_BAR_X + width + 6, y + 12, f"{value:,.{panel.digits}f}"))
            y += _ROW
        y += _GAP
    if not parts:
        parts.append(_text(_GAP, y + 12, NOTHING, "title"))
        y += _ROW + _GAP
    if not all(part.is_reliable for part in results.parts):
        parts.append(_text(_GAP, y + 12, "UNRELIABLE: measured on a busy machine", "title"))
        y += _ROW + _GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}">'
    ground = f'<rect width="{_WIDTH}" height="{y}" rx="6" fill="#fff"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", ground, *parts, "</svg>"]) + "\n"


def _medians(runs: dict[str, list[Sample]], field: str) -> dict[str, float]:
    return {name: statistics.median(values(samples, field)) for name, samples in runs.items()}


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    group = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{group}>{escape(words)}</text>'
