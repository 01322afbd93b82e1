"""Which of several healthy deployments comes first: LiteLLM's routing strategies."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Final

from extauthz.deployments import Deployment
from extauthz.routersettings import Strategy
from extauthz.routing.health import Health

_WEIGHTS: Final[tuple[Callable[[Deployment], float | None], ...]] = (
    lambda deployment: deployment.weight,
    lambda deployment: deployment.rpm,
    lambda deployment: deployment.tpm,
)


def choose(
    candidates: Sequence[Deployment], strategy: Strategy, health: Health, random: Random
) -> Deployment:
    """Return the deployment that comes first.

    Args:
        candidates: Healthy deployments of one group, at least one. Of several orders only the
            lowest counts; a deployment without one comes after those that have one.
        strategy: ``simple-shuffle`` draws by `weights`; the others take the least busy or the
            fastest one, and draw among equals.
        health: What the others go by.
        random: Draws.
    """
    first = _of_lowest_order(candidates)
    match strategy:
        case "least-busy":
            first = _least(first, lambda candidate: health.busy(candidate.id))
        case "latency-based-routing":
            first = _least(first, lambda candidate: health.latency_s(candidate.id))
        case "simple-shuffle":
            pass
    (chosen,) = random.choices(first, weights(first))
    return chosen


class Lottery:
    """Draws one of many deployments in a time that does not depend on how many there are.

    Args:
        deployments: Those of a group, healthy or not, at least one.
    """

    def __init__(self, deployments: tuple[Deployment, ...]) -> None:
        self.deployments: Final = deployments
        self._first = _of_lowest_order(deployments)
        self._sums = list(accumulate(weights(self._first)))

    def draw(self, random: Random) -> Deployment:
        """Return one of those of the lowest order, by its weight."""
        (drawn,) = random.choices(self._first, cum_weights=self._sums)
        return drawn


def is_unbeaten(deployment: Deployment, strategy: Strategy, health: Health) -> bool:
    """Tell whether none of its order can come before a deployment, whatever the others are like.

    If it may be asked, it is then what `choose` would have drawn from all that may be asked, with
    the same probability.
    """
    match strategy:
        case "least-busy":
            return health.busy(deployment.id) == 0
        case "latency-based-routing":
            return health.latency_s(deployment.id) == 0
        case "simple-shuffle":
            return True


def weights(candidates: Sequence[Deployment]) -> list[float]:
    """Return the weights by which deployments are drawn.

    Those of the first of ``weight``, ``rpm`` and ``tpm`` that any of them has; whoever lacks it
    weighs nothing, as in LiteLLM. Without any weight all weigh the same.
    """
    for weight_of in _WEIGHTS:
        given = [weight_of(candidate) or 0.0 for candidate in candidates]
        if sum(given) > 0:
            return given
    return [1.0] * len(candidates)


def _of_lowest_order(deployments: Sequence[Deployment]) -> list[Deployment]:
    lowest = min(map(_order, deployments))
    return [deployment for deployment in deployments if _order(deployment) == lowest]


def _order(deployment: Deployment) -> float:
    return math.inf if deployment.order is None else deployment.order


def _least(
    candidates: Sequence[Deployment], measure: Callable[[Deployment], float]
) -> list[Deployment]:
    least = min(map(measure, candidates))
    return [candidate for candidate in candidates if measure(candidate) == least]
