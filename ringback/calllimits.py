"""What one call is held to beside the settings: extauthz says it, callkeeper holds the call to it.

It travels as a label of extauthz's decision, through sdpfilter. Pure.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

_MICRO: Final = 1_000_000
# A billion dollars: above it a limit is none in practice.
_MOST: Final = 10**15


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Limits of one call. None leaves it to the settings; of two limits the lower counts.

    Attributes:
        is_required: Whether it must not go on unsupervised.
        max_duration_s: How long it may last, in seconds.
        idle_s: How long nobody may speak, in seconds.
        max_cost_microdollars: What it may cost.
    """

    is_required: bool | None = None
    max_duration_s: float | None = None
    idle_s: float | None = None
    max_cost_microdollars: int | None = None

    def to_label(self) -> dict[str, bool | float]:
        """Return what is said of them, with the names of the attributes."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_label(cls, label: Mapping[str, Any]) -> Self:
        """Return what a label says; numbers may have become floats on their way."""
        cost = label.get("max_cost_microdollars")
        known = {field.name: label.get(field.name) for field in fields(cls)}
        return cls(**known | {"max_cost_microdollars": None if cost is None else int(cost)})


NO_LIMITS: Final = CallLimits()


def microdollars(dollars: float | None) -> int | None:
    """Return an amount above 0, 1 at least; None stays None."""
    return None if dollars is None else round(min(max(1.0, dollars * _MICRO), _MOST))


def dollars(microdollars: int | None) -> float | None:
    """Return an amount; None stays None."""
    return None if microdollars is None else microdollars / _MICRO


def lowest(*limits: float | None) -> float | None:
    """Return the lowest of some limits; None if there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


def strictest(*limits: CallLimits) -> CallLimits:
    """Return limits that are kept only by whoever keeps all of these."""
    given = [each.is_required for each in limits if each.is_required is not None]
    cost = lowest(*(each.max_cost_microdollars for each in limits))
    return CallLimits(
        any(given) if given else None,
        lowest(*(each.max_duration_s for each in limits)),
        lowest(*(each.idle_s for each in limits)),
        None if cost is None else int(cost),
    )
