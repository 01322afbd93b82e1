"""Figures in the documentation, and the verdicts on them."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.compare.machine import MAX_OTHERS
from bench.compare.picture import svg
from bench.compare.publish import DOCUMENTS, PICTURE, filled
from bench.compare.quiet import BusyError, Quiet
from bench.compare.results import Comparison, Results, Sample, load
from bench.compare.table import text
from bench.compare.targets import targets


def sample(per_s: float, ms: float, us: float = 1000) -> Sample:
    """Return a run."""
    return Sample(per_s=per_s, p50_ms=ms, p99_ms=2 * ms, cpu_us={"envoy": us})


def results(*, is_reliable: bool = True) -> Results:
    """Return a comparison in which ours is ten times as fast as LiteLLM, and half as bare Envoy."""
    rounds = {
        "ringback": [sample(1000, 1), sample(900, 1.1), sample(1100, 1)],
        "litellm": [sample(100, 10), sample(90, 11), sample(100, 10)],
        "bare": [sample(2000, 0.5), sample(1800, 0.5), sample(2200, 0.5)],
    }
    return Results(
        comparison=Comparison(
            when="2026-01-31 12:00 UTC",
            machine={"cores": "2"},
            others=0.01,
            is_reliable=is_reliable,
            seconds=3,
            stub_per_s=10_000,
            runs={operation: dict.fromkeys((1, 16, 64), rounds) for operation in ("mint", "call")},
            memory_bytes={"ringback": 2**28, "litellm": 2**30, "bare": 2**25},
        )
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_documents_show_the_latest_results(document: Path) -> None:
    """README and docs show what was measured last, and nothing that somebody typed."""
    written = document.read_text(encoding="utf-8")
    assert filled(written, load()) == written, "make figures"


def test_picture_shows_the_latest_results() -> None:
    """The picture is drawn from what was measured last."""
    assert PICTURE.read_text(encoding="utf-8") == svg(load()), "make figures"


def test_verdicts() -> None:
    """Each target is met, missed or not measured by the median of the ratios of each round."""
    verdicts = {target.figure: target for target in targets(results())}
    calls = verdicts["calls per second at 16 at once, against LiteLLM"]
    assert (calls.found, calls.is_met) == ("10x", True)
    p99 = verdicts["p99 of calls at 64 at once, against LiteLLM"]
    assert (p99.found, p99.is_met) == ("1/10", True)
    added = verdicts["p50 that a call takes longer than through bare Envoy, at 1 at once"]
    assert (added.found, added.is_met) == ("0.5 ms", True)
    memory = verdicts["memory of all processes, against LiteLLM"]
    assert (memory.found, memory.is_met) == ("1/4", True)
    assert verdicts["from start to first 200, against LiteLLM"].is_met is None


def test_unreliable_results_say_so() -> None:
    """What was measured on a busy machine says so in the table and in the picture."""
    for shown in (text, svg):
        assert "UNRELIABLE" not in shown(results())
        assert "UNRELIABLE" in shown(results(is_reliable=False))


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """A program that is busy all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("somebody_else")
def test_busy_machine_is_refused() -> None:
    """Where others work all the time there is no result, unless it is forced, and marked."""

    def work() -> None:
        time.sleep(0.2)

    with pytest.raises(BusyError):
        Quiet(force=False, pause_s=0).run(work, lambda: 0.0)
    forced = Quiet(force=True)
    forced.run(work, lambda: 0.0)
    assert forced.others > MAX_OTHERS
    assert not forced.is_reliable
