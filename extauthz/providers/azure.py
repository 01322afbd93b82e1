"""Azure OpenAI, generally available (v1) API: no ``api-version``, and a bearer token for calls.

https://learn.microsoft.com/azure/ai-foundry/openai/how-to/realtime-audio-webrtc
"""

from collections.abc import Mapping
from typing import Final, Literal

from extauthz.deployments import Deployment
from extauthz.providers import openai
from extauthz.providers.base import (
    UpstreamRequest,
    Verb,
    headers_with,
    json_post,
    path_segment,
    with_query,
)
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
# "This operation requires ephemeral tokens for authentication", says Azure to any other key.
TAKES_KEY_AT_CALLS: bool = False
HAS_WEBRTCFILTER: bool = True
TRANSCRIBES: bool = True
_REALTIME: Final = "/openai/v1/realtime"

mint_body = openai.mint_body
calls_origin = openai.calls_origin


def key_headers(deployment: Deployment, entra_token: Secret | None = None) -> Mapping[str, Secret]:
    """Return the resource's key as ``api-key``, or the token of Entra ID as a bearer token."""
    if entra_token is not None:
        return headers_with(deployment, "bearer", entra_token)
    return headers_with(deployment, "api-key", deployment.api_key)


def mint_request(deployment: Deployment, entra_token: Secret | None = None) -> UpstreamRequest:
    """Return the ``client_secrets`` request."""
    path = f"{deployment.base_path}{_REALTIME}/client_secrets"
    return json_post(deployment, path, key_headers(deployment, entra_token))


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    return f"{deployment.base_path}{_REALTIME}/calls"


def control_path(deployment: Deployment, call_id: str, verb: Verb) -> str:
    """Return the path that takes a command for a call."""
    return f"{calls_path(deployment)}/{path_segment(call_id)}/{verb}"


def sideband_path(deployment: Deployment, call_id: str) -> str:
    """Return the path of a WebSocket that joins a call."""
    return with_query(f"{deployment.base_path}{_REALTIME}", call_id=call_id)


def websocket_path(deployment: Deployment, *, intent: str | None = None) -> str:
    """Return the path of a WebSocket that is a conversation."""
    model = None if intent else deployment.upstream_model
    return with_query(f"{deployment.base_path}{_REALTIME}", model=model, intent=intent)
