"""WebSockets: what a handshake asks for, and the upstream handshake that it becomes. Pure.

https://www.rfc-editor.org/rfc/rfc6455#section-4
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import parse_qsl

from extauthz.credentials import AUTHORIZATION, KEY_HEADERS
from extauthz.decision import Allow, Labels, RequestFacts
from extauthz.deployments import Origin
from extauthz.errors import ModelRequiredError
from extauthz.providers.base import USER_AGENT
from ringback.contract import CLUSTER_HEADER, ROUTE_HEADER, ROUTE_WEBSOCKET, WEBSOCKET_PATHS
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings.origins import origin_regex

SUBPROTOCOLS: Final = "sec-websocket-protocol"
# What browsers send their key in, since they can set no header (as at OpenAI and in LiteLLM).
KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
# The one that browsers are answered with: they insist on one of those that they offered.
SUBPROTOCOL: Final = "realtime"
TRANSCRIPTION: Final = "transcription"

# Request headers that may leave. No subprotocol: the key is in one, and the answer's is made here.
_FORWARDED: Final = frozenset(
    {
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "x-request-id",
        # Envoy finds no route without it; the route removes it.
        "x-forwarded-proto",
    }
)
_PARAMETERS: Final = ("model", "call_id", "intent")
# Azure's older name of it, which AzureOpenAI sends.
_DEPLOYMENT: Final = "deployment"
# Names of models and handles. U+FFFD is what is no UTF-8 has become.
_VALUE: Final = re.compile(r"[^\x00-\x20\x7f-\xa0\ufffd][^\x00-\x1f\x7f-\x9f\ufffd]{0,8191}")


class InvalidQueryError(ApiError):
    """The query of a WebSocket cannot be used: 400.

    Args:
        param: The parameter that is wrong.
        problem: What is wrong, and what to do.
    """

    http_status = 400
    type = "invalid_request_error"
    code = "query_invalid"

    def __init__(self, param: str, problem: str) -> None:
        self.param = param
        self._problem = problem

    def __str__(self) -> str:
        return self._problem


class OriginDeniedError(ApiError):
    """A page of another origin opens the WebSocket: 403."""

    http_status = 403
    type = "invalid_request_error"
    code = "origin_denied"

    def __str__(self) -> str:
        return (
            "Pages of this origin may not open WebSockets here. "
            "Ask your platform team to add it to websocket.origins."
        )


class WebSocketModelRequiredError(ModelRequiredError):
    """The query names no model, and to choose one would be a guess: 400."""

    def __str__(self) -> str:
        return "The request names no model. Open GET /v1/realtime?model=... instead."


@dataclass(frozen=True, slots=True)
class WebSocketQuery:
    """What the query asks for; everything else in it is left behind.

    Attributes:
        model: A model group or alias, in ``deployment`` where there is no ``model``; None: the one
            that there is, or the token's.
        call_id: The handle of a call; then there is no model.
        intent: ``transcription`` or None.
    """

    model: str | None = None
    call_id: str | None = None
    intent: str | None = None


def is_websocket(request: RequestFacts) -> bool:
    """Tell whether a request is a WebSocket handshake at one of our paths."""
    return (
        request.method == "GET"
        and request.path in WEBSOCKET_PATHS
        and request.headers.get("upgrade", "").lower() == "websocket"
    )


def is_sideband(request: RequestFacts) -> bool:
    """Tell whether a request is a handshake about a call that is there already."""
    return is_websocket(request) and any(name == "call_id" for name, _ in _pairs(request.query))


def parse_query(query: str) -> WebSocketQuery:
    """Return what a query asks for.

    Args:
        query: Without the question mark.

    Raises:
        InvalidQueryError: If it names something twice, both a model and a call, or has a value
            that cannot be: 400.
    """
    pairs = _pairs(query)
    if all(name != "model" for name, _ in pairs):
        pairs = [("model" if name == _DEPLOYMENT else name, value) for name, value in pairs]
    known = [(name, value) for name, value in pairs if name in _PARAMETERS]
    for name, value in known:
        if [other for other, _ in known].count(name) > 1:
            raise InvalidQueryError(name, f"The query has {name} more than once. Send one.")
        if not _VALUE.fullmatch(value):
            raise InvalidQueryError(name, f"The value of {name} cannot be used. Check it.")
    wanted = WebSocketQuery(**dict(known))
    if wanted.call_id is not None and (wanted.model or wanted.intent):
        raise InvalidQueryError("call_id", "A call has its model. Send call_id alone.")
    if wanted.intent not in {None, TRANSCRIPTION}:
        raise InvalidQueryError("intent", "The only intent there is is transcription.")
    return wanted


def with_credential(request: RequestFacts) -> RequestFacts:
    """Return the handshake with the key of a subprotocol in the ``authorization`` header.

    A key in a header goes before one in a subprotocol, as in LiteLLM.
    """
    if any(request.headers.get(name, "").strip() for name in KEY_HEADERS):
        return request
    keys = [
        offer.removeprefix(KEY_SUBPROTOCOL)
        for offer in _offers(request.headers)
        if offer.startswith(KEY_SUBPROTOCOL)
    ]
    if not keys:
        return request
    # Several of them are no key: joined by a comma, they are refused as several headers are.
    return replace(request, headers={**request.headers, AUTHORIZATION: f"Bearer {','.join(keys)}"})


def check_origin(headers: Mapping[str, str], patterns: Sequence[str]) -> None:
    """Check that a browser's page may open WebSockets; who sends no Origin is no browser.

    Args:
        headers: Names in lower case.
        patterns: As in the setting ``websocket.origins``.

    Raises:
        OriginDeniedError: If it may not: 403.
    """
    origin = headers.get("origin")
    if origin is not None and not any(re.fullmatch(origin_regex(p), origin) for p in patterns):
        raise OriginDeniedError


def allow_websocket(
    request: RequestFacts,
    origin: Origin,
    path: str,
    credentials: Mapping[str, Secret],
    labels: Labels,
) -> Allow:
    """Return how a handshake changes so that it reaches a deployment.

    Args:
        request: The downstream's.
        origin: Where it goes.
        path: The upstream's path and query.
        credentials: Headers that open it.
        labels: With the outcome ``websocket`` or ``sideband``.
    """
    headers = {
        **credentials,
        "user-agent": Secret(USER_AGENT),
        CLUSTER_HEADER: Secret(origin.cluster),
        ROUTE_HEADER: Secret(ROUTE_WEBSOCKET),
        ":authority": Secret(origin.authority),
        ":path": Secret(path),
    }
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in _offers(request.headers) else None
    return Allow(
        replace(labels, subprotocol=subprotocol),
        headers,
        tuple(_removed(request.headers, headers)),
    )


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, errors="replace")


def _removed(names: Iterable[str], added: Mapping[str, Secret]) -> Iterable[str]:
    kept = _FORWARDED | added.keys()
    return (name for name in names if name not in kept and not name.startswith(":"))


def _offers(headers: Mapping[str, str]) -> list[str]:
    return [offer.strip(" \t") for offer in headers.get(SUBPROTOCOLS, "").split(",")]
