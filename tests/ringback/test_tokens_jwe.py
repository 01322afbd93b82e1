import json
import string
import traceback
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwe import JWERegistry, encrypt_compact
from joserfc.jwk import OctKey, RSAKey

from ringback.secrets import Secret
from ringback.tokens.errors import TokenError, TokenRefusal
from ringback.tokens.jwe import MAX_SEALED_CHARS, Sealer
from ringback.tokens.keys import HANDLE_PURPOSE, TOKEN_PURPOSE, KeyRing

NOW = 1_767_268_800  # 2026-01-01T12:00:00Z
DAY_S = 86_400
LEEWAY_S = 5
SECRET = Secret("correct horse battery staple 012")
RING = KeyRing.from_secret(SECRET, TOKEN_PURPOSE, leeway_s=LEEWAY_S)
SEALER = Sealer(RING, prefix="ek_")
UPSTREAM_KEY = "ek_68e5f1a3upstream"
CLAIMS: dict[str, object] = {"iat": NOW, "exp": NOW + 600, "ek": UPSTREAM_KEY}
TOKEN = SEALER.seal(CLAIMS, NOW)
OTHER_TOKEN = SEALER.seal(CLAIMS, NOW)
HEADER = {"alg": "dir", "enc": "A256GCM", "typ": "ringback+jwe", "kid": "2026-01-01"}
JWS_HEADER = {"typ": "ringback+jwe", "kid": "2026-01-01"}
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


def b64(data: bytes) -> str:
    """Encode as base64url without padding."""
    return urlsafe_b64encode(data).decode().rstrip("=")


def forge(header: bytes, plaintext: bytes, prefix: str = "ek_") -> str:
    """Seal anything under any header, as only a holder of today's token key can."""
    key = RING.sealing_key(NOW)[1].raw_value
    iv, encoded = bytes(12), b64(header)
    sealed = AESGCM(key).encrypt(iv, plaintext, encoded.encode())
    return f"{prefix}{encoded}..{b64(iv)}.{b64(sealed[:-16])}.{b64(sealed[-16:])}"


def forge_header(header: Mapping[str, object] | str) -> str:
    """Seal good claims under another header."""
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    return forge(text.encode(), json.dumps(CLAIMS).encode())


def forge_claims(plaintext: bytes) -> str:
    """Seal other claims under a good header."""
    return forge(json.dumps(HEADER, separators=(",", ":")).encode(), plaintext)


def encrypt(key: OctKey | RSAKey, **changes: Any) -> str:
    """Encrypt good claims in another way that JWE offers."""
    header = HEADER | changes
    registry = JWERegistry(algorithms=[header["alg"], header["enc"], "DEF"])
    return "ek_" + encrypt_compact(header, json.dumps(CLAIMS), key, registry=registry)


def swap(*positions: int) -> str:
    """Return the token with some of its five parts taken from another one."""
    parts = TOKEN.removeprefix("ek_").split(".")
    others = OTHER_TOKEN.removeprefix("ek_").split(".")
    return "ek_" + ".".join(
        others[position] if position in positions else part for position, part in enumerate(parts)
    )


def replace_part(position: int, change: Callable[[str], str]) -> str:
    """Return the token with one of its five parts changed."""
    parts = TOKEN.removeprefix("ek_").split(".")
    parts[position] = change(parts[position])
    return "ek_" + ".".join(parts)


def respell(part: str) -> str:
    """Return another spelling of the same bytes: the last character has bits to spare."""
    assert len(part) % 4, "the case needs a part with bits to spare"
    last = BASE64URL.index(part[-1])
    return part[:-1] + BASE64URL[last + 1]


def refusal(
    text: str, now: float = NOW, sealer: Sealer = SEALER, *, grace_s: int = 0
) -> str | None:
    """Return why the text is refused, None if it is not."""
    try:
        sealer.open(text, now, grace_s=grace_s)
    except TokenError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error)
        # Any short text may be in a traceback.
        assert len(text) < 20 or text not in shown
        assert UPSTREAM_KEY not in shown
        return error.reason
    return None


def test_a_sealed_token_opens_to_its_claims() -> None:
    """Sealing and opening give the same claims, until the second of expiry."""
    assert SEALER.open(TOKEN, NOW) == CLAIMS
    assert SEALER.open(TOKEN, NOW + 599.999) == CLAIMS


def test_the_wire_format_stays() -> None:
    """The format is that of RFC 7516 and RFC 5869, as an independent implementation reads it."""
    header, encrypted_key, iv, ciphertext, tag = (
        # Python's own decoder wants padding.
        jwt.utils.base64url_decode(part)
        for part in TOKEN.removeprefix("ek_").split(".")
    )
    assert json.loads(header) == HEADER
    assert encrypted_key == b""
    info = b"ringback token day 2026-01-01"
    key = HKDF(SHA256(), 32, None, info).derive(SECRET.reveal().encode())
    aad = TOKEN.removeprefix("ek_").split(".")[0].encode()
    assert json.loads(AESGCM(key).decrypt(iv, ciphertext + tag, aad)) == CLAIMS


def test_two_tokens_of_the_same_claims_differ() -> None:
    """Every seal has its own nonce, so equal claims do not show."""
    assert TOKEN != OTHER_TOKEN
    assert UPSTREAM_KEY not in TOKEN


# Each attack with the reason that logs and metrics show.
ATTACKS: list[tuple[str, TokenRefusal, str]] = [
    # Realistic
    ("empty", "prefix", ""),
    ("prefix-only", "form", "ek_"),
    ("raw-upstream-key", "form", UPSTREAM_KEY),
    ("litellm-key", "prefix", "sk-1234567890abcdef"),
    ("line-break", "form", TOKEN + "\n"),
    ("leading-space", "prefix", " " + TOKEN),
    ("trailing-space", "form", TOKEN + " "),
    ("bearer-twice", "prefix", "Bearer " + TOKEN),
    ("prefix-in-capitals", "prefix", "EK_" + TOKEN[3:]),
    ("prefix-twice", "form", "ek_" + TOKEN),
    ("no-prefix", "prefix", TOKEN[3:]),
    ("cut-off", "form", TOKEN[:-1]),
    # Synthetic: another format
    ("jws-hs256", "form", "ek_" + jwt.encode(CLAIMS, SECRET.reveal(), "HS256", JWS_HEADER)),
    ("jws-none", "form", "ek_" + jwt.encode(CLAIMS, "", "none", JWS_HEADER)),
    ("json-serialization", "form", 'ek_{"protected":"x"}'),
    ("six-parts", "form", TOKEN + ".x"),
    ("four-parts", "form", TOKEN.replace("..", ".")),
    ("empty-parts", "form", "ek_...."),
    ("no-ciphertext", "form", replace_part(3, lambda _: "")),
    ("encrypted-key", "form", replace_part(1, lambda _: "AAAA")),
    ("long-iv", "form", replace_part(2, lambda part: part + "AAAA")),
    ("short-iv", "form", replace_part(2, lambda part: part[:8])),
    ("short-tag", "form", replace_part(4, lambda part: part[:16])),
    ("long-tag", "form", replace_part(4, lambda part: part[:20] + "AAAA")),
    # Synthetic: parts of two tokens
    ("swapped-iv", "decrypt", swap(2)),
    ("swapped-ciphertext", "decrypt", swap(3)),
    ("swapped-tag", "decrypt", swap(4)),
    ("swapped-iv-and-tag", "decrypt", swap(2, 4)),
    ("swapped-ciphertext-and-tag", "decrypt", swap(3, 4)),
    # Synthetic: another key
    ("kid-two-days-ago", "kid", forge_header(HEADER | {"kid": "2025-12-30"})),
    ("kid-tomorrow", "kid", forge_header(HEADER | {"kid": "2026-01-02"})),
    ("kid-made-up", "kid", forge_header(HEADER | {"kid": "..-etc-passwd"})),
    ("kid-yesterday", "decrypt", forge_header(HEADER | {"kid": "2025-12-31"})),
    # Synthetic: another algorithm, with the right key where there can be one
    ("alg-none", "header", forge_header(HEADER | {"alg": "none"})),
    ("alg-absent", "header", forge_header({k: v for k, v in HEADER.items() if k != "alg"})),
    ("a256kw", "form", encrypt(RING.sealing_key(NOW)[1], alg="A256KW")),
    ("a256gcmkw", "form", encrypt(RING.sealing_key(NOW)[1], alg="A256GCMKW")),
    ("pbes2", "form", encrypt(RING.sealing_key(NOW)[1], alg="PBES2-HS256+A128KW", p2c=1000)),
    ("rsa-oaep", "form", encrypt(RSAKey.generate_key(2048), alg="RSA-OAEP")),
    ("a256kw-without-key", "header", forge_header(HEADER | {"alg": "A256KW"})),
    ("pbes2-without-key", "header", forge_header(HEADER | {"alg": "PBES2-HS512+A256KW"})),
    ("pbes2-million", "header", forge_header(HEADER | {"p2s": "AAAAAAAAAAA", "p2c": 10**9})),
    ("a128gcm", "header", encrypt(OctKey.generate_key(128), enc="A128GCM")),
    ("a256cbc", "form", encrypt(OctKey.generate_key(512), enc="A256CBC-HS512")),
    ("zipped", "header", encrypt(RING.sealing_key(NOW)[1], zip="DEF")),
    # Synthetic: header parameters that would make a parser fetch, trust or ignore something
    ("zip", "header", forge_header(HEADER | {"zip": "DEF"})),
    ("crit", "header", forge_header(HEADER | {"crit": ["exp"], "exp": 1})),
    ("crit-empty", "header", forge_header(HEADER | {"crit": []})),
    ("jku", "header", forge_header(HEADER | {"jku": "https://attacker.example/keys"})),
    ("jwk", "header", forge_header(HEADER | {"jwk": {"kty": "oct", "k": "AAAA"}})),
    ("x5u", "header", forge_header(HEADER | {"x5u": "https://attacker.example/cert"})),
    ("extra", "header", forge_header(HEADER | {"cty": "JWT"})),
    ("typ-jwt", "header", forge_header(HEADER | {"typ": "JWT"})),
    ("typ-absent", "header", forge_header({k: v for k, v in HEADER.items() if k != "typ"})),
    ("kid-absent", "header", forge_header({k: v for k, v in HEADER.items() if k != "kid"})),
    ("kid-number", "header", forge_header(HEADER | {"kid": 20260101})),
    ("kid-list", "header", forge_header(HEADER | {"kid": ["2026-01-01"]})),
    ("kid-long", "header", forge_header(HEADER | {"kid": "1" * 65})),
    # Pathological: JSON that parsers read in different ways
    ("alg-twice", "header", forge_header(json.dumps(HEADER)[:-1] + ',"alg":"dir"}')),
    ("kid-twice", "header", forge_header('{"kid":"x",' + json.dumps(HEADER)[1:])),
    ("spaces", "header", forge_header(json.dumps(HEADER))),
    ("escapes", "header", forge_header(json.dumps(HEADER).replace("dir", "d\\u0069r"))),
    ("bom", "header", forge_header("\ufeff" + json.dumps(HEADER))),
    ("header-list", "header", forge_header(json.dumps([HEADER]))),
    ("header-text", "header", forge_header('"dir"')),
    ("header-null", "header", forge_header("null")),
    ("header-number", "header", forge_header("1" * 5000)),
    ("header-bottomless", "header", forge_header("[" * 4000)),
    ("header-no-json", "header", forge_header("\x00")),
    # Pathological: other spellings of a good token
    ("padded", "form", TOKEN + "=="),
    ("padded-part", "form", replace_part(0, lambda part: part + "=")),
    ("standard-alphabet", "form", replace_part(3, lambda part: "+/" + part[2:])),
    ("spare-bits-header", "form", replace_part(0, lambda part: part + "A")),
    ("spare-bits-ciphertext", "form", replace_part(3, respell)),
    ("spare-bits-tag", "form", replace_part(4, respell)),
    ("full-width-letter", "form", replace_part(3, lambda part: "\uff21" + part[1:])),
    ("arabic-digit", "form", replace_part(3, lambda part: "\u0661" + part[1:])),
    ("lone-surrogate", "form", "ek_\udc80"),
    ("nul", "form", TOKEN + "\x00"),
    ("ten-megabytes", "length", "ek_" + "A" * 10_000_000),
    ("one-too-long", "length", "ek_" + "A" * (MAX_SEALED_CHARS - 2)),
    ("at-the-limit", "form", "ek_" + "A" * (MAX_SEALED_CHARS - 3)),
]


@pytest.mark.parametrize(
    ("reason", "text"), [pytest.param(reason, text, id=name) for name, reason, text in ATTACKS]
)
def test_anything_but_our_own_spelling_is_refused(reason: str, text: str) -> None:
    """A text that `seal` did not make is refused, and the error shows neither text nor claims."""
    assert refusal(text) == reason


def test_forging_with_the_key_works_in_these_tests() -> None:
    """The forged cases differ from a good token in nothing but what they name."""
    assert refusal(forge_header(HEADER)) is None
    assert refusal(encrypt(RING.sealing_key(NOW)[1])) is None


def test_every_flipped_bit_is_refused() -> None:
    """A token with any single bit changed does not open."""
    for position, character in enumerate(TOKEN):
        for bit in range(7):
            flipped = chr(ord(character) ^ 1 << bit)
            assert refusal(TOKEN[:position] + flipped + TOKEN[position + 1 :]) is not None


def test_every_truncation_is_refused() -> None:
    """A token cut at either end at any place does not open, nor does one with a hole."""
    for length in range(len(TOKEN)):
        assert refusal(TOKEN[:length]) is not None
        assert refusal("ek_" + TOKEN[length + 4 :]) is not None
        assert refusal(TOKEN[:length] + TOKEN[length + 1 :]) is not None


def test_a_token_never_opens_as_a_handle() -> None:
    """Each purpose has its own keys, whatever prefix the text carries."""
    ring = KeyRing.from_secret(SECRET, HANDLE_PURPOSE, leeway_s=LEEWAY_S)
    handles = Sealer(ring, prefix="rtc_")
    assert refusal(TOKEN, sealer=handles) == "prefix"
    assert refusal("rtc_" + TOKEN[3:], sealer=handles) == "decrypt"
    handle = handles.seal(CLAIMS, NOW)
    assert refusal(handle) == "prefix"
    assert refusal("ek_" + handle[4:]) == "decrypt"


def test_a_token_of_another_secret_is_refused() -> None:
    """Another installation's token does not open."""
    ring = KeyRing.from_secret(Secret("another secret of some length"), TOKEN_PURPOSE, leeway_s=5)
    assert refusal(Sealer(ring, prefix="ek_").seal(CLAIMS, NOW)) == "decrypt"


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        # Realistic
        pytest.param(b'{"iat":1}', "claims", id="no-exp"),
        pytest.param(b'{"exp":4102444800}', "claims", id="no-iat"),
        pytest.param(b'{"iat":1,"exp":null}', "claims", id="exp-null"),
        pytest.param(b'{"iat":1,"exp":1}', "expired", id="expired"),
        # Synthetic
        pytest.param(b'{"iat":1,"exp":true}', "claims", id="exp-bool"),
        pytest.param(b'{"iat":false,"exp":4102444800}', "claims", id="iat-bool"),
        pytest.param(b'{"iat":1,"exp":4102444800.0}', "claims", id="exp-float"),
        pytest.param(b'{"iat":1,"exp":"4102444800"}', "claims", id="exp-text"),
        pytest.param(b'{"iat":1,"exp":Infinity}', "claims", id="exp-infinity"),
        pytest.param(b'{"iat":1,"exp":NaN}', "claims", id="exp-nan"),
        pytest.param(b'{"iat":4102444800,"exp":4102448400}', "not_yet", id="iat-far-future"),
        pytest.param(b"[]", "claims", id="list"),
        pytest.param(b'"iat exp"', "claims", id="text"),
        pytest.param(b"null", "claims", id="null"),
        # Pathological
        pytest.param(b" ", "claims", id="blank"),
        pytest.param(b"\xff\xfe", "claims", id="not-utf8"),
        pytest.param(b'{"exp":' + b"9" * 5000 + b"}", "claims", id="exp-5000-digits"),
        pytest.param(b"[" * 5000, "claims", id="bottomless"),
    ],
)
def test_sealed_claims_without_good_times_are_refused(plaintext: bytes, reason: str) -> None:
    """A good seal is not enough: the times have to be whole numbers and right."""
    assert refusal(forge_claims(plaintext)) == reason


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        pytest.param(NOW + 599, None, id="last-second"),
        pytest.param(NOW + 599.999, None, id="last-millisecond"),
        pytest.param(NOW + 600, "expired", id="the-second-itself"),
        pytest.param(NOW + 600.001, "expired", id="after"),
        pytest.param(NOW + DAY_S, "expired", id="next-day"),
        pytest.param(NOW + 2 * DAY_S, "kid", id="two-days-later"),
        pytest.param(NOW - LEEWAY_S, None, id="clock-behind-within-leeway"),
        pytest.param(NOW - LEEWAY_S - 0.001, "not_yet", id="clock-behind-beyond-leeway"),
        pytest.param(NOW - DAY_S, "kid", id="day-before"),
    ],
)
def test_a_token_is_valid_from_issue_to_the_second_of_expiry(
    now: float, reason: str | None
) -> None:
    """``exp`` itself is too late; ``iat`` may be ahead of our clock by the leeway."""
    assert refusal(TOKEN, now) == reason


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        pytest.param(NOW + 600, None, id="at-expiry"),
        pytest.param(NOW + 659, None, id="last-second-of-grace"),
        pytest.param(NOW + 660, "expired", id="after-it"),
        pytest.param(NOW - LEEWAY_S - 1, "not_yet", id="not-before"),
    ],
)
def test_grace_is_time_after_expiry(now: float, reason: str | None) -> None:
    """With grace a token opens for so long after its expiry, and no earlier than without."""
    assert refusal(TOKEN, now, grace_s=60) == reason


def test_a_token_survives_midnight() -> None:
    """A token from just before midnight opens after it, and the other way round in the leeway."""
    midnight = NOW + DAY_S // 2
    before = SEALER.seal({"iat": midnight - 1, "exp": midnight + 7199}, midnight - 0.5)
    assert refusal(before, midnight + 7198) is None
    after = SEALER.seal({"iat": midnight, "exp": midnight + 600}, midnight)
    assert refusal(after, midnight - LEEWAY_S) is None
    assert refusal(after, midnight - LEEWAY_S - 0.001) == "kid"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        pytest.param({"iat": NOW}, "claims", id="no-exp"),
        pytest.param({"exp": NOW + 1}, "claims", id="no-iat"),
        pytest.param({"iat": NOW, "exp": True}, "claims", id="exp-bool"),
        pytest.param({"iat": NOW - 9, "exp": NOW}, "expired", id="expired"),
        pytest.param({"iat": NOW + 6, "exp": NOW + 9}, "not_yet", id="not-yet"),
        pytest.param({"iat": NOW, "exp": NOW + 1, "x": "y" * 7000}, "length", id="too-much"),
    ],
)
def test_what_could_not_be_opened_is_not_sealed(claims: dict[str, object], reason: str) -> None:
    """Sealing fails at once for claims that opening would refuse."""
    with pytest.raises(TokenError, match=f"refused: {reason}"):
        SEALER.seal(claims, NOW)


@given(st.one_of(st.text(), st.text(alphabet=BASE64URL + ".=+/"), st.text(alphabet=".eyJ")))
def test_any_text_is_refused(text: str) -> None:
    """Whatever text a client sends is a `TokenError` and no other exception."""
    assert refusal(text) is not None
    assert refusal("ek_" + text) is not None


@given(st.binary(), st.binary())
def test_any_bytes_in_header_and_claims_are_refused(header: bytes, plaintext: bytes) -> None:
    """Sealed bytes that are no header or no claims of ours are a `TokenError` too."""
    assert refusal(forge(header, plaintext or b"\0")) in {"header", "form"}
    assert refusal(forge_claims(plaintext or b"\0")) == "claims"


TEXT = st.text(max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_any_claims_come_back(claims: dict[str, object]) -> None:
    """Sealing loses nothing, whatever the claims are."""
    claims = claims | {"iat": NOW, "exp": NOW + 60}
    assert SEALER.open(SEALER.seal(claims, NOW), NOW) == claims
