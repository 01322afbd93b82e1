import json
import time
from collections.abc import Iterable
from typing import Final

import pytest

from extauthz.keys import hash_key
from helpers.expect import check_refusal
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, OPENAI_KEY
from helpers.http11 import Header
from ringback.contract import MAX_REQUEST_BODY_BYTES
from ringback.secrets import Secret

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

MINT: Final = "/v1/realtime/client_secrets"
CALLS: Final = "/v1/realtime/calls"
BEARER: Final = bearer(KEY)


def hash_of(key: str) -> str:
    """Return the hash by which a key is known."""
    return hash_key(Secret(key))


def body_of(**members: object) -> bytes:
    """Return a JSON object."""
    return json.dumps(members).encode()


# --- client_secrets


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        # Realistic credentials
        pytest.param([], b"{}", 401, "key_missing", id="no-key"),
        pytest.param([bearer("sk-unknown")], b"{}", 401, "key_unknown", id="unknown-key"),
        pytest.param(
            [bearer("sk-key-that-is-blocked")], b"{}", 401, "key_blocked", id="blocked-key"
        ),
        pytest.param([bearer("sk-key-that-expired")], b"{}", 401, "key_expired", id="expired-key"),
        pytest.param([bearer(OPENAI_KEY)], b"{}", 401, "key_unknown", id="key-of-the-operator"),
        pytest.param(
            [("authorization", "Basic c2stdGVhbQ==")], b"{}", 401, "key_unknown", id="basic"
        ),
        pytest.param([("authorization", KEY)], b"{}", 401, "key_malformed", id="no-scheme"),
        pytest.param(
            [("authorization", f'Bearer "{KEY}"')], b"{}", 401, "key_malformed", id="quoted"
        ),
        pytest.param(
            [bearer("sk-key-for-azure-alone")],
            body_of(model="voice"),
            403,
            "model_denied",
            id="model-not-allowed",
        ),
        pytest.param(
            [bearer("sk-key-for-azure-alone")],
            body_of(model="no-such-model"),
            403,
            "model_denied",
            id="unknown-model-not-allowed",
        ),
        # Realistic bodies
        pytest.param([BEARER], body_of(model="nothing"), 400, "model_unknown", id="unknown-model"),
        pytest.param([BEARER], b"", 400, "model_required", id="no-body"),
        pytest.param([BEARER], b"{}", 400, "model_required", id="no-model"),
        pytest.param([BEARER], b'{"model":', 400, "invalid_body", id="cut-off"),
        pytest.param([BEARER], OFFER, 400, "invalid_body", id="sdp"),
        pytest.param([BEARER], b"[]", 400, "invalid_body", id="array"),
        pytest.param([BEARER], body_of(voice="alloy"), 400, "invalid_body", id="beta-member"),
        pytest.param(
            [BEARER],
            body_of(model="voice", expires_after={"anchor": "created_at", "seconds": 9}),
            400,
            "invalid_body",
            id="expires-too-soon",
        ),
        pytest.param(
            [BEARER],
            b" " * (MAX_REQUEST_BODY_BYTES + 1),
            413,
            "body_too_large",
            id="one-byte-too-many",
        ),
        # Synthetic
        pytest.param([BEARER, BEARER], b"{}", 401, "key_malformed", id="key-twice"),
        pytest.param([BEARER, bearer("sk-x")], b"{}", 401, "key_malformed", id="two-keys"),
        pytest.param(
            [BEARER, ("connection", "authorization")], b"{}", 401, "key_missing", id="hop-by-hop"
        ),
        # Pathological
        pytest.param([bearer("sk-\xff\xfe")], b"{}", 401, None, id="key-not-utf8"),
        pytest.param([bearer("k" * 20000)], b"{}", 401, "key_unknown", id="key-of-20-kB"),
        pytest.param([BEARER], b"\xff\xfe{}", 400, "invalid_body", id="not-utf8"),
        pytest.param([BEARER], b'{"a":' * 5000, 400, "invalid_body", id="deep"),
        pytest.param(
            [BEARER], b'{"model":"voice","model":"x"}', 400, "invalid_body", id="member-twice"
        ),
        pytest.param(
            [BEARER, ("transfer-encoding", "chunked")], b"zz\r\n", 400, "bad_request", id="no-chunk"
        ),
    ],
)
async def test_mint_is_refused(
    gateway: Gateway, headers: Iterable[Header], body: bytes, status: int, code: str | None
) -> None:
    """Each refusal of client_secrets has its status and code, and the upstream gets nothing."""
    answer = await gateway.post(MINT, [*headers, JSON_TYPE], body)
    check_refusal(answer, status, code)
    assert ("www-authenticate" in answer.names) == (status == 401)
    assert gateway.received == []


async def test_token_mints_nothing(gateway: Gateway) -> None:
    """A token of a browser is no key: it cannot make another token."""
    token = await gateway.token()
    gateway.reset()
    check_refusal(await gateway.mint(key=token), 401, "key_unknown")
    assert gateway.received == []


# --- calls


@pytest.mark.dataplanes("istio", "envoy-gateway")
async def test_wrong_credentials_make_no_call(gateway: Gateway) -> None:
    """Every credential but a token of ours in its time gets the same 401, to the byte."""
    token = await gateway.token()
    now = int(time.time())
    wrong = {
        "nothing": None,
        "raw ephemeral key": "ek_upstream_00000001",
        "cut off": token[:-4],
        "tampered": token[:-8] + ("A" if token[-8] != "A" else "B") + token[-7:],
        "tampered header": "ek_" + "f" + token[4:],
        "expired": gateway.seal(iat=now - 60, exp=now - 1),
        "of the future": gateway.seal(iat=now + 60, exp=now + 120),
        "of another secret": gateway.seal(secret="another secret of some other house"),
        "of a blocked key": gateway.seal(key_hash=hash_of("sk-key-that-is-blocked")),
        "of an expired key": gateway.seal(key_hash=hash_of("sk-key-that-expired")),
        "of an unknown key": gateway.seal(key_hash=hash_of("sk-unknown")),
        "megabytes": "ek_" + "A" * 25000,
    }
    gateway.reset()
    bodies = set()
    for name, credential in wrong.items():
        lines = [bearer(credential)] if credential else []
        answer = await gateway.post(CALLS, [*lines, SDP_TYPE], OFFER)
        check_refusal(answer, 401, "token_invalid")
        assert answer.header("www-authenticate") == "Bearer", name
        bodies.add(answer.body)
    assert len(bodies) == 1
    assert gateway.received == []


async def test_a_good_token_learns_that_its_deployment_is_gone(gateway: Gateway) -> None:
    """Whoever holds an authentic token may know why it opens no call; nothing goes anywhere."""
    for change in ({"deployment": "gone-with-the-wind"}, {"origin": "https://evil.example"}):
        check_refusal(await gateway.call(gateway.seal(**change)), 401, "deployment_gone")
    assert gateway.received == []


async def test_sealed_by_hand_is_good(gateway: Gateway) -> None:
    """The tokens of the test above fail for what is wrong with them, not for who made them."""
    answer = await gateway.call(gateway.seal())
    assert answer.status == 201


@pytest.mark.dataplanes("istio")
@pytest.mark.parametrize(
    ("headers", "offer", "status", "code"),
    [
        # Realistic
        pytest.param([], OFFER, 415, "unsupported_media_type", id="no-type"),
        pytest.param(
            [("content-type", "application/x-www-form-urlencoded")],
            b"--x--",
            415,
            "unsupported_media_type",
            id="form",
        ),
        pytest.param([JSON_TYPE], b'{"sdp":""}', 415, "unsupported_media_type", id="json"),
        pytest.param([SDP_TYPE], b"", 400, "sdp_empty", id="empty"),
        pytest.param([SDP_TYPE], b'{"type":"offer"}', 400, "sdp_not_sdp", id="json-as-sdp"),
        pytest.param([SDP_TYPE], OFFER[:300], 400, None, id="cut-off"),
        pytest.param(
            [SDP_TYPE],
            OFFER.replace(b"m=audio", b"m=video"),
            400,
            "sdp_no_audio",
            id="no-audio",
        ),
        pytest.param([SDP_TYPE], b"v" * 70000, 413, "body_too_large", id="too-large"),
        # Synthetic
        pytest.param(
            [("content-type", "application/sdpx")],
            OFFER,
            415,
            "unsupported_media_type",
            id="almost-the-type",
        ),
        pytest.param([SDP_TYPE, SDP_TYPE], OFFER, 415, "unsupported_media_type", id="two-types"),
        # Pathological
        pytest.param([SDP_TYPE], b"v=0\r\n" * 12000, 413, None, id="all-lines"),
        pytest.param([SDP_TYPE], b"\0" * 4000, 400, "sdp_invalid_line", id="zeros"),
    ],
)
async def test_offer_is_refused(
    gateway: Gateway, headers: Iterable[Header], offer: bytes, status: int, code: str | None
) -> None:
    """Each refusal of an offer has its status and code, and the upstream gets nothing."""
    token = await gateway.token()
    gateway.reset()
    answer = await gateway.post(CALLS, [bearer(token), *headers], offer)
    check_refusal(answer, status, code)
    assert gateway.received == []


async def test_token_twice_makes_no_call(gateway: Gateway) -> None:
    """Two Authorization headers are refused, even if both are good."""
    token = bearer(await gateway.token())
    gateway.reset()
    answer = await gateway.post(CALLS, [token, token, SDP_TYPE], OFFER)
    check_refusal(answer, 401, "token_invalid")
    assert gateway.received == []
