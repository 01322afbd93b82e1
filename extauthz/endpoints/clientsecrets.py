"""``POST client_secrets``: a virtual key becomes a token for one deployment."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from extauthz.admission import Admission
from extauthz.decision import Answer, Decision, Labels, RequestFacts, refuse
from extauthz.mint import Minter, MintFailedError
from extauthz.mintbody import MintRequest, parse_mint_request
from extauthz.safety import SAFETY_IDENTIFIER
from ringback.contract import CLIENT_SECRETS_PATHS
from ringback.errors import ApiError


class ClientSecrets:
    """Mints tokens for callers with a virtual key.

    Args:
        admission: Lets callers in.
        minter: Mints.
    """

    name: Final = "client_secrets"

    def __init__(self, admission: Admission, minter: Minter) -> None:
        self._admission = admission
        self._minter = minter

    def serves(self, request: RequestFacts) -> bool:
        """Tell whether a request is for this endpoint."""
        return request.method == "POST" and request.path in CLIENT_SECRETS_PATHS

    async def decide(self, request: RequestFacts) -> Decision:
        """Return the answer with the token, or why there is none."""
        return await self.mint(request, parse_mint_request)

    async def mint(self, request: RequestFacts, parse: Callable[[bytes], MintRequest]) -> Answer:
        """Return the answer with the token, or why there is none.

        Args:
            request: With a key.
            parse: Reads the body; what it raises becomes the answer.
        """
        key = await self._admission.identify(request)
        labels = Labels("", key.alias, key.hash, key.team, key.user)
        try:
            wanted = parse(request.body)
            admitted = await self._admission.admit(key, wanted.model, wanted.further_models)
            labels = replace(labels, model=admitted.group)
            identifier = request.headers.get(SAFETY_IDENTIFIER)
            with self._admission.in_flight(key):
                return await self._minter.mint(wanted, admitted, identifier)
        except MintFailedError as error:
            labels = replace(labels, deployment=error.deployment, outcome=error.code)
            return refuse(error, labels)
        except ApiError as error:
            return refuse(error, replace(labels, outcome=error.code))
