"""``calls``: a sealed token becomes the upstream request that it was made for."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qs

from extauthz.catalogue import Catalogue
from extauthz.decision import Allow, RequestFacts, labels_of
from extauthz.deployments import Deployment
from extauthz.errors import AuthError
from extauthz.providers import provider_of
from extauthz.providers.base import USER_AGENT, credential
from extauthz.safety import SAFETY_IDENTIFIER
from ringback.callform import is_form, parse_call_form
from ringback.contract import CLUSTER_HEADER, OUTCOME_CALL
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.tokens.claims import CallClaims

# Request headers that may leave for a provider, besides those that we set. x-request-id is Envoy's
# own random one, by which the operator and the provider can talk about a request.
FORWARDED_HEADERS: Final = frozenset({"content-type", "content-length", "x-request-id"})
# Envoy finds no route without it; the route removes it.
_ROUTING_HEADERS: Final = frozenset({"x-forwarded-proto"})
# Azure then keeps most events of the data channel from the browser. The one query that passes.
_FILTER: Final = "webrtcfilter"


class TokenRefusedError(AuthError):
    """Not a token that may open a call: one answer for every reason, so that it teaches nobody."""

    type = "invalid_request_error"
    code = "token_invalid"

    def __str__(self) -> str:
        return (
            "The token is invalid or has expired. Request a new one from "
            "POST /v1/realtime/client_secrets and send it as `Authorization: Bearer ek_...`."
        )


class DeploymentGoneError(TokenRefusedError):
    """The deployment that minted the token is not served any more, is paused or has moved: 401.

    Whoever reads this holds a good token, so that it teaches nobody else anything.
    """

    code = "deployment_gone"

    def __str__(self) -> str:
        return (
            "The token is good, but the deployment that it was made for is not served any more. "
            "Request a new one from POST /v1/realtime/client_secrets."
        )


class SessionFixedError(ApiError):
    """A call with a token brings a session of its own: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "session_fixed"
    param = "session"

    def __str__(self) -> str:
        return (
            "The session of a token is fixed when the token is made. Send it to "
            "POST /v1/realtime/client_secrets, or make the call with your key instead of a token."
        )


def check_form(request: RequestFacts) -> None:
    """Check that a form, if a call with a token comes as one, holds the offer alone.

    A session in it would replace the one that the token was made for, and the model with it.

    Raises:
        InvalidFormError: If the form cannot be read: 400.
        SessionFixedError: If it holds a session: 400.
    """
    content_type = request.headers.get("content-type", "")
    if is_form(content_type) and parse_call_form(content_type, request.body).session is not None:
        raise SessionFixedError


def allow_call(
    claims: CallClaims,
    deployment: Deployment | None,
    header_names: Iterable[str],
    *,
    query: str = "",
    identifier: Secret | None = None,
) -> Allow:
    """Return how the request changes so that it reaches the deployment that minted the token.

    Args:
        claims: What the token says.
        deployment: The deployment that it names; None if there is none any more.
        header_names: Names of all request headers, in lower case.
        query: The caller's query; ``webrtcfilter=on`` passes where the provider knows it.
        identifier: The ``OpenAI-Safety-Identifier``, if one is sent.

    Raises:
        DeploymentGoneError: If the deployment is gone or paused, or has moved: another origin has
            no business with the ephemeral key.
    """
    if deployment is None or not takes_calls(claims, deployment):
        raise DeploymentGoneError
    origin = provider_of(deployment).calls_origin(deployment)
    name, value = credential(claims.auth_scheme, claims.ek)
    headers = {
        **deployment.extra_headers,
        "accept": Secret("application/sdp"),
        "user-agent": Secret(USER_AGENT),
        name: value,
        CLUSTER_HEADER: Secret(origin.cluster),
        ":authority": Secret(origin.authority),
        ":path": Secret(_path(claims, deployment, query)),
    }
    if identifier is not None:
        headers[SAFETY_IDENTIFIER] = identifier
    kept = FORWARDED_HEADERS | _ROUTING_HEADERS | headers.keys()
    removed = tuple(
        header for header in header_names if header not in kept and not header.startswith(":")
    )
    return Allow(labels_of(claims, OUTCOME_CALL), headers, removed)


def pinned(claims: CallClaims, catalogue: Catalogue) -> Deployment | None:
    """Return the deployment that minted a token, None if it takes the token's calls no more."""
    deployment = catalogue.by_id(claims.deployment)
    return deployment if deployment and takes_calls(claims, deployment) else None


def takes_calls(claims: CallClaims, deployment: Deployment) -> bool:
    """Tell whether a deployment is neither paused nor elsewhere."""
    return not deployment.blocked and is_where_it_was(claims, deployment)


def is_where_it_was(claims: CallClaims, deployment: Deployment) -> bool:
    """Tell whether a deployment has not moved since: another origin may not see the key."""
    return claims.origin == str(provider_of(deployment).calls_origin(deployment))


def _path(claims: CallClaims, deployment: Deployment, query: str) -> str:
    """Return the path of a call; a caller can ask for the filter and never turn it off."""
    is_asked = parse_qs(query).get(_FILTER) == ["on"]
    if not provider_of(deployment).HAS_WEBRTCFILTER or not (deployment.webrtcfilter or is_asked):
        return claims.calls_path
    return f"{claims.calls_path}{'&' if '?' in claims.calls_path else '?'}{_FILTER}=on"
