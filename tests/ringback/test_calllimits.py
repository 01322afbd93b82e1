from typing import Any

import pytest

from ringback.calllimits import NO_LIMITS, CallLimits, dollars, microdollars, strictest

FULL = CallLimits(True, 600.0, 30.0, 250_000)


@pytest.mark.parametrize(
    ("limits", "strict"),
    [
        ((), NO_LIMITS),
        ((FULL, NO_LIMITS), FULL),
        ((CallLimits(None, 600, None, 5), CallLimits(None, 60, 9, 7)), CallLimits(None, 60, 9, 5)),
        ((CallLimits(False), CallLimits(True)), CallLimits(True)),
        ((CallLimits(False), NO_LIMITS), CallLimits(False)),
    ],
    ids=["none", "one", "two", "required", "not-required"],
)
def test_the_strictest_limits_count(limits: tuple[CallLimits, ...], strict: CallLimits) -> None:
    """Whoever keeps them keeps all."""
    assert strictest(*limits) == strictest(*reversed(limits)) == strict


@pytest.mark.parametrize("limits", [FULL, NO_LIMITS, CallLimits(False)])
def test_limits_travel_as_a_label(limits: CallLimits) -> None:
    """Also where every number becomes a double."""
    label: dict[str, Any] = limits.to_label()
    doubles = {name: float(n) if type(n) is int else n for name, n in label.items()}
    assert CallLimits.from_label(doubles) == CallLimits.from_label(label) == limits


@pytest.mark.parametrize(
    ("amount", "whole"),
    [(None, None), (0.25, 250_000), (1e-9, 1), (1e300, 10**15)],
    ids=["none", "some", "less-than-one", "too-much"],
)
def test_amounts_are_whole_microdollars(amount: float | None, whole: int | None) -> None:
    """None of them is 0, which would be no limit."""
    assert microdollars(amount) == whole
    assert dollars(whole) == (None if whole is None else whole / 1e6)
