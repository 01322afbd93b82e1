"""What endpoints that mint have in common: who may, is served; who may not, is told why."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from extauthz.admission import Admission, Admitted
from extauthz.decision import Answer, Decision, RequestFacts, labels_of, refuse
from extauthz.mint import MintFailedError
from extauthz.mintbody import MintRequest
from extauthz.safety import SAFETY_IDENTIFIER
from ringback.errors import ApiError

_Made = TypeVar("_Made", bound=Decision)


async def mint_for(
    admission: Admission,
    request: RequestFacts,
    parse: Callable[[RequestFacts], MintRequest],
    mint: Callable[[MintRequest, Admitted, str | None], Awaitable[_Made]],
) -> _Made | Answer:
    """Return what is minted for a caller with a virtual key, or the refusal.

    Args:
        admission: Lets callers in.
        request: With a key.
        parse: Reads what is wanted; what it raises becomes the answer.
        mint: Takes what is wanted, what the caller was admitted to and the caller's
            ``OpenAI-Safety-Identifier``.

    Raises:
        AuthError: If the caller has no valid key.
        KeySourceUnavailableError: If nobody can tell.
    """
    key = await admission.identify(request)
    labels = labels_of(key, "")
    try:
        wanted = parse(request)
        admitted = await admission.admit(key, wanted.model, wanted.further_models)
        labels = replace(labels, model=admitted.group)
        with admission.in_flight(key):
            return await mint(wanted, admitted, request.headers.get(SAFETY_IDENTIFIER))
    except MintFailedError as error:
        return refuse(error, replace(labels, deployment=error.deployment, outcome=error.code))
    except ApiError as error:
        return refuse(error, replace(labels, outcome=error.code))
