"""The regression guard of processor time."""

from pathlib import Path

import pytest

from bench.guard import COSTS, TOLERANCE, measure, too_much


@pytest.mark.dataplane
async def test_cost_of_a_mint_and_a_call(tmp_path: Path) -> None:
    """A mint and a call take no more processor time than they used to."""
    ratios = await measure(tmp_path)
    assert not too_much(ratios), ratios


def test_regression_is_named() -> None:
    """What costs more than it may is named, and nothing else."""
    mint, call = (cost * TOLERANCE for cost in COSTS.values())
    assert too_much({"mint": mint, "call": call}) == []
    (said,) = too_much({"mint": mint, "call": call + 0.1})
    assert said.startswith(f"A call takes {call + 0.1:.1f} times")
