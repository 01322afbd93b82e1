"""``POST client_secrets``: a virtual key becomes a token for one deployment."""

from collections.abc import Callable
from typing import Final

from extauthz.admission import Admission
from extauthz.decision import Answer, Decision, RequestFacts
from extauthz.endpoints.minting import mint_for
from extauthz.mint import Minter
from extauthz.mintbody import MintRequest, parse_mint_request
from ringback.contract import CLIENT_SECRETS_PATHS


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
        return await mint_for(
            self._admission, request, lambda sent: parse(sent.body), self._minter.mint
        )
