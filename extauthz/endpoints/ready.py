"""``GET /readyz``: that this answer comes at all says that decisions are made."""

from typing import Final

from extauthz.decision import Allow, Decision, Labels, RequestFacts
from ringback.contract import OUTCOME_READY, READY_PATH


class Ready:
    """Lets the request pass; Envoy answers it after sdpfilter has consented, too."""

    name: Final = "ready"

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "GET" and request.path == READY_PATH

    async def decide(self, _request: RequestFacts) -> Decision:
        """Return consent."""
        return Allow(Labels(OUTCOME_READY))
