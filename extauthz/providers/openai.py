"""OpenAI, and whoever speaks like it.

https://platform.openai.com/docs/api-reference/realtime-sessions
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from extauthz.deployments import Deployment, Origin
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
TAKES_KEY_AT_CALLS: bool = True
HAS_WEBRTCFILTER: bool = False
TRANSCRIBES: bool = True
_REALTIME: Final = "/v1/realtime"


def key_headers(deployment: Deployment, entra_token: Secret | None = None) -> Mapping[str, Secret]:
    """Return the standard key as a bearer token, with organization and project."""
    return headers_with(
        deployment,
        "bearer",
        entra_token or deployment.api_key,
        openai_organization=deployment.organization,
        openai_project=deployment.project,
    )


def mint_request(deployment: Deployment, entra_token: Secret | None = None) -> UpstreamRequest:
    """Return the ``client_secrets`` request."""
    path = f"{deployment.base_path}{_REALTIME}/client_secrets"
    return json_post(deployment, path, key_headers(deployment, entra_token))


def mint_body(
    session: Mapping[str, Any], expires_after: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return ``{"session": ..., "expires_after": ...}``."""
    body: dict[str, Any] = {"session": dict(session)}
    return body if expires_after is None else {**body, "expires_after": dict(expires_after)}


def calls_origin(deployment: Deployment) -> Origin:
    """Return where it mints, too."""
    return deployment.origin


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    return f"{deployment.base_path}{_REALTIME}/calls"


def control_path(deployment: Deployment, call_id: str, verb: Verb) -> str:
    """Return the path that takes a command for a call."""
    return f"{calls_path(deployment)}/{path_segment(call_id)}/{verb}"


def sideband_path(deployment: Deployment, call_id: str) -> str:
    """Return the path of a WebSocket that joins a call; a model beside the call is refused."""
    return with_query(f"{deployment.base_path}{_REALTIME}", call_id=call_id)


def websocket_path(deployment: Deployment, *, intent: str | None = None) -> str:
    """Return the path of a WebSocket that is a conversation."""
    model = None if intent else deployment.upstream_model
    return with_query(f"{deployment.base_path}{_REALTIME}", model=model, intent=intent)
