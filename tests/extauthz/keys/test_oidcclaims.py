import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK
from jwt.algorithms import RSAAlgorithm
from pydantic import ValidationError

from extauthz.keys import VirtualKey
from extauthz.keys.jwks import MAX_KEYS, JwkSet, JwkSetError, parse_jwk_set
from extauthz.keys.oidcclaims import (
    JwtRefusedError,
    hash_subject,
    is_jwt,
    read_jwt,
    verify_jwt,
)
from helpers.authz import NOW
from helpers.openid import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    claims,
    encode_part,
    oidc_settings,
    private_key,
    public_jwk,
    sign,
    sign_bytes,
)
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings

LEEWAY_S = 5
HEADER = {"alg": "RS256", "kid": "RS256-1"}


def accept(token: Secret, now: float = NOW, **settings: Any) -> VirtualKey:
    """Return what a JWT amounts to where all keys of the tests are published."""
    rules = oidc_settings(**settings)
    read = read_jwt(token, rules)
    keys = JwkSet([public_jwk(algorithm) for algorithm in ALGORITHMS])
    key = keys.find(read.algorithm, read.kid)
    if key is None:
        raise JwtRefusedError("signer")
    return verify_jwt(read, key, rules, now)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_good_token(algorithm: str) -> None:
    """A good token is a virtual key of its subject that expires with it."""
    key = accept(sign(algorithm=algorithm))
    assert key == VirtualKey(
        hash_subject(ISSUER, "ada"),
        user="ada",
        expires=datetime.fromtimestamp(NOW + 300 + LEEWAY_S, UTC),
    )
    assert key.hash.startswith("jwt:")
    assert len(key.hash) == len("jwt:") + 64


@pytest.mark.parametrize(
    ("said", "settings", "expected"),
    [
        # Realistic
        pytest.param(
            {"email": "ada@x.y"}, {"user_claim": "email"}, {"user": "ada@x.y"}, id="user-by-mail"
        ),
        pytest.param({"team": "web"}, {"team_claim": "team"}, {"team": "web"}, id="team"),
        pytest.param({"groups": ["web"]}, {"team_claim": "groups"}, {"team": "web"}, id="a-group"),
        pytest.param({"groups": []}, {"team_claim": "groups"}, {"team": None}, id="no-group"),
        pytest.param({}, {"team_claim": "groups"}, {"team": None}, id="no-groups"),
        pytest.param(
            {"scope": "voice other-*"},
            {"models_claim": "scope"},
            {"models": ("voice", "other-*")},
            id="models-with-spaces",
        ),
        pytest.param(
            {"realm": {"roles": ["voice"]}},
            {"models_claim": "realm.roles"},
            {"models": ("voice",)},
            id="models-in-an-object",
        ),
        pytest.param(
            {"https://x.y/team": "web"},
            {"team_claim": "https://x.y/team"},
            {"team": "web"},
            id="name-with-dots",
        ),
        pytest.param({"aud": ["other", AUDIENCE]}, {}, {}, id="audience-among-others"),
        pytest.param({"iat": None, "nbf": NOW}, {}, {}, id="valid-from-now"),
        pytest.param({"nbf": NOW + 5, "iat": NOW + 5}, {}, {}, id="clock-behind-within-leeway"),
        pytest.param({"exp": NOW + 1.5}, {}, {}, id="fraction-of-a-second"),
        # Synthetic
        pytest.param(
            {}, {"models_claim": "scope"}, {"models": ("no-default-models",)}, id="no-models-claim"
        ),
        pytest.param(
            {"scope": "  "},
            {"models_claim": "scope"},
            {"models": ("no-default-models",)},
            id="no-model",
        ),
        pytest.param(
            {"a": {"b": "web"}, "a.b": "ops"},
            {"team_claim": "a.b"},
            {"team": "ops"},
            id="whole-name-first",
        ),
        pytest.param(
            {"a": "text"}, {"team_claim": "a.b.c"}, {"team": None}, id="path-through-text"
        ),
    ],
)  # fmt: skip
def test_claims_become_rights(
    said: dict[str, Any], settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Claims name the user, the team and the models, as the settings say."""
    key = accept(sign(claims(**said)), **settings)
    for name, value in expected.items():
        assert getattr(key, name) == value


def hs256(header: dict[str, Any], secret: bytes) -> Secret:
    """Return a JWT that is signed with a shared secret; PyJWT itself would refuse a public key."""
    signed = f"{encode_part(header)}.{encode_part(claims())}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        signed.encode(), secret
    )
    return Secret(f"{signed}.{encode_part(mac)}")


def with_header(**members: Any) -> Secret:
    """Return a token that is properly signed under a header of its own."""
    return sign(headers=members)


def resigned(header: dict[str, Any], payload: object) -> Secret:
    """Return a token signed by our key over exactly these parts."""
    signed = f"{encode_part(header)}.{encode_part(payload)}"
    algorithm = RSAAlgorithm(RSAAlgorithm.SHA256)
    signature = algorithm.sign(signed.encode(), private_key("RS256"))
    return Secret(f"{signed}.{encode_part(signature)}")


def attacks() -> list[Any]:
    """Return tokens that must not pass, with why."""
    good = sign().reveal()
    header, payload, signature = good.split(".")
    public = private_key("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    evil = rsa.generate_private_key(65537, 2048)
    evil_jwk = RSAAlgorithm.to_jwk(evil.public_key(), as_dict=True)
    own_key = jwt.encode(claims(), evil, "RS256", {"kid": "evil", "jwk": evil_jwk})
    own_url = jwt.encode(claims(), evil, "RS256", {"kid": "RS256-1", "jku": "https://evil.example"})
    own_x5u = jwt.encode(claims(), evil, "RS256", {"kid": "RS256-1", "x5u": "https://evil.example"})
    twice = json.dumps(claims())[:-1] + ', "sub": "root"}'
    return [
        # Realistic
        ("issuer", sign(claims(iss="https://evil.example"))),
        ("issuer", sign(claims(iss=ISSUER + "/"))),
        ("issuer", sign(claims(iss=None))),
        ("audience", sign(claims(aud="another-api"))),
        ("audience", sign(claims(aud=["another-api", "a-third"]))),
        ("claims", sign(claims(aud=None))),
        ("claims", sign(claims(exp=None))),
        ("claims", sign(claims(sub=None))),
        ("not_yet", sign(claims(nbf=NOW + 6))),
        ("not_yet", sign(claims(iat=NOW + 6))),
        ("signer", sign(number=2)),
        ("type", with_header(typ="logout+jwt")),
        # Synthetic
        ("malformed", Secret(f"{encode_part({'alg': 'none'})}.{payload}.")),
        ("malformed", Secret(f"{header}.{payload}.")),
        ("algorithm", Secret(f"{encode_part({'alg': 'none', 'typ': 'JWT'})}.{payload}.x")),
        ("algorithm", Secret(f"{encode_part({'alg': 'NoNe'})}.{payload}.{signature}")),
        ("algorithm", hs256({"alg": "HS256", "kid": "RS256-1"}, pem)),
        ("algorithm", hs256({"alg": "HS256"}, json.dumps(public_jwk()).encode())),
        ("algorithm", Secret(f"{encode_part({'kid': 'RS256-1'})}.{payload}.{signature}")),
        ("algorithm", Secret(f"{encode_part({**HEADER, 'alg': ['RS256']})}.{payload}.x")),
        ("signature", Secret(f"{header}.{encode_part(claims(sub='root'))}.{signature}")),
        ("signature", Secret(f"{header}.{payload}.{signature[:-8]}AAAAAAAA")),
        ("signature", Secret(f"{header}.{payload}.{sign(number=2).reveal().split('.')[2]}")),
        ("signer", Secret(own_key)),
        ("signature", Secret(own_url)),
        ("signature", Secret(own_x5u)),
        ("signer", with_header(kid="../../etc/passwd")),
        ("signer", with_header(kid="ES256-1")),
        ("malformed", resigned({**HEADER, "kid": 7}, claims())),
        ("malformed", resigned({**HEADER, "kid": ["RS256-1"]}, claims())),
        ("extension", resigned({**HEADER, "crit": ["b64"], "b64": True}, claims())),
        ("extension", resigned({**HEADER, "crit": []}, claims())),
        ("type", resigned({**HEADER, "typ": 1}, claims())),
        ("type", resigned({**HEADER, "typ": ["JWT"]}, claims())),
        ("type", resigned({**HEADER, "typ": ""}, claims())),
        ("claims", sign(claims(sub=""))),
        ("claims", sign(claims(sub=" "))),
        ("claims", sign(claims(sub=7))),
        ("claims", sign(claims(sub="x" * 257))),
        ("claims", sign(claims(exp="tomorrow"))),
        ("claims", sign(claims(exp=True))),
        ("claims", sign(claims(exp=1e300))),
        ("claims", sign(claims(exp=-1))),
        ("claims", sign(claims(exp=253_402_300_798))),
        ("claims", sign(claims(nbf="now"))),
        ("audience", sign(claims(aud={"ringback": 1}))),
        ("audience", sign(claims(aud=[AUDIENCE, 7]))),
        # Pathological
        ("malformed", sign_bytes(twice.encode())),
        ("malformed", resigned({}, b'{"iss": NaN}')),
        ("malformed", sign_bytes(b"[1]")),
        ("malformed", sign_bytes(b"\xff\xfe")),
        ("malformed", sign_bytes(b"[" * 3000)),
        ("malformed", Secret("..")),
        ("malformed", Secret("a.b.c")),
        ("malformed", Secret(f"{header}=.{payload}.{signature}")),
        ("malformed", Secret(f"{header}.{payload}.{signature}\n")),
        ("too_long", sign(claims(pad="x" * 9000))),
        ("too_long", Secret("." * 2 + "a" * 1_000_000)),
    ]


ATTACKS = attacks()


@pytest.mark.parametrize(
    ("reason", "token"),
    ATTACKS,
    ids=[f"{index}-{reason}" for index, (reason, _) in enumerate(ATTACKS)],
)
def test_attacks(reason: str, token: Secret) -> None:
    """None of these is accepted, and the reason quotes nothing."""
    with pytest.raises(JwtRefusedError) as caught:
        accept(token)
    assert caught.value.reason == reason
    assert str(caught.value) == f"the JWT is not accepted: {reason}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("said", "settings"),
    [
        # Realistic
        pytest.param({"groups": ["a", "b"]}, {"team_claim": "groups"}, id="several-teams"),
        pytest.param({}, {"user_claim": "email"}, id="no-user"),
        # Synthetic
        pytest.param({"team": {"id": 1}}, {"team_claim": "team"}, id="team-is-an-object"),
        pytest.param({"team": ""}, {"team_claim": "team"}, id="empty-team"),
        pytest.param({"team": ["x" * 300]}, {"team_claim": "team"}, id="long-team"),
        pytest.param({"m": {"a": 1}}, {"models_claim": "m"}, id="models-are-an-object"),
        pytest.param({"m": ["voice", 7]}, {"models_claim": "m"}, id="a-model-is-a-number"),
        pytest.param({"m": [""]}, {"models_claim": "m"}, id="a-model-is-empty"),
        pytest.param({"m": ["m"] * 1001}, {"models_claim": "m"}, id="too-many-models"),
    ],
)
def test_claims_that_say_nothing_clear(said: dict[str, Any], settings: dict[str, Any]) -> None:
    """Where a claim cannot be understood the token is refused."""
    with pytest.raises(JwtRefusedError, match="claims"):
        accept(sign(claims(**said)), **settings)


@pytest.mark.parametrize(
    ("after_s", "is_good"), [(299, True), (304.9, True), (305, False)], ids=["in", "last", "over"]
)
def test_expiry(after_s: float, is_good: bool) -> None:
    """The second of ``exp``, and the leeway behind it, is the first that is over."""
    now = NOW + after_s
    key = accept(sign(), now)
    assert key.expires is not None
    assert (datetime.fromtimestamp(now, UTC) < key.expires) == is_good


def test_weak_keys() -> None:
    """A signature by an RSA key of 1024 bits is none."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  the point of the test
    key = PyJWK(RSAAlgorithm.to_jwk(weak.public_key(), as_dict=True), "RS256")
    signed = f"{encode_part(HEADER)}.{encode_part(claims())}"
    made = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signed.encode(), weak)
    token = read_jwt(Secret(f"{signed}.{encode_part(made)}"), oidc_settings())
    with pytest.raises(JwtRefusedError):
        verify_jwt(token, key, oidc_settings(), NOW)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Whatever a credential is, it is refused or no JWT."""
    credential = Secret(text)
    if is_jwt(credential):
        with pytest.raises(JwtRefusedError):
            accept(credential)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.b.c", True), ("sk-abc", False), ("a.b", False), ("a.b.c.d.e", False), ("", False)],
)
def test_is_jwt(text: str, expected: bool) -> None:
    """Three parts make a JWT; a virtual key and a sealed token have other numbers."""
    assert is_jwt(Secret(text)) == expected


@pytest.mark.parametrize(
    ("keys", "algorithm", "kid", "found"),
    [
        # Realistic
        pytest.param([public_jwk()], "RS256", "RS256-1", True, id="by-kid"),
        pytest.param([public_jwk(kid=None)], "RS256", None, True, id="no-kids"),
        pytest.param([public_jwk(), public_jwk("ES256")], "ES256", None, True, id="one-fits"),
        pytest.param([public_jwk(alg="RS256")], "RS256", "RS256-1", True, id="with-alg"),
        pytest.param([public_jwk(use="enc")], "RS256", "RS256-1", False, id="for-encryption"),
        pytest.param([public_jwk()], "RS256", "RS256-2", False, id="another-kid"),
        pytest.param([public_jwk()], "PS256", "RS256-1", True, id="rsa-key-without-alg"),
        pytest.param([public_jwk(alg="RS256")], "PS256", "RS256-1", False, id="for-another-alg"),
        # Synthetic
        pytest.param([public_jwk(), public_jwk(number=2)], "RS256", None, False, id="a-guess"),
        pytest.param([public_jwk(), public_jwk()], "RS256", "RS256-1", False, id="twice"),
        pytest.param([public_jwk("ES384")], "ES256", "ES384-1", False, id="another-curve"),
        pytest.param([public_jwk(key_ops=["sign"])], "RS256", "RS256-1", False, id="for-signing"),
        pytest.param([public_jwk(key_ops="verify")], "RS256", "RS256-1", False, id="ops-are-text"),
        # Pathological
        pytest.param([{"kty": "oct", "k": "c2VjcmV0"}], "RS256", None, False, id="shared-secret"),
        pytest.param([public_jwk(n="")], "RS256", "RS256-1", False, id="no-modulus"),
        pytest.param([public_jwk(n=5)], "RS256", "RS256-1", False, id="modulus-is-a-number"),
        pytest.param([public_jwk("ES256", x="AAAA")], "ES256", "ES256-1", False, id="no-point"),
        pytest.param([{}], "RS256", None, False, id="empty"),
    ],
)
def test_jwk_set(keys: list[dict[str, Any]], algorithm: str, kid: str | None, found: bool) -> None:
    """Of a set exactly one key may fit, by use, type, curve, algorithm and kid."""
    found_key = parse_jwk_set(json.dumps({"keys": keys}).encode()).find(algorithm, kid)
    assert (found_key is not None) == found


@pytest.mark.parametrize(
    "text",
    [
        # Realistic
        b"<html>", b"", b'{"error": "x"}',
        # Pathological
        b'{"keys": {}}', b"[]", b'{"keys": [], "keys": []}',
        json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
    ],
)  # fmt: skip
def test_no_jwk_set(text: bytes) -> None:
    """Anything else than a set of a reasonable size is refused."""
    with pytest.raises(JwkSetError):
        parse_jwk_set(text)


@pytest.mark.parametrize(
    "values",
    [
        # Realistic
        {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_url": "https://id.example/jwks"},
        {"audience": ["x"]},
        # Pathological
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"issuer": ""},
    ],
)
def test_refused_settings(values: dict[str, Any]) -> None:
    """Issuer, audience and keys come together, and shared secrets never."""
    with pytest.raises(ValidationError):
        OidcSettings.model_validate(values)
