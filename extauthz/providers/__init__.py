"""The dialects of the providers: one pure module each, chosen by `provider_of`.

Paths hold everything behind the authority, the query too. What a dialect has no word for is None.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from extauthz.deployments import Deployment, DialectName, Origin
from extauthz.providers import azure, azuredated, azurepreview, openai
from extauthz.providers.base import UpstreamRequest, Verb
from ringback.secrets import Secret


class Provider(Protocol):
    """What a dialect's module says about a deployment."""

    CALLS_AUTH_SCHEME: Literal["bearer"]
    """How the ephemeral key is shown when a call is made."""

    HAS_WEBRTCFILTER: bool
    """Whether calls take ``webrtcfilter=on``."""

    TRANSCRIBES: bool
    """Whether it has sessions of the type ``transcription``."""

    def key_headers(
        self, deployment: Deployment, entra_token: Secret | None = None
    ) -> Mapping[str, Secret]:
        """Return what opens the upstream: extra headers, organization, and the credential.

        Args:
            deployment: Whose upstream it is.
            entra_token: An access token of Entra ID; None: the deployment's own key.
        """
        ...

    def mint_request(
        self, deployment: Deployment, entra_token: Secret | None = None
    ) -> UpstreamRequest:
        """Return the request for an ephemeral key, without its body."""
        ...

    def mint_body(
        self, session: Mapping[str, Any], expires_after: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the body of that request.

        Args:
            session: The current API's session object, with ``type`` and the upstream's ``model``.
            expires_after: The current API's object; None if absent.
        """
        ...

    def calls_origin(self, deployment: Deployment) -> Origin:
        """Return where offers go: one of the origins of the deployment."""
        ...

    def calls_path(self, deployment: Deployment) -> str:
        """Return the path that takes an offer, `calls_origin` being the authority."""
        ...

    def control_path(self, deployment: Deployment, call_id: str, verb: Verb) -> str | None:
        """Return the path that takes a command for a call, at ``deployment.origin``."""
        ...

    def sideband_path(self, deployment: Deployment, call_id: str) -> str | None:
        """Return the path of a WebSocket that joins a call, at ``deployment.origin``."""
        ...

    def websocket_path(self, deployment: Deployment, *, intent: str | None = None) -> str:
        """Return the path of a WebSocket that is a conversation, at ``deployment.origin``.

        Args:
            deployment: Whose upstream it is.
            intent: ``transcription``, which names no model: the session does.
        """
        ...


_PROVIDERS: Final[Mapping[DialectName, Provider]] = MappingProxyType(
    {
        "openai": openai,
        "azure": azure,
        "azure-dated": azuredated,
        "azure-preview": azurepreview,
    }
)


def dialect_of(deployment: Deployment) -> DialectName:
    """Return the name of the dialect that a deployment's upstream speaks."""
    return deployment.dialect or deployment.provider


def provider_of(deployment: Deployment) -> Provider:
    """Return the dialect that a deployment's upstream speaks."""
    return _PROVIDERS[dialect_of(deployment)]
