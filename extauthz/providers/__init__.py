"""The dialects of the providers: one pure module each, chosen by `provider_of`."""

from typing import Literal, Protocol

from extauthz.deployments import Deployment
from extauthz.providers import azure, openai
from extauthz.providers.base import UpstreamRequest


class Provider(Protocol):
    """What a provider's module says about a deployment."""

    CALLS_AUTH_SCHEME: Literal["bearer"]
    """How the ephemeral key is shown when a call is made."""

    def mint_request(self, deployment: Deployment) -> UpstreamRequest:
        """Return the ``client_secrets`` request, without its body."""
        ...

    def calls_path(self, deployment: Deployment) -> str:
        """Return the path that takes an offer."""
        ...


def provider_of(deployment: Deployment) -> Provider:
    """Return the dialect that a deployment's upstream speaks."""
    return azure if deployment.provider == "azure" else openai
