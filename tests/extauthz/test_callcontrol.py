import json
from dataclasses import replace

import pytest

from extauthz.callcontrol import control_body, is_owner, parse_control_path
from extauthz.keys.model import VirtualKey
from extauthz.mintbody import InvalidBodyError
from extauthz.providers.base import Verb
from helpers.authz import AZURE, NOW, OPENAI
from helpers.authz import CLAIMS as MADE
from ringback.tokens.claims import CallClaims
from ringback.tokens.handles import CallHandle

HANDLE = CallHandle(
    deployment="d-openai", call_id="rtc_1", key_hash="hash-a", token_id="token-1", issued_at=NOW
)
CLAIMS = replace(MADE, key_hash="hash-a")


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        # Realistic
        pytest.param(VirtualKey("hash-a"), True, id="key"),
        pytest.param(VirtualKey("hash-b"), False, id="other-key"),
        pytest.param(VirtualKey("hash-b", team="t"), False, id="other-key-of-a-team"),
        pytest.param(VirtualKey("hash-b", is_master=True), True, id="master"),
        pytest.param(CLAIMS, True, id="token"),
        pytest.param(replace(CLAIMS, jti="token-2"), False, id="other-token"),
        # Synthetic
        pytest.param(replace(CLAIMS, key_hash="hash-b"), False, id="token-of-another-key"),
        pytest.param(replace(CLAIMS, jti="token-10"), False, id="longer-id"),
        pytest.param(VirtualKey(""), False, id="no-hash"),
    ],
)
def test_owner(caller: VirtualKey | CallClaims, expected: bool) -> None:
    """A call belongs to its key, its token and the master key."""
    assert is_owner(caller, HANDLE) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # Realistic
        ("/v1/realtime/calls/rtc_a.b/hangup", ("rtc_a.b", "hangup")),
        ("/realtime/calls/rtc_a/accept", ("rtc_a", "accept")),
        ("/openai/v1/realtime/calls/rtc_a/refer", ("rtc_a", "refer")),
        # Synthetic
        ("/v1/realtime/calls/x/reject", ("x", "reject")),
        ("/v1/realtime/calls//hangup", None),
        ("/v1/realtime/calls/a/b/hangup", None),
        ("/v1/realtime/calls/a/hangup/", None),
        ("/v1/realtime/calls/a/HANGUP", None),
        ("/v1/realtime/calls/a/hangup\n", None),
        ("/v2/realtime/calls/a/hangup", None),
        ("/v1/realtime/calls/hangup", None),
    ],
)
def test_path(path: str, expected: tuple[str, Verb] | None) -> None:
    """A command's path is a prefix, one part for the handle, and the command."""
    assert parse_control_path(path) == expected


@pytest.mark.parametrize(
    ("verb", "body", "expected"),
    [
        # Realistic
        ("hangup", b"", None),
        ("hangup", b"{}", None),
        ("accept", b'{"type":"realtime"}', {"type": "realtime", "model": "gpt-realtime"}),
        ("accept", b'{"model":"gpt-9"}', {"model": "gpt-realtime"}),
        ("reject", b"", {}),
        ("reject", b'{"status_code":603}', {"status_code": 603}),
        ("refer", b'{"target_uri":"tel:+1"}', {"target_uri": "tel:+1"}),
        # Synthetic
        ("hangup", b"\xff not JSON", None),
        ("reject", b'{"status_code":null,"x":1}', {}),
        (
            "refer",
            b'{"target_uri":"sips:a@b;transport=tcp","x":1}',
            {"target_uri": "sips:a@b;transport=tcp"},
        ),
    ],
)
def test_body(verb: Verb, body: bytes, expected: dict[str, object] | None) -> None:
    """What goes upstream is what the command knows; the model is the deployment's."""
    sent = control_body(verb, body, OPENAI)
    assert (json.loads(sent) if sent else None) == expected


def test_model_of_a_wildcard_is_the_providers_choice() -> None:
    """A deployment that stands for every model has none to name."""
    deployment = replace(AZURE, upstream_model="*")
    assert control_body("accept", b'{"model":"gpt-9","a":1}', deployment) == b'{"a":1}'


@pytest.mark.parametrize(
    ("verb", "body", "param"),
    [
        # Realistic
        ("accept", b"", None),
        ("accept", b'"x"', None),
        ("refer", b"{}", "target_uri"),
        ("refer", b'{"target_uri":"+1415"}', "target_uri"),
        # Synthetic
        ("reject", b'{"status_code":"603"}', "status_code"),
        ("reject", b'{"status_code":299}', "status_code"),
        ("reject", b'{"status_code":700}', "status_code"),
        ("reject", b'{"status_code":486.0}', "status_code"),
        ("reject", b"[", None),
        ("refer", b'{"target_uri":1}', "target_uri"),
        ("refer", b'{"target_uri":"tel:+1 2"}', "target_uri"),
        ("refer", b'{"target_uri":"sip:a\\u0000"}', "target_uri"),
        ("refer", b'{"target_uri":"sip:<a>"}', "target_uri"),
        # Pathological
        ("refer", b'{"target_uri":"sip:' + b"a" * 1025 + b'"}', "target_uri"),
        ("accept", b"[" * 5000, None),
    ],
)
def test_body_is_refused(verb: Verb, body: bytes, param: str | None) -> None:
    """What the provider could not use is 400 here, and names the member."""
    with pytest.raises(InvalidBodyError) as caught:
        control_body(verb, body, OPENAI)
    assert (caught.value.http_status, caught.value.param) == (400, param)
