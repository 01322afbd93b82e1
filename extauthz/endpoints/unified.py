"""``POST calls`` with a key: mints and calls in one request, without a token in between.

OpenAI's "unified interface": a form with the offer and the session, or the raw offer where the
query names the model or one model is the default. The provider receives the offer under an
ephemeral key that was minted for it, so that both providers serve it: Azure takes no standard key
at its calls endpoint.
"""

from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs

from extauthz.admission import Admission
from extauthz.calls import allow_call
from extauthz.credentials import AUTHORIZATION
from extauthz.decision import Allow, Decision, Labels, RequestFacts, refuse
from extauthz.mint import Minter, MintFailedError
from extauthz.mintbody import InvalidBodyError, MintRequest, parse_session
from extauthz.safety import SAFETY_IDENTIFIER
from ringback.callform import is_form, parse_call_form
from ringback.contract import CALLS_PATHS, OUTCOME_KEY_CALL, TOKEN_PREFIX
from ringback.errors import ApiError


class UnifiedCalls:
    """Opens calls for callers with a virtual key.

    Args:
        admission: Lets callers in.
        minter: Mints.
    """

    name: Final = "unified_calls"

    def __init__(self, admission: Admission, minter: Minter) -> None:
        self._admission = admission
        self._minter = minter

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
        key = await self._admission.identify(request)
        labels = Labels("", key.alias, key.hash, key.team, key.user)
        try:
            wanted = _read(request)
            admitted = await self._admission.admit(key, wanted.model, wanted.further_models)
            labels = replace(labels, model=admitted.group)
            identifier = request.headers.get(SAFETY_IDENTIFIER)
            with self._admission.in_flight(key):
                made = await self._minter.obtain(wanted, admitted, identifier)
        except MintFailedError as error:
            labels = replace(labels, deployment=error.deployment, outcome=error.code)
            return refuse(error, labels)
        except ApiError as error:
            return refuse(error, replace(labels, outcome=error.code))
        allowed = allow_call(
            made.claims,
            made.deployment,
            request.headers,
            query=request.query,
            identifier=made.identifier,
        )
        return _as_key_call(allowed, key.sdp_policy)


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


def _as_key_call(allowed: Allow, sdp_policy: str | None) -> Allow:
    labels = replace(allowed.labels, outcome=OUTCOME_KEY_CALL, sdp_policy=sdp_policy)
    return replace(allowed, labels=labels)
