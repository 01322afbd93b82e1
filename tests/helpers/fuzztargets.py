"""What reads bytes of strangers, as targets of the fuzzer: whatever is raised is a finding.

A target takes one input. Its seeds are inputs that are good, or nearly.
"""

import json
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from extauthz.callcontrol import control_body, parse_control_path
from extauthz.decision import RequestFacts
from extauthz.errors import ConfigError
from extauthz.jsontext import JsonError, parse_object
from extauthz.keys.keyfile import parse_keys
from extauthz.keys.oidcclaims import JwtRefusedError, is_jwt, read_jwt
from extauthz.litellm import load_config
from extauthz.mintbody import parse_mint_request, parse_minted, parse_session
from extauthz.websocket import parse_query, with_credential
from helpers.authz import CLAIMS, NOW, OPENAI, sealer, upstream_body
from helpers.callforms import CONTENT_TYPE, form, part
from ringback.callform import parse_call_form
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings
from ringback.tokens.claims import CallClaims
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import open_handle, parse_call_id

_SECRET: Final = "sk-secret-of-the-fuzzer-0123456789"
_OIDC: Final = OidcSettings(
    issuer="https://idp.example", audience=("ringback",), jwks_url="https://idp.example/keys"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        check: Runs one input through it.
        seeds: Inputs to begin with.
    """

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def check_token(data: bytes) -> None:
    """Open what may be a token or a handle; nothing but what was sealed opens."""
    text, tokens = data.decode("latin-1"), sealer()
    try:
        claims = CallClaims.from_claims(tokens.open(text, NOW))
    except TokenError:
        pass
    else:
        assert text == _token(), claims
    try:
        open_handle(text, tokens, NOW)
    except TokenError:
        return
    raise AssertionError("a handle that nobody has sealed")


def check_claims(data: bytes) -> None:
    """Read claims that only somebody with the sealing key could have sealed."""
    try:
        claims = parse_object(data)
    except JsonError:
        return
    with suppress(TokenError):
        assert CallClaims.from_claims(claims).to_claims() == claims
    with suppress(ValueError):
        assert parse_call_id(data.decode()) in data.decode()


def check_form(data: bytes) -> None:
    """Read a form; the parts are in it, byte by byte."""
    content_type, _, body = data.partition(b"\0")
    try:
        found = parse_call_form(content_type.decode("latin-1"), body)
    except ApiError as error:
        _check_refusal(error, 400)
        return
    assert found.offer in body
    assert found.session is None or found.session in body


def check_body(data: bytes) -> None:
    """Read bodies of mint requests and of providers' answers; no ephemeral key gets through."""
    for parse in (parse_mint_request, lambda session: parse_session(session, None)):
        try:
            wanted = parse(data)
        except ApiError as error:
            _check_refusal(error, 400)
        else:
            sent = upstream_body(wanted)
            assert sent["session"]["type"] == wanted.session_type
    for verb in ("accept", "reject", "refer"):
        try:
            json.loads(control_body(verb, data, OPENAI))
        except ApiError as error:
            _check_refusal(error, 400)
    try:
        minted = parse_minted(data)
        body = minted.downstream_body("ek_token", NOW)
    except ApiError as error:
        _check_refusal(error, 502)
    else:
        assert minted.ephemeral_key.to_bytes() not in body
        json.loads(body)


def check_config(data: bytes) -> None:
    """Read a LiteLLM configuration and a key file; problems quote no secret."""
    path = _folder() / "config.yaml"
    path.write_bytes(data)
    try:
        config = load_config(path, {"KEY": _SECRET})
        texts = config.notes
    except ConfigError as error:
        texts = (*error.problems, str(error))
    try:
        parse_keys(data, "keys.yaml")
    except ConfigError as error:
        texts = (*texts, *error.problems)
    assert not any(_SECRET in text for text in texts)
    assert all(text.isprintable() for text in texts if "\n" not in text)


def check_jwt(data: bytes) -> None:
    """Read what a JWT says before anybody has verified it."""
    credential = Secret(data.decode("latin-1"))
    if not is_jwt(credential):
        # With a part too few it is no business of the reader; most inputs shall reach it.
        head, _, rest = data.partition(b"\n")
        parts = (urlsafe_b64encode(part).rstrip(b"=") for part in (head, rest))
        credential = Secret(b".".join([*parts, b"c2ln"]).decode())
    try:
        read = read_jwt(credential, _OIDC)
    except JwtRefusedError:
        return
    assert read.algorithm in _OIDC.algorithms


def check_request(data: bytes) -> None:
    """Read path, query and headers of requests about calls and WebSockets."""
    path, _, rest = data.decode("latin-1").partition("?")
    query, _, header = rest.partition("\n")
    found = parse_control_path(path)
    assert found is None or "/" not in found[0]
    try:
        parse_query(query)
    except ApiError as error:
        _check_refusal(error, 400)
    headers = {"sec-websocket-protocol": header, "upgrade": "websocket"}
    shown = with_credential(RequestFacts("GET", "/v1/realtime", headers, query=query))
    assert shown.headers.get("authorization", "Bearer ").startswith("Bearer ")


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


@cache
def _token() -> str:
    return sealer().seal(CLAIMS.to_claims(), NOW)


def _check_refusal(error: ApiError, status: int) -> None:
    assert error.http_status == status
    assert _SECRET.encode() not in error.to_body()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _jwt(header: Mapping[str, Any]) -> bytes:
    parts = (header, {"iss": _OIDC.issuer, "aud": "ringback", "sub": "ada", "exp": NOW + 60})
    encoded = [urlsafe_b64encode(_json(value)).rstrip(b"=") for value in parts]
    return b".".join([*encoded, b"c2ln"])


_SESSION: Final = {
    "type": "realtime",
    "model": "voice",
    "instructions": "Be brief.",
    "audio": {"input": {"transcription": {"model": "whisper"}}, "output": {"voice": "alloy"}},
}
_CONFIG: Final = {
    "model_list": [
        {
            "model_name": "voice",
            "litellm_params": {
                "model": "azure/rt",
                "api_base": "https://res.openai.azure.com",
                "api_key": "os.environ/KEY",
                "api_version": "2025-08-28",
                "weight": 2,
                "extra_headers": {"x-a": "b"},
            },
            "model_info": {"id": "d1", "access_groups": ["g"], "mode": "realtime"},
        }
    ],
    "router_settings": {"model_group_alias": {"fast": "voice"}, "fallbacks": [{"voice": ["b"]}]},
    "general_settings": {"master_key": "os.environ/KEY"},
    "litellm_settings": {"max_budget": 1.5},
    "environment_variables": {"A": "b"},
}
TARGETS: Final = MappingProxyType(
    {
        "token": Target(check_token, (_token().encode(), b"rtc_", b"ek_eyJ.." + b"A" * 40)),
        "claims": Target(check_claims, (_json(CLAIMS.to_claims()),)),
        "form": Target(
            check_form,
            (
                CONTENT_TYPE.encode()
                + b"\0"
                + form(part("sdp", b"v=0\r\n"), part("session", _json(_SESSION))),
            ),
        ),
        "body": Target(
            check_body,
            (
                _json({"session": _SESSION, "expires_after": {"seconds": 60}}),
                _json(_SESSION),
                _json({"value": "ek_0123456789abcdef", "expires_at": NOW, "session": _SESSION}),
                _json({"client_secret": {"value": "ek_0123456789abcdef"}}),
                _json({"target_uri": "tel:+14155550123", "status_code": 603}),
            ),
        ),
        "config": Target(
            check_config,
            (
                _json(_CONFIG),
                b"keys:\n- {hash: " + b"ab" * 32 + b", alias: web, models: [a], team: t}\n",
                b"model_list:\n- model_name: a\n  litellm_params: {model: openai/b, api_key: k}\n",
            ),
        ),
        "jwt": Target(
            check_jwt,
            (
                _jwt({"alg": "RS256", "kid": "a"}),
                _json({"alg": "ES256", "typ": "JWT"}) + b"\n" + _json({"iss": _OIDC.issuer}),
            ),
        ),
        "request": Target(
            check_request,
            (
                b"/v1/realtime/calls/rtc_abc/hangup?model=voice&intent=transcription\nrealtime",
                b"?model=a\nrealtime, openai-insecure-api-key.sk-1",
                b"/openai/v1/realtime/calls/x/refer?call_id=rtc_a",
            ),
        ),
    }
)
