"""``POST client_secrets``: a virtual key becomes a token for one deployment."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from extauthz.admission import Admission
from extauthz.decision import Answer, Decision, RequestFacts
from extauthz.endpoints.minting import mint_for
from extauthz.mint import Minter
from extauthz.mintbody import MintRequest, parse_mint_request
from extauthz.pageorigin import page_origin
from ringback.contract import CLIENT_SECRETS_PATHS


class ClientSecrets:
    """Mints tokens for callers with a virtual key.

    Args:
        admission: Lets callers in.
        minter: Mints.
        binds_origin: Whether a token is good only for the page that minted it.
    """

    name: Final = "client_secrets"

    def __init__(self, admission: Admission, minter: Minter, *, binds_origin: bool = False) -> None:
        self._admission = admission
        self._minter = minter
        self._binds_origin = binds_origin

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

        def read(sent: RequestFacts) -> MintRequest:
            wanted = parse(sent.body)
            if not self._binds_origin:
                return wanted
            return replace(wanted, page_origin=page_origin(sent.headers))

        return await mint_for(self._admission, request, read, self._minter.mint)
