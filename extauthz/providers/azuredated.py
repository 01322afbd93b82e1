"""Azure OpenAI below ``/openai`` with a dated ``api-version``: LiteLLM's and AzureOpenAI's paths.

Microsoft documents WebRTC without versions (`extauthz.providers.azure`); this is for resources, and
gateways in front of them, that still want one. The bodies are those of the current API. Calls show
the ephemeral key as a bearer token and send the bare offer, as Azure documents; LiteLLM sends
``api-key`` and a form, which Azure documents nowhere.
"""

from typing import Final, Literal

from extauthz.deployments import Deployment
from extauthz.providers import azure
from extauthz.providers.base import UpstreamRequest, Verb, json_post, path_segment, with_query
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
HAS_WEBRTCFILTER: bool = True
TRANSCRIBES: bool = True
_REALTIME: Final = "/openai/realtime"

key_headers = azure.key_headers
mint_body = azure.mint_body
calls_origin = azure.calls_origin
# Joining a call has no dated path.
sideband_path = azure.sideband_path


def mint_request(deployment: Deployment, entra_token: Secret | None = None) -> UpstreamRequest:
    """Return the ``client_secrets`` request."""
    path = _path(deployment, "/client_secrets")
    return json_post(deployment, path, key_headers(deployment, entra_token))


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    return _path(deployment, "/calls")


def control_path(deployment: Deployment, call_id: str, verb: Verb) -> str:
    """Return the path that takes a command for a call."""
    return _path(deployment, f"/calls/{path_segment(call_id)}/{verb}")


def websocket_path(deployment: Deployment, *, intent: str | None = None) -> str:
    """Return the path of a WebSocket that is a conversation."""
    return with_query(
        f"{deployment.base_path}{_REALTIME}",
        api_version=deployment.api_version,
        deployment=None if intent else deployment.upstream_model,
        intent=intent,
    )


def _path(deployment: Deployment, path: str) -> str:
    whole = f"{deployment.base_path}{_REALTIME}{path}"
    return with_query(whole, api_version=deployment.api_version)
