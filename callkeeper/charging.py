"""Prices what calls use, and hands it to where charges go."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from callkeeper.metrics import UNPRICED
from callkeeper.model import Call, Charge, Usage
from callkeeper.prices import PriceBook, PricedDeployment
from ringback.logs import get_logger

_WILDCARD: Final = "*"


class Charging:
    """Charges the payers of calls.

    Args:
        prices: What models cost.
        takers: Take every charge; none of them waits.
    """

    def __init__(
        self, prices: PriceBook, takers: Sequence[Callable[[Charge], object]] = ()
    ) -> None:
        self._prices = prices
        self._takers = tuple(takers)
        self._unpriced: set[str] = set()
        self._log = get_logger()

    def charge(self, call: Call, usage: Usage, deployment: PricedDeployment | None) -> int:
        """Book a usage, and return its cost in micro-dollars; 0 if its price is not known.

        Args:
            call: Whose.
            usage: What was used.
            deployment: What answered the call; None if nobody has said yet.
        """
        cost = 0
        is_known = False
        if deployment is not None:
            if _WILDCARD in deployment.model:
                deployment = replace(deployment, model=call.model)
            price = self._prices.cost(usage, deployment)
            cost, is_known = price.microdollars, price.is_known
        if not is_known:
            UNPRICED.labels(call.deployment).inc()
            # Once for each, and of deployments there are few.
            if call.deployment not in self._unpriced:
                self._unpriced.add(call.deployment)
                self._log.warning("price_unknown", deployment=call.deployment, kind=usage.kind)
        charge = Charge(call, usage, cost)
        for take in self._takers:
            take(charge)
        return cost
