"""Admission limit: what is too much is refused at once, while all the rest is served as usual.

Decisions go in lanes, each with a limit of its own: mints, which wait for a provider, take no place
of calls, which wait for nobody.
"""

from typing import Final

from extauthz.decision import Decision, RequestFacts
from extauthz.endpoints import Endpoint
from extauthz.errors import OverloadedError
from extauthz.metrics import UNDER_WAY


class Lane:
    """Counts decisions under way, and refuses those above a limit.

    Args:
        name: A stable word for metrics.
        limit: How many decisions may be under way.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._limit = limit
        self._under_way = 0
        UNDER_WAY.labels(name).set_function(lambda: self._under_way)

    def over(self, *endpoints: Endpoint) -> list[Endpoint]:
        """Return the endpoints as they are, but limited, all of them together."""
        return [_Limited(endpoint, self) for endpoint in endpoints]

    def enter(self) -> None:
        """Begin a decision, which `leave` ends.

        Raises:
            OverloadedError: If too many are under way: 503.
        """
        if self._under_way >= self._limit:
            raise OverloadedError
        self._under_way += 1

    def leave(self) -> None:
        """End a decision that `enter` has begun."""
        self._under_way -= 1


class _Limited:
    """An endpoint in a lane."""

    def __init__(self, endpoint: Endpoint, lane: Lane) -> None:
        self.name: Final = endpoint.name
        self.serves: Final = endpoint.serves
        self._endpoint = endpoint
        self._lane = lane

    async def decide(self, request: RequestFacts) -> Decision:
        self._lane.enter()
        try:
            return await self._endpoint.decide(request)
        finally:
            self._lane.leave()
