"""OpenAI, and whoever speaks like it.

https://platform.openai.com/docs/api-reference/realtime-sessions
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from extauthz.deployments import Deployment, Origin
from extauthz.providers.base import CurrentPaths, UpstreamRequest, headers_with, json_post
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
HAS_WEBRTCFILTER: bool = False
TRANSCRIBES: bool = True
_PATHS: Final = CurrentPaths("/v1/realtime")

calls_path = _PATHS.calls
control_path = _PATHS.control
sideband_path = _PATHS.sideband
websocket_path = _PATHS.websocket


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
    path = _PATHS.client_secrets(deployment)
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
