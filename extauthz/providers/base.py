"""What the dialects have in common: how a request and a credential are described."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from extauthz.deployments import Deployment, Origin
from ringback import __version__
from ringback.secrets import Secret

USER_AGENT: Final = f"ringback/{__version__}"
AuthScheme = Literal["bearer", "api-key"]

_JSON: Mapping[str, Secret] = MappingProxyType(
    {"accept": Secret("application/json"), "content-type": Secret("application/json")}
)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A POST to an upstream, without its body.

    Attributes:
        origin: Where it goes; ``origin.cluster`` routes it in Envoy, ``origin.authority`` is its
            ``Host``.
        path: The path, without a query.
        headers: Names in lower case. All values are secrets, so that the whole may be logged.
    """

    origin: Origin
    path: str
    headers: Mapping[str, Secret]


def credential(scheme: AuthScheme, key: Secret) -> tuple[str, Secret]:
    """Return the header, name and value, that shows a key to an upstream."""
    if scheme == "bearer":
        return "authorization", Secret(f"Bearer {key.reveal()}")
    return "api-key", key


def json_post(
    deployment: Deployment, path: str, scheme: AuthScheme, headers: Mapping[str, Secret]
) -> UpstreamRequest:
    """Return a POST of JSON, authorized by the deployment's own key.

    Args:
        deployment: Its extra headers come first, so that they replace none of the others.
        path: Path below ``base_path``.
        scheme: How the key is shown.
        headers: The dialect's own headers.
    """
    name, value = credential(scheme, deployment.api_key)
    return UpstreamRequest(
        deployment.origin,
        deployment.base_path + path,
        MappingProxyType({**deployment.extra_headers, **headers, **_JSON, name: value}),
    )
