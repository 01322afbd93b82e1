"""What the dialects have in common: how a request and a credential are described."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal
from urllib.parse import quote, urlencode

from extauthz.deployments import Deployment, Origin
from ringback import __version__
from ringback.secrets import Secret

USER_AGENT: Final = f"ringback/{__version__}"
AuthScheme = Literal["bearer", "api-key"]
Verb = Literal["hangup", "accept", "reject", "refer"]
"""What can be done with a call from outside."""

_CREDENTIALS: Final = ("authorization", "api-key")
# What may be quoted: a provider's words about a limit, for example, name the organization.
_NO_KEYS: Final = frozenset(
    {
        "accept",
        "content-type",
        "openai-organization",
        "openai-project",
        "openai-safety-identifier",
    }
)
_MIN_KEY_CHARS: Final = 16
_JSON: Mapping[str, Secret] = MappingProxyType(
    {"accept": Secret("application/json"), "content-type": Secret("application/json")}
)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A POST to an upstream, without its body.

    Attributes:
        origin: Where it goes; ``origin.cluster`` routes it in Envoy, ``origin.authority`` is its
            ``Host``.
        path: Path and query.
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


def quotes_credential(body: bytes, headers: Mapping[str, Secret]) -> bool:
    """Tell whether an upstream's answer quotes what opened it, and so must not reach anybody.

    Args:
        body: The answer's; JSON may spell a key with escapes.
        headers: The request's, from the dialect's ``key_headers``. Of extra headers only a value
            counts that is long enough for a key.
    """
    texts = [body.decode(errors="replace")]
    with suppress(ValueError, RecursionError):
        texts.append(json.dumps(json.loads(body), ensure_ascii=False))
    for name, value in headers.items():
        key = value.reveal().removeprefix("Bearer ")
        is_key = name in _CREDENTIALS or (name not in _NO_KEYS and len(key) >= _MIN_KEY_CHARS)
        spellings = {key, json.dumps(key)[1:-1]}
        if key and is_key and any(spelt in text for spelt in spellings for text in texts):
            return True
    return False


def json_post(
    deployment: Deployment, path: str, key_headers: Mapping[str, Secret]
) -> UpstreamRequest:
    """Return a POST of JSON to where a deployment mints.

    Args:
        deployment: Whose upstream it is.
        path: The whole path and query.
        key_headers: What opens it, from the dialect's ``key_headers``.
    """
    return UpstreamRequest(deployment.origin, path, MappingProxyType({**key_headers, **_JSON}))


def headers_with(
    deployment: Deployment, scheme: AuthScheme, key: Secret, **own: str | None
) -> Mapping[str, Secret]:
    """Return the headers that open an upstream.

    Args:
        deployment: Its extra headers come first, so that they replace none of the others.
        scheme: How the key is shown.
        key: The standard key, or a token of Entra ID.
        own: The dialect's own headers with ``_`` for ``-``; None for those that are not sent.
    """
    name, value = credential(scheme, key)
    named = {name.replace("_", "-"): Secret(text) for name, text in own.items() if text is not None}
    return MappingProxyType({**deployment.extra_headers, **named, name: value})


def path_segment(text: str) -> str:
    """Return a text as one segment of a path (RFC 3986 section 3.3)."""
    return quote(text, safe="")


def with_query(path: str, **parameters: str | None) -> str:
    """Return a path with a query of those parameters that are not None.

    ``api_version`` is spelt with a hyphen there, and nothing else. Spaces become ``%20``, which
    every server reads alike.
    """
    pairs = [
        ("api-version" if name == "api_version" else name, text)
        for name, text in parameters.items()
        if text is not None
    ]
    query = urlencode(pairs, quote_via=quote, safe="")
    return f"{path}?{query}" if query else path


@dataclass(frozen=True, slots=True)
class CurrentPaths:
    """Paths of the current API, which OpenAI and Azure lay out alike below a root of their own.

    Attributes:
        root: For example ``/v1/realtime``; the deployment's base path stands before it.
    """

    root: str

    def client_secrets(self, deployment: Deployment) -> str:
        """Return the path that mints."""
        return f"{self._root(deployment)}/client_secrets"

    def calls(self, deployment: Deployment) -> str:
        """Return the path that takes an offer."""
        return f"{self._root(deployment)}/calls"

    def control(self, deployment: Deployment, call_id: str, verb: Verb) -> str:
        """Return the path that takes a command for a call."""
        return f"{self.calls(deployment)}/{path_segment(call_id)}/{verb}"

    def sideband(self, deployment: Deployment, call_id: str) -> str:
        """Return the path of a WebSocket that joins a call; a model beside the call is refused."""
        return with_query(self._root(deployment), call_id=call_id)

    def websocket(self, deployment: Deployment, *, intent: str | None = None) -> str:
        """Return the path of a WebSocket that is a conversation."""
        model = None if intent else deployment.upstream_model
        return with_query(self._root(deployment), model=model, intent=intent)

    def _root(self, deployment: Deployment) -> str:
        return deployment.base_path + self.root
