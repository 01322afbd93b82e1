"""Decides every request: finds its endpoint, and turns errors into answers."""

import re
from collections.abc import Sequence
from dataclasses import replace

from extauthz.decision import Allow, Decision, RequestFacts, refuse
from extauthz.endpoints import Endpoint
from extauthz.errors import NotServedError
from extauthz.metrics import decisions
from ringback.errors import ApiError
from ringback.settings.origins import origin_regex


class Gate:
    """Holds the door.

    Args:
        endpoints: The first that serves a request decides about it; what none serves is 404.
        cors_origins: Whose pages may read what becomes of a request that goes on.
    """

    def __init__(self, endpoints: Sequence[Endpoint], cors_origins: Sequence[str] = ()) -> None:
        self._endpoints = tuple(endpoints)
        self._may_read = re.compile("|".join(map(origin_regex, cors_origins)) or r"(?!)")

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
        return self._with_origin(decision, request) if isinstance(decision, Allow) else decision

    def _with_origin(self, allowed: Allow, request: RequestFacts) -> Allow:
        """Return consent that names the page, if it may read the answer.

        A refusal after the upstream has answered passes Envoy's CORS filter no more.
        """
        origin = request.headers.get("origin")
        if origin is None or not self._may_read.fullmatch(origin):
            return allowed
        return replace(allowed, labels=replace(allowed.labels, allowed_origin=origin))
