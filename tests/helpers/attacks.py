"""A good request to each endpoint, to be spoiled, and what must hold whatever was sent."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from helpers.callforms import CONTENT_TYPE, form, part
from helpers.envoygateway.differences import HANDSHAKE_HEADERS
from helpers.expect import ORIGIN
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, OPENAI_KEY
from helpers.handles import CALL_ID, sealed
from helpers.http11 import Header, Message, request_bytes, send
from helpers.recording import Reply
from helpers.wsclient import UPGRADE

MINT: Final = "/v1/realtime/client_secrets"
TRANSCRIBE: Final = "/v1/realtime/transcription_sessions"
CALLS: Final = "/v1/realtime/calls"
# Of the token that the gateway under attack has revoked.
REVOKED_ID: Final = "revoked-by-the-tests"
SESSION: Final = {"type": "realtime", "model": "voice"}
# All that a provider may be sent, whatever the caller sent.
_NAMES: Final = frozenset(
    {
        "host",
        "authorization",
        "accept",
        "accept-encoding",
        "content-type",
        "content-length",
        "user-agent",
        "x-request-id",
        "openai-organization",
        "openai-safety-identifier",
    }
)
# Of extauthz' own requests, where no Envoy sends them on.
_DIRECT: Final = frozenset({"connection"})
_OF_WEBSOCKETS: Final = frozenset(
    {
        "connection",
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
    }
)
_TARGETS: Final = re.compile(
    rf"/v1/realtime(/client_secrets|/calls|/calls/{CALL_ID}/(hangup|accept|reject|refer)"
    rf"|\?model=gpt-realtime|\?call_id={CALL_ID}|\?intent=transcription(&model=gpt-realtime)?)"
)
_CREDENTIALS: Final = re.compile(rf"Bearer ({OPENAI_KEY}|ek_upstream_[a-z0-9_]+)")
_ANSWER_NAMES: Final = frozenset(
    {
        "content-type",
        "content-length",
        "date",
        "server",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "www-authenticate",
        "allow",
        "retry-after",
        "location",
        "cache-control",
        "connection",
        "upgrade",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "transfer-encoding",
    }
)


@dataclass(frozen=True, slots=True)
class Shot:
    """One request.

    Attributes:
        status: What it is answered with if nothing is wrong with it.
        credential: Shown as bearer; None for none.
    """

    method: str
    target: str
    credential: str | None
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    status: int = 200

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def lines(self) -> list[Header]:
        """Return all headers but those of framing."""
        shown = [] if self.credential is None else [bearer(self.credential)]
        return [("origin", ORIGIN), *shown, *self.headers]

    def to_bytes(self, *further: Header) -> bytes:
        """Return the request as it goes over the wire."""
        return request_bytes(self.method, self.target, [*self.lines(), *further], self.body)

    def with_(
        self, *headers: Header, target: str | None = None, body: bytes | None = None
    ) -> "Shot":
        """Return the same request with more headers, another target or another body."""
        return replace(
            self,
            headers=(*self.headers, *headers),
            target=self.target if target is None else target,
            body=self.body if body is None else body,
        )


ENDPOINTS: Final = (
    "mint",
    "transcription",
    "call",
    "call_form",
    "key_call",
    "key_form",
    "hangup",
    "accept",
    "websocket",
    "sideband",
)


def good(gateway: Gateway, endpoint: str) -> Shot:
    """Return a request that an endpoint answers well, and make the upstream take it."""
    gateway.openai.script |= {"hangup": Reply(200), "accept": Reply(200)}
    sdp_part = part("sdp", OFFER, "application/sdp")
    session_part = part("session", json.dumps(SESSION).encode(), "application/json")
    form_type = ("content-type", CONTENT_TYPE)
    control = f"{CALLS}/{sealed()}"
    shots = {
        "mint": Shot("POST", MINT, KEY, (JSON_TYPE,), json.dumps({"session": SESSION}).encode()),
        "transcription": Shot("POST", TRANSCRIBE, KEY, (JSON_TYPE,), b'{"model":"voice"}'),
        "call": Shot("POST", CALLS, gateway.seal(), (SDP_TYPE,), OFFER, 201),
        "call_form": Shot("POST", CALLS, gateway.seal(), (form_type,), form(sdp_part), 201),
        "key_call": Shot("POST", f"{CALLS}?model=voice", KEY, (SDP_TYPE,), OFFER, 201),
        "key_form": Shot("POST", CALLS, KEY, (form_type,), form(sdp_part, session_part), 201),
        "hangup": Shot("POST", f"{control}/hangup", KEY),
        "accept": Shot("POST", f"{control}/accept", KEY, (JSON_TYPE,), b'{"type":"realtime"}'),
        "websocket": Shot("GET", "/v1/realtime?model=voice", KEY, UPGRADE, status=101),
        "sideband": Shot("GET", f"/v1/realtime?call_id={sealed()}", KEY, UPGRADE, status=101),
    }
    return shots[endpoint]


async def shoot(gateway: Gateway, shot: Shot) -> Message:
    """Send a request, and check what must hold for every answer and for what went upstream."""
    answer = await send(gateway.port, shot.to_bytes())
    if answer.status == 101 and HANDSHAKE_HEADERS in gateway.dataplane.differences:
        check_lines(answer.headers)
    else:
        check_answer(answer)
    check_received(gateway)
    return answer


def check_answer(answer: Message, *, most: int = 499) -> None:
    """Check that an answer is the gateway's: no surprising header, and of errors the one shape."""
    assert answer.status <= most, answer.raw
    assert answer.names <= _ANSWER_NAMES, answer.names - _ANSWER_NAMES
    if answer.status >= 400:
        assert answer.header("content-type") == "application/json"
        assert answer.body == b"" or answer.error
    check_lines(answer.headers)


def check_received(gateway: Gateway) -> None:
    """Check that whatever an upstream has received is one of our own requests, in one spelling."""
    assert gateway.azure.received == []
    for request in gateway.openai.received:
        assert request.method in {"POST", "GET"}
        assert _TARGETS.fullmatch(request.target), request.target
        is_websocket = request.method == "GET"
        names = _NAMES | _OF_WEBSOCKETS if is_websocket else _NAMES
        if gateway.dataplane.egress == "direct":
            names |= _DIRECT
        assert request.names <= names, request.names - names
        assert len(request.headers) == len(request.names)
        assert request.header("host") == f"127.0.0.1:{gateway.openai.port}"
        assert _CREDENTIALS.fullmatch(request.header("authorization") or "")
        if not is_websocket:
            assert request.header("content-length") == str(len(request.body))
        check_lines(request.headers)


def check_lines(headers: Iterable[Header]) -> None:
    """Check that no line of a head holds a character that could end it."""
    for name, value in headers:
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), name
        assert re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", value), name


async def check_unharmed(gateway: Gateway) -> None:
    """Check that a token is minted and opens a call, as if nothing had happened."""
    gateway.reset()
    answer = await gateway.call(await gateway.token())
    assert answer.status == 201, answer.raw
    assert [request.target for request in gateway.received] == [MINT, CALLS]
    check_received(gateway)
