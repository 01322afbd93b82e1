"""``POST calls`` with a key: mints and calls in one request, without a token in between.

OpenAI's "unified interface": a form with the offer and the session, or the raw offer where the
query names the model or one model is the default. The provider receives the offer under an
ephemeral key that was minted for it, so that both providers serve it: to a standard key Azure says
"This operation requires ephemeral tokens for authentication".
"""

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs

from extauthz.admission import Admission, Admitted
from extauthz.calls import allow_call
from extauthz.credentials import AUTHORIZATION
from extauthz.decision import Allow, Decision, RequestFacts
from extauthz.endpoints.minting import mint_for
from extauthz.leashes import Leashes
from extauthz.mint import Minter
from extauthz.mintbody import InvalidBodyError, MintRequest, parse_session
from extauthz.slots import Slots
from ringback.callform import is_form, parse_call_form
from ringback.contract import CALLS_PATHS, OUTCOME_KEY_CALL, TOKEN_PREFIX
from ringback.settings import SupervisionSettings


class UnifiedCalls:
    """Opens calls for callers with a virtual key.

    Args:
        admission: Lets callers in.
        minter: Mints.
        leashes: Says what callkeeper is told of calls.
        slots: Counts open calls.
    """

    name: Final = "unified_calls"

    def __init__(
        self,
        admission: Admission,
        minter: Minter,
        leashes: Leashes | None = None,
        slots: Slots | None = None,
    ) -> None:
        self._admission = admission
        self._minter = minter
        self._leashes = leashes or Leashes()
        self._slots = slots or Slots(SupervisionSettings())

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint: a call with a credential that is no token.

        Without any, `extauthz.endpoints.calls` tells the caller to ask for a token.
        """
        return (
            request.method == "POST"
            and request.path in CALLS_PATHS
            and not _has_token(request.headers.get(AUTHORIZATION, ""))
            and self._admission.shows_key(request)
        )

    async def decide(self, request: RequestFacts) -> Decision:
        """Return how the request changes so that it reaches the deployment that has minted."""

        async def call(wanted: MintRequest, admitted: Admitted, identifier: str | None) -> Allow:
            async with self._slots.taken(admitted.key) as slots:
                made = await self._minter.obtain(wanted, admitted, identifier)
                await slots.take_at(made.deployment)
                allowed = allow_call(
                    made.claims,
                    made.deployment,
                    request.headers,
                    query=request.query,
                    identifier=made.identifier,
                )
                labels = self._leashes.put_on(
                    replace(allowed.labels, sdp_policy=admitted.key.sdp_policy),
                    made.claims,
                    admitted.key,
                    made.deployment,
                )
            labels = replace(labels, outcome=OUTCOME_KEY_CALL, slot_id=slots.id)
            return replace(allowed, labels=labels)

        return await mint_for(self._admission, request, _read, call)


def _has_token(authorization: str) -> bool:
    """Tell whether a header shows, or tries to show, one of our tokens."""
    scheme, _, credential = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and credential.strip().startswith(TOKEN_PREFIX)


def _read(request: RequestFacts) -> MintRequest:
    """Return what a call asks for, in its form or in its query."""
    models = set(parse_qs(request.query).get("model", ()))
    if len(models) > 1:
        raise InvalidBodyError("model", "is named twice in the query. Name the model once.")
    content_type = request.headers.get("content-type", "")
    session = None
    if is_form(content_type):
        session = parse_call_form(content_type, request.body).session
    return parse_session(session, *models or (None,))
