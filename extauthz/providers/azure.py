"""Azure OpenAI, generally available (v1) API: no ``api-version``, and a bearer token for calls.

https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-webrtc
"""

from collections.abc import Mapping
from typing import Final, Literal

from extauthz.deployments import Deployment
from extauthz.providers import openai
from extauthz.providers.base import CurrentPaths, UpstreamRequest, headers_with, json_post
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
HAS_WEBRTCFILTER: bool = True
TRANSCRIBES: bool = True
_PATHS: Final = CurrentPaths("/openai/v1/realtime")

calls_path = _PATHS.calls
control_path = _PATHS.control
sideband_path = _PATHS.sideband
websocket_path = _PATHS.websocket
mint_body = openai.mint_body
calls_origin = openai.calls_origin


def key_headers(deployment: Deployment, entra_token: Secret | None = None) -> Mapping[str, Secret]:
    """Return the resource's key as ``api-key``, or the token of Entra ID as a bearer token."""
    if entra_token is not None:
        return headers_with(deployment, "bearer", entra_token)
    return headers_with(deployment, "api-key", deployment.api_key)


def mint_request(deployment: Deployment, entra_token: Secret | None = None) -> UpstreamRequest:
    """Return the ``client_secrets`` request."""
    path = _PATHS.client_secrets(deployment)
    return json_post(deployment, path, key_headers(deployment, entra_token))
