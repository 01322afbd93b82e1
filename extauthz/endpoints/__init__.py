"""What is served: one module for each endpoint, which says what it serves and decides about it."""

from typing import Protocol

from extauthz.decision import Decision, RequestFacts


class Endpoint(Protocol):
    """One endpoint.

    Attributes:
        name: A stable word for metrics and logs.
    """

    @property
    def name(self) -> str:
        """A stable word for metrics and logs."""
        ...

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint, by its method, path, query and headers."""
        ...

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the decision about a request.

        Raises:
            ApiError: What the downstream is told instead.
        """
        ...
