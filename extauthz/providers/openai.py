"""OpenAI, and whoever speaks like it.

https://platform.openai.com/docs/api-reference/realtime-sessions
"""

from typing import Final, Literal

from extauthz.deployments import Deployment
from extauthz.providers.base import UpstreamRequest, json_post
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
_CLIENT_SECRETS: Final = "/v1/realtime/client_secrets"
_CALLS: Final = "/v1/realtime/calls"


def mint_request(deployment: Deployment) -> UpstreamRequest:
    """Return the ``client_secrets`` request: the standard key as a bearer token."""
    belongs_to = {
        "openai-organization": deployment.organization,
        "openai-project": deployment.project,
    }
    headers = {name: Secret(value) for name, value in belongs_to.items() if value is not None}
    return json_post(deployment, _CLIENT_SECRETS, "bearer", headers)


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    return deployment.base_path + _CALLS
