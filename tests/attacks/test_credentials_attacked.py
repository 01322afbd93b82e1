"""Authorization in every form, several credentials at once, and what all of them can learn."""

import time
from typing import Final

import pytest

from extauthz.keys import hash_key
from helpers.attacks import CALLS, ENDPOINTS, REVOKED_ID, good, shoot
from helpers.gateway import SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, MASTER_KEY
from helpers.http2 import ResetError, send_h2
from helpers.http11 import Client, Header, request_bytes
from helpers.refusaltimes import check_one_time
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

BLOCKED: Final = "sk-key-that-is-blocked"
WRONG: Final[dict[str, list[Header]]] = {
    # Realistic
    "none": [],
    "empty": [("authorization", "")],
    "scheme-alone": [("authorization", "Bearer")],
    "scheme-and-space": [("authorization", "Bearer ")],
    "no-scheme": [("authorization", KEY)],
    "unknown": [bearer("sk-nobody-has-this-one")],
    "blocked": [bearer(BLOCKED)],
    "expired": [bearer("sk-key-that-expired")],
    "quoted": [bearer(f'"{KEY}"')],
    "basic-encoded": [("authorization", "Basic OnNrLXRlYW0ta2V5LWZvci1ldmVyeXRoaW5n")],
    "digest": [("authorization", f'Digest username="{KEY}"')],
    "negotiate": [("authorization", f"Negotiate {KEY}")],
    "proxy-authorization": [("proxy-authorization", f"Bearer {KEY}")],
    "cookie": [("cookie", f"token={KEY}; authorization=Bearer {KEY}")],
    # Synthetic
    "twice": [bearer(KEY), bearer(KEY)],
    "good-then-bad": [bearer(KEY), bearer("sk-x")],
    "bad-then-good": [bearer("sk-x"), bearer(KEY)],
    "comma": [bearer(f"{KEY},{KEY}")],
    "comma-bearer": [("authorization", f"Bearer sk-x, Bearer {KEY}")],
    "bearer-twice": [("authorization", f"Bearer Bearer {KEY}")],
    "more-behind": [bearer(f"{KEY} x")],
    "tab": [("authorization", f"Bearer\t{KEY}")],
    "equals": [("authorization", f"Bearer={KEY}")],
    "colon": [("authorization", f"Bearer: {KEY}")],
    "bad-litellm-good-authorization": [("x-litellm-api-key", "sk-x"), bearer(KEY)],
    "bad-authorization-good-raw": [bearer("sk-x"), ("api-key", KEY), ("x-api-key", KEY)],
    "bad-raw-good-raw": [("api-key", "sk-x"), ("x-api-key", KEY)],
    "malformed-first": [("x-litellm-api-key", "a, b"), bearer(KEY)],
    "raw-twice": [("api-key", KEY), ("api-key", KEY)],
    "hash-as-key": [bearer(hash_key(Secret(KEY)))],
    "upper-case": [bearer(KEY.upper())],
    "longer": [bearer(KEY + "x")],
    "shorter": [bearer(KEY[:-1])],
    "subprotocol-form": [bearer(f"openai-insecure-api-key.{KEY}")],
    "hop-by-hop": [bearer(KEY), ("connection", "authorization")],
    "handle": [bearer("rtc_eyJhbGciOiJkaXIi")],
    # Pathological
    "latin-1": [bearer("sk-\xe9\xff")],
    "percent": [bearer(KEY.replace("-", "%2d"))],
    "vertical-tab": [bearer(f"\x0b{KEY}")],
    "long": [bearer("sk-" + "k" * 25000)],
    "many-spaces": [("authorization", "Bearer" + " " * 20000)],
    "many-commas": [bearer("," * 20000)],
    "sql": [bearer("sk-'/**/OR/**/1=1--")],
    "glob": [bearer("sk-*")],
    "template": [bearer("${jndi:ldap://127.0.0.1/x}")],
    "python-format": [bearer("{0.__class__}%(x)s%s%n")],
}
# Calls without any credential are told to get a token; the other endpoints speak of keys.
CODES: Final = {"key_missing", "key_malformed", "key_unknown", "key_blocked", "key_expired"}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_credential_opens_nothing(gateway: Gateway, name: str) -> None:
    """At each endpoint every wrong form gets 401, or 400 if it is no HTTP; nothing leaves."""
    for endpoint in ENDPOINTS:
        shot = good(gateway, endpoint)
        lines = [*WRONG[name]]
        if name == "hop-by-hop" and endpoint in {"websocket", "sideband"}:
            continue  # a WebSocket has a connection header of its own
        async with Client(gateway.port) as client:
            head = [("origin", "http://localhost:3000"), *shot.headers, *lines]
            await client.write(request_bytes(shot.method, shot.target, head, shot.body))
            answer = await client.read()
        assert answer.status in {400, 401}, (endpoint, answer.raw)
        assert answer.error["code"] in CODES | {"token_invalid", "bad_request"}
        assert KEY.encode() not in answer.raw
    assert gateway.received == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "further",
    [
        pytest.param([("api-key", MASTER_KEY)], id="api-key"),
        pytest.param([("x-api-key", "sk-x"), ("x-goog-api-key", "sk-y")], id="raw-ones"),
        pytest.param([("proxy-authorization", f"Bearer {MASTER_KEY}")], id="proxy"),
        pytest.param([("cookie", f"authorization={MASTER_KEY}")], id="cookie"),
        pytest.param([("x-amz-security-token", MASTER_KEY)], id="another-cloud's"),
    ],
)
async def test_further_credential_stays_here(
    gateway: Gateway, endpoint: str, further: list[Header]
) -> None:
    """A credential beside the one that counts neither helps nor hurts, nor does it leave."""
    shot = good(gateway, endpoint)
    answer = await shoot(gateway, shot.with_(*further))
    assert answer.status == shot.status, answer.raw
    for request in gateway.received:
        assert not [value for _, value in further if value.encode() in request.raw]


@pytest.mark.parametrize("path", [CALLS, "/v1/realtime/client_secrets"])
async def test_wrong_credentials_over_http2(gateway: Gateway, path: str) -> None:
    """HTTP/2 carries no other credential than HTTP/1.1 does."""
    for name, lines in WRONG.items():
        try:
            answer = await send_h2(gateway.port, "POST", path, [SDP_TYPE, *lines], b"{}")
        except ResetError:
            continue
        assert answer.status in {400, 401}, name
        assert answer.error
    assert gateway.received == []


async def test_wrong_tokens_take_one_time(gateway: Gateway) -> None:
    """Whatever is wrong with a token, the median time to its refusal differs by under 1 ms."""
    good_token, now = gateway.seal(), int(time.time())
    tampered = good_token[:-30] + ("A" if good_token[-30] != "A" else "B") + good_token[-29:]
    kinds = {
        "no form": "ek_x",
        "no text": "ek_" + "A" * (len(good_token) - 3),
        "tampered": tampered,
        "other secret": gateway.seal(secret="a secret that is not this gateway's"),
        "expired": gateway.seal(iat=now - 60, exp=now - 1),
        "unknown key": gateway.seal(key_hash=hash_key(Secret("sk-unknown"))),
        "blocked key": gateway.seal(key_hash=hash_key(Secret(BLOCKED))),
        "bound elsewhere": gateway.seal(bound_origin="https://elsewhere.example"),
        "revoked": gateway.seal(jti=REVOKED_ID),
    }
    await check_one_time(gateway, kinds)
