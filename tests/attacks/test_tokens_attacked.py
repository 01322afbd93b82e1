"""Tokens and handles that were changed, forged, taken from elsewhere or kept too long."""

import asyncio
import base64
import json
import os
import time
import zlib
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from extauthz.keys import hash_key
from helpers.attacks import CALLS, MINT, REVOKED_ID, TRANSCRIBE, check_received, good, shoot
from helpers.expect import ORIGIN, check_refusal
from helpers.gateway import JSON_TYPE, OFFER, SDP_TYPE, Gateway, bearer
from helpers.gatewayfiles import KEY, TOKEN_SECRET
from helpers.handles import sealed
from helpers.http11 import Client, Message, request_bytes
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer, token_sealer

pytestmark = [pytest.mark.dataplane, pytest.mark.asyncio(loop_scope="session")]

ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HEADER: Final = '{"alg":"dir","enc":"A256GCM","typ":"ringback+jwe","kid":"KID"}'
SETTINGS: Final = TokenSettings(secret=Secret(TOKEN_SECRET))


def encode(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(gateway: Gateway, **changes: Any) -> dict[str, Any]:
    """Return the claims of a good token."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "jti": "made-by-a-test",
        "iat": now,
        "exp": now + 60,
        "ek": "ek_upstream_made_by_a_test",
        "dep": "voice-1",
        "org": gateway.openai.url(),
        "pth": "/v1/realtime/calls",
        "sch": "bearer",
        "mdl": "voice",
        "key": hash_key(Secret(KEY)),
        "ses": "realtime",
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


def forge(
    gateway: Gateway,
    header: str = HEADER,
    plaintext: bytes | None = None,
    *,
    encrypted_key: str = "",
    prefix: str = "ek_",
    **changes: Any,
) -> str:
    """Return a token under the gateway's very own key, of a form that it never makes.

    Args:
        gateway: The gateway.
        header: ``KID`` in it becomes the id of the key.
        plaintext: Instead of good claims.
        encrypted_key: The second part.
        prefix: Of the text.
        changes: Claims that differ.
    """
    kid, key = token_sealer(SETTINGS, {})._keyring.sealing_key(time.time())
    protected = encode(header.replace("KID", kid).encode())
    if plaintext is None:
        plaintext = json.dumps(claims_of(gateway, **changes), separators=(",", ":")).encode()
    iv = os.urandom(12)
    box = AESGCM(key.raw_value).encrypt(iv, plaintext, protected.encode())
    return prefix + ".".join(
        [protected, encrypted_key, encode(iv), encode(box[:-16]), encode(box[-16:])]
    )


def with_parts(token: str, **parts: str) -> str:
    """Return a token with some of its parts replaced."""
    names = ("header", "key", "iv", "text", "tag")
    old = dict(zip(names, token.removeprefix("ek_").split("."), strict=True))
    return "ek_" + ".".join((old | parts).values())


def part_of(token: str, number: int) -> str:
    """Return a part of a token."""
    return token.removeprefix("ek_").split(".")[number]


def head(**changes: str | None) -> str:
    """Return a header with some members replaced, added or left out."""
    members = json.loads(HEADER) | changes
    given = {name: value for name, value in members.items() if value is not None}
    return json.dumps(given, separators=(",", ":"))


def swapped(number: int) -> Callable[[Gateway], str]:
    """Return what makes one token of two good ones."""
    names = ("header", "key", "iv", "text", "tag")

    def make(gateway: Gateway) -> str:
        first, second = gateway.seal(jti="first"), gateway.seal(jti="second")
        return with_parts(first, **{names[number]: part_of(second, number)})

    return make


def none_alg(gateway: Gateway) -> str:
    """Return an unsecured JWT (RFC 7519 section 6) with good claims."""
    claims = json.dumps(claims_of(gateway)).encode()
    header = encode(b'{"alg":"none"}')
    return f"ek_{header}.{encode(claims)}."


WRONG: Final[dict[str, Callable[[Gateway], str]]] = {
    # Realistic: cut off, kept too long, of somebody else
    "raw-ephemeral-key": lambda _: "ek_upstream_00000001",
    "cut-by-one": lambda g: g.seal()[:-1],
    "cut-to-the-header": lambda g: g.seal().partition(".")[0],
    "without-tag": lambda g: g.seal().rpartition(".")[0],
    "one-more": lambda g: g.seal() + "A",
    "padded": lambda g: g.seal() + "==",
    "space-inside": lambda g: g.seal()[:40] + " " + g.seal()[40:],
    "percent-encoded": lambda g: g.seal().replace(".", "%2e"),
    "upper-case-prefix": lambda g: "EK_" + g.seal()[3:],
    "prefix-twice": lambda g: "ek_" + g.seal(),
    "expired-now": lambda g: g.seal(iat=int(time.time()) - 9, exp=int(time.time())),
    "expired-long-ago": lambda g: g.seal(iat=1, exp=2),
    "of-tomorrow": lambda g: g.seal(iat=int(time.time()) + 86400, exp=int(time.time()) + 90000),
    "revoked": lambda g: g.seal(jti=REVOKED_ID),
    "of-another-secret": lambda g: g.seal(secret="the secret of another house altogether"),
    # Synthetic: the right key, another form
    "swapped-header": lambda g: with_parts(g.seal(), header=encode(head(kid="x").encode())),
    "swapped-iv": swapped(2),
    "swapped-text": swapped(3),
    "swapped-tag": swapped(4),
    "handle": lambda _: "ek_" + sealed().removeprefix("rtc_"),
    "handle-as-it-is": lambda _: sealed(),
    "alg-none": none_alg,
    "alg-none-in-five-parts": lambda g: forge(g, head(alg="none")),
    "alg-empty": lambda g: forge(g, head(alg="")),
    "alg-upper": lambda g: forge(g, head(alg="DIR")),
    "alg-a256gcmkw": lambda g: forge(g, head(alg="A256GCMKW"), encrypted_key="A" * 43),
    "alg-rsa": lambda g: forge(g, head(alg="RSA-OAEP"), encrypted_key="A" * 342),
    "alg-ecdh": lambda g: forge(g, head(alg="ECDH-ES")),
    "dir-with-a-key": lambda g: forge(g, encrypted_key="AAAA"),
    "pbes2": lambda g: forge(
        g, head(alg="PBES2-HS256+A128KW", p2s="AAAA", p2c="2147483647"), encrypted_key="A" * 54
    ),
    "enc-a128gcm": lambda g: forge(g, head(enc="A128GCM")),
    "enc-a192gcm": lambda g: forge(g, head(enc="A192GCM")),
    "enc-cbc": lambda g: forge(g, head(enc="A256CBC-HS512")),
    "typ-jwt": lambda g: forge(g, head(typ="JWT")),
    "no-typ": lambda g: forge(g, head(typ=None)),
    "no-kid": lambda g: forge(g, head(kid=None)),
    "kid-of-another-day": lambda g: forge(g, head(kid="20200101")),
    "kid-path": lambda g: forge(g, head(kid="../../../../dev/null")),
    "kid-sql": lambda g: forge(g, head(kid="' OR 1=1 --")),
    "kid-long": lambda g: forge(g, head(kid="K" * 4000)),
    "crit": lambda g: forge(g, HEADER[:-1] + ',"crit":["exp"],"exp":1}'),
    "crit-empty": lambda g: forge(g, HEADER[:-1] + ',"crit":[]}'),
    "jku": lambda g: forge(g, head(jku=f"{g.azure.url()}/jwks.json")),
    "x5u": lambda g: forge(g, head(x5u=f"{g.azure.url()}/x5u")),
    "jwk": lambda g: forge(g, HEADER[:-1] + ',"jwk":{"kty":"oct","k":"AAAA"}}'),
    "cty": lambda g: forge(g, head(cty="JWE")),
    "b64": lambda g: forge(g, HEADER[:-1] + ',"b64":false}'),
    "alg-twice": lambda g: forge(g, '{"alg":"none",' + HEADER[1:]),
    "enc-twice": lambda g: forge(g, HEADER[:-1] + ',"enc":"A128GCM"}'),
    "kid-twice": lambda g: forge(g, HEADER[:-1] + ',"kid":"KID"}'),
    "kid-twice-escaped": lambda g: forge(g, HEADER[:-1] + ',"k\\u0069d":"KID"}'),
    "header-with-spaces": lambda g: forge(g, HEADER.replace(",", ", ")),
    "header-in-another-order": lambda g: forge(
        g, '{"enc":"A256GCM","alg":"dir","typ":"ringback+jwe","kid":"KID"}'
    ),
    "header-with-bom": lambda g: forge(g, "\ufeff" + HEADER),
    "header-with-newline": lambda g: forge(g, HEADER + "\n"),
    "header-array": lambda g: forge(g, f"[{HEADER}]"),
    "header-nul": lambda g: forge(g, HEADER[:-1] + "\0}"),
    # Synthetic: the right key and form, other claims
    "claims-of-a-handle": lambda g: forge(
        g,
        plaintext=json.dumps(
            {
                "dep": "voice-1",
                "cid": "rtc_1",
                "key": hash_key(Secret(KEY)),
                "jti": "x",
                "iat": int(time.time()),
                "exp": int(time.time()) + 86400,
            }
        ).encode(),
    ),
    "claims-empty": lambda g: forge(g, plaintext=b"{}"),
    "claims-array": lambda g: forge(g, plaintext=b"[]"),
    "claims-no-json": lambda g: forge(g, plaintext=b"\xff\xfe"),
    "claims-deep": lambda g: forge(g, plaintext=b"[" * 5000),
    "claim-more": lambda g: forge(g, admin=True),
    "claim-less": lambda g: forge(g, org=None),
    "exp-float": lambda g: forge(g, exp=time.time() + 60),
    "exp-text": lambda g: forge(g, exp="9999999999"),
    "exp-true": lambda g: forge(g, exp=True),
    "exp-huge-float": lambda g: forge(g, exp=1e308),
    "exp-infinite": lambda g: forge(g, exp=float("inf")),
    "exp-missing": lambda g: forge(g, exp=None),
    "iat-negative": lambda g: forge(g, iat=-1),
    "iat-far-future": lambda g: forge(g, iat=2**60, exp=2**61),
    "times-of-many-digits": lambda g: forge(g, iat=10**1000, exp=10**1001),
    "ek-with-crlf": lambda g: forge(g, ek="ek_upstream\r\nx-injected: yes"),
    "ek-empty": lambda g: forge(g, ek=""),
    "path-with-crlf": lambda g: forge(g, pth="/v1/realtime/calls HTTP/1.1\r\nhost: x\r\n\r\n"),
    "path-absolute": lambda g: forge(g, pth="http://evil.example/"),
    "origin-with-user": lambda g: forge(g, org="http://a@evil.example"),
    "scheme-other": lambda g: forge(g, sch="basic"),
    "key-none": lambda g: forge(g, key=""),
    # Pathological
    "empty": lambda _: "ek_",
    "dots": lambda _: "ek_....",
    "many-dots": lambda _: "ek_" + "." * 8000,
    "long": lambda _: "ek_" + "A" * 8189,
    "longer": lambda _: "ek_" + "A" * 30000,
    "zip": lambda g: forge(g, head(zip="DEF"), zlib.compress(b"[" * 100_000, 9)[2:-4]),
    "zip-bomb": lambda g: forge(g, head(zip="DEF"), zlib.compress(b" " * 9_000_000, 9)[2:3500]),
    "latin-1": lambda _: "ek_" + "\xe9" * 40,
    "json-serialization": lambda _: 'ek_{"protected":"e30","ciphertext":""}',
}


async def test_forged_as_it_should_be_is_good(gateway: Gateway) -> None:
    """The forgeries below fail for what is wrong with them: without a change they open a call."""
    answer = await gateway.call(forge(gateway))
    assert answer.status == 201, answer.raw


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_token_opens_nothing(gateway: Gateway, name: str) -> None:
    """No wrong token opens a call, a WebSocket or a sideband, commands none and makes no token."""
    token = WRONG[name](gateway)
    call = await gateway.call(token)
    is_token = token.startswith("ek_")
    codes = {"token_invalid"} if is_token else {"key_unknown"}
    if name in {"latin-1", "space-inside", "padded", "json-serialization"}:
        # What cannot be a credential at all.
        codes |= {"key_malformed", "bad_request", "key_unknown"}
    assert call.status in {400, 401}
    assert call.error["code"] in codes
    for endpoint in ("mint", "transcription", "websocket", "sideband", "accept"):
        shot = good(gateway, endpoint)
        # First in LiteLLM's order, so that it counts and not the good key of the request.
        answer = await shoot(gateway, shot.with_(("x-litellm-api-key", f"Bearer {token}")))
        assert answer.status in {400, 401}, (endpoint, answer.raw)
    assert gateway.received == []


async def test_all_wrong_tokens_get_one_answer(gateway: Gateway) -> None:
    """Whatever is wrong with a token, the answer is the same to the byte, but for ids and times."""
    answers: dict[str, tuple[object, ...]] = {}
    for name, make in WRONG.items():
        token = make(gateway)
        if not token.startswith("ek_") or name == "latin-1":
            continue
        answer = await gateway.call(token)
        heads = {(n, v) for n, v in answer.headers if n not in {"date", "x-request-id"}}
        answers[name] = (answer.status, frozenset(heads), answer.body)
    assert len(set(answers.values())) == 1, {n: a[0] for n, a in answers.items()}


async def _all_answers(gateway: Gateway, requests: list[bytes]) -> list[Message]:
    answers = []
    async with Client(gateway.port) as client:
        for data in requests:
            await client.write(data)
            answers.append(await client.read())
    return answers


def flipped(text: str, place: int) -> str:
    """Return a text with one bit of one character's six (or of a dot's code) turned over."""
    char = text[place]
    if char in ALPHABET:
        other = ALPHABET[ALPHABET.index(char) ^ (1 << place % 6)]
    else:
        other = chr(ord(char) ^ 1)
    return text[:place] + other + text[place + 1 :]


async def test_every_character_of_a_token_counts(gateway: Gateway) -> None:
    """A bit turned over anywhere in a token makes it one that is not accepted."""
    token = gateway.seal()
    requests = [
        request_bytes("POST", CALLS, [bearer(flipped(token, n)), SDP_TYPE], OFFER)
        for n in range(3, len(token))
    ]
    answers = await _all_answers(gateway, requests)
    assert {(a.status, a.error["code"]) for a in answers} == {(401, "token_invalid")}
    assert gateway.received == []


async def test_every_part_of_a_token_is_needed(gateway: Gateway) -> None:
    """A token that is cut off anywhere, at its end or at its beginning, is not accepted."""
    token = gateway.seal()
    pieces = [token[:n] for n in range(3, len(token), 5)]
    pieces += [f"ek_{token[n:]}" for n in range(4, len(token), 5)]
    requests = [request_bytes("POST", CALLS, [bearer(piece), SDP_TYPE], OFFER) for piece in pieces]
    answers = await _all_answers(gateway, requests)
    assert {(a.status, a.error["code"]) for a in answers} == {(401, "token_invalid")}
    assert gateway.received == []


async def test_every_character_of_a_handle_counts(gateway: Gateway) -> None:
    """A bit turned over anywhere in a handle makes it the name of no call."""
    handle = sealed()
    requests = [
        request_bytes("POST", f"{CALLS}/{flipped(handle, n)}/hangup", [bearer(KEY)])
        for n in range(len(handle))
        if flipped(handle, n)[n] != "/"
    ]
    answers = await _all_answers(gateway, requests)
    assert {(a.status, a.error["code"]) for a in answers} == {(404, "call_id_not_found")}
    assert gateway.received == []


async def test_token_ends_at_its_second(gateway: Gateway) -> None:
    """A token that is good now is refused from the first instant of the second of its expiry."""
    expires_at = int(time.time()) + 3
    token = gateway.seal(exp=expires_at)
    assert (await gateway.call(token)).status == 201
    gateway.reset()
    await asyncio.sleep(expires_at - time.time() + 0.01)
    check_refusal(await gateway.call(token), 401, "token_invalid")
    assert gateway.received == []


@pytest.mark.parametrize("path", [MINT, TRANSCRIBE])
@pytest.mark.parametrize(
    "header", ["authorization", "x-litellm-api-key", "api-key", "x-api-key", "x-goog-api-key"]
)
async def test_good_token_is_no_key(gateway: Gateway, path: str, header: str) -> None:
    """A good token, in whatever header, makes no other token."""
    value = gateway.seal()
    if header in {"authorization", "x-litellm-api-key"}:
        value = f"Bearer {value}"
    answer = await gateway.post(path, [(header, value), JSON_TYPE], b'{"model":"voice"}')
    check_refusal(answer, 401, "key_unknown")
    assert gateway.received == []


@pytest.mark.parametrize("endpoint", ["hangup", "accept", "sideband"])
async def test_token_of_one_call_does_not_touch_another(gateway: Gateway, endpoint: str) -> None:
    """To another token of the same key a call does not exist, in the words for no call at all."""
    shot = good(gateway, endpoint)
    mine, others = gateway.seal(), gateway.seal(jti="of-another-call")
    bodies = []
    for token, target in (
        (others, shot.target),
        (mine, shot.target.replace(sealed_part(shot.target), sealed(token_id="somebody-elses"))),
        (mine, shot.target.replace(sealed_part(shot.target), "rtc_" + mine.removeprefix("ek_"))),
    ):
        lines = [("origin", ORIGIN), bearer(token), *shot.headers]
        async with Client(gateway.port) as client:
            await client.write(request_bytes(shot.method, target, lines, shot.body))
            answer = await client.read()
        check_refusal(answer, 404, "call_id_not_found")
        bodies.append(answer.body)
    assert len(set(bodies)) == 1
    assert gateway.received == []
    check_received(gateway)


def sealed_part(target: str) -> str:
    """Return the handle in a target."""
    return "rtc_" + target.partition("rtc_")[2].partition("/")[0]


async def test_handles_and_tokens_have_keys_of_their_own() -> None:
    """What is sealed for one purpose is under another key than what is sealed for the other."""
    now = time.time()
    token_key = token_sealer(SETTINGS, {})._keyring.sealing_key(now)[1]
    handle_key = handle_sealer(SETTINGS, {})._keyring.sealing_key(now)[1]
    assert token_key != handle_key
