"""Decides every request: finds its endpoint, and turns errors into answers."""

from collections.abc import Sequence

from extauthz.decision import Decision, RequestFacts, refuse
from extauthz.endpoints import Endpoint
from extauthz.errors import NotServedError
from extauthz.metrics import decisions
from ringback.errors import ApiError


class Gate:
    """Holds the door.

    Args:
        endpoints: The first that serves a request decides about it; what none serves is 404.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the decision about one request.

        Every `ApiError` becomes its answer; anything else is for the caller to fail closed on.
        """
        endpoint = next((e for e in self._endpoints if e.serves(request)), None)
        try:
            if endpoint is None:
                raise NotServedError
            decision = await endpoint.decide(request)
        except ApiError as error:
            decision = refuse(error)
        name = endpoint.name if endpoint else "other"
        decisions(name, decision.labels.outcome).inc()
        return decision
