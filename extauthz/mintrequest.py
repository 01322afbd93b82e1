"""One request for an ephemeral key to one deployment."""

import asyncio
from dataclasses import replace
from typing import Final

from extauthz.admission import Admitted
from extauthz.deployments import Deployment
from extauthz.egress import Egress
from extauthz.entra import EntraTokens
from extauthz.jsontext import serialize_object
from extauthz.mintbody import TRANSCRIPTION, Minted, MintRequest, parse_minted
from extauthz.mintclaims import longest_life_s
from extauthz.providers import provider_of
from extauthz.providers.base import quotes_credential
from extauthz.safety import SAFETY_IDENTIFIER, SafetyIdentifiers
from extauthz.sessionlocks import lock_of
from extauthz.sessions import session_for
from ringback.secrets import Secret
from ringback.settings import Settings
from ringback.upstream import UpstreamAnswerError, UpstreamTimeoutError, error_of

_NO_TRANSCRIPTION: Final = {
    "message": "The provider of this model has no transcription sessions. Name another model.",
    "param": "session.type",
    "code": "invalid_body",
}


def can_mint(deployment: Deployment, request: MintRequest) -> bool:
    """Tell whether a deployment's provider has sessions of the type that is asked for."""
    return request.session_type != TRANSCRIPTION or provider_of(deployment).TRANSCRIBES


class MintRequests:
    """Asks deployments for ephemeral keys.

    Args:
        egress: Sends requests upstream.
        tokens: Logs in for deployments without a key.
        identifiers: Says what providers are told of who calls.
        settings: Lifetimes.
    """

    def __init__(
        self,
        egress: Egress,
        tokens: EntraTokens,
        identifiers: SafetyIdentifiers,
        settings: Settings,
    ) -> None:
        self._egress = egress
        self._tokens = tokens
        self._identifiers = identifiers
        self._settings = settings

    def identifier(self, given: str | None, admitted: Admitted) -> Secret | None:
        """Return the ``OpenAI-Safety-Identifier`` of a caller.

        Raises:
            InvalidSafetyIdentifierError: If the caller's own cannot be passed on: 400.
        """
        key = admitted.key
        return self._identifiers.of(given, key_hash=key.hash, user=key.user)

    async def send(
        self,
        deployment: Deployment,
        request: MintRequest,
        admitted: Admitted,
        identifier: Secret | None,
        *,
        timeout_s: float,
    ) -> Minted:
        """Ask one deployment, once.

        Args:
            deployment: Which.
            request: What the caller asks for.
            admitted: Who asks, and what serves further models.
            identifier: From `identifier`.
            timeout_s: For everything, logging in too, in seconds.

        Raises:
            ApiError: If there is no ephemeral key; 503 if the gateway cannot log in.
        """
        provider = provider_of(deployment)
        if not can_mint(deployment, request):
            # As if the provider had said so: no other try, and no fault of the deployment.
            raise UpstreamAnswerError(400, _NO_TRANSCRIPTION, {})
        lifetime_s = longest_life_s(admitted.key, request, self._settings.token.max_lifetime_s)
        body = provider.mint_body(
            session_for(request, deployment, admitted.further, lock_of(deployment, admitted.key)),
            request.expires_within(lifetime_s),
        )
        try:
            async with asyncio.timeout(timeout_s):
                token = await self._tokens.of(deployment)
                upstream = provider.mint_request(deployment, token)
                if identifier is not None:
                    headers = {**upstream.headers, SAFETY_IDENTIFIER: identifier}
                    upstream = replace(upstream, headers=headers)
                text = serialize_object(body)
                answer = await self._egress.post(upstream, text, timeout_s=timeout_s)
        except TimeoutError as error:
            raise UpstreamTimeoutError from error
        if not 200 <= answer.status < 300:
            # A provider's words may reach the caller, unless they quote the key that they refuse.
            is_safe = not quotes_credential(answer.body, upstream.headers)
            raise error_of(answer.status, answer.headers, answer.body if is_safe else b"")
        return parse_minted(answer.body)
