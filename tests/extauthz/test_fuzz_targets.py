"""The targets of the fuzzer, with what it begins with, what it found and a little noise."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.fuzztargets import TARGETS

# Findings are mended; their inputs stay, each named after its target.
FINDINGS: Final = sorted((Path(__file__).parents[1] / "fuzz" / "findings").glob("*.bin"))


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    """What the fuzzer begins with breaks no promise."""
    for seed in (b"", *TARGETS[name].seeds):
        TARGETS[name].check(seed)


@pytest.mark.parametrize("path", FINDINGS, ids=[path.stem for path in FINDINGS])
def test_findings_stay_mended(path: Path) -> None:
    """What was found once is not found again."""
    TARGETS[path.stem.partition("-")[0]].check(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_damaged_seeds(name: str, data: st.DataObject) -> None:
    """A good input of which a part is replaced is read or refused."""
    seed = data.draw(st.sampled_from(TARGETS[name].seeds))
    begin = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(begin, min(len(seed), begin + 12)))
    TARGETS[name].check(seed[:begin] + data.draw(st.binary(max_size=12)) + seed[end:])
