"""Azure OpenAI, generally available (v1) API: no ``api-version``, and a bearer token for calls.

https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-webrtc
"""

from typing import Final, Literal

from extauthz.deployments import Deployment
from extauthz.providers.base import UpstreamRequest, json_post

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
_CLIENT_SECRETS: Final = "/openai/v1/realtime/client_secrets"
_CALLS: Final = "/openai/v1/realtime/calls"


def mint_request(deployment: Deployment) -> UpstreamRequest:
    """Return the ``client_secrets`` request: the resource's key as ``api-key``."""
    return json_post(deployment, _CLIENT_SECRETS, "api-key", {})


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    return deployment.base_path + _CALLS
