"""An OpenID provider for tests: keys, JWTs, and the set that is published."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from helpers.authz import NOW
from helpers.recording import JSON, RecordingUpstream, Reply
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings

ISSUER: Final = "https://id.example/realms/voice"
AUDIENCE: Final = "ringback"
JWKS: Final = "jwks.json"
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")


@cache
def private_key(algorithm: str, number: int = 1) -> Any:
    """Return a key for an algorithm, the same for the same number."""
    assert number
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(65537, 2048)


def public_jwk(algorithm: str = "RS256", number: int = 1, **members: Any) -> dict[str, Any]:
    """Return the published form of a key; a member that is None is left out."""
    made = get_default_algorithms()[algorithm].to_jwk(
        private_key(algorithm, number).public_key(), as_dict=True
    )
    named = {"kid": f"{algorithm}-{number}", "use": "sig", **made, **members}
    return {name: value for name, value in named.items() if value is not None}


def claims(**members: Any) -> dict[str, Any]:
    """Return what a good token says, but for what is said otherwise; None leaves out."""
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "iat": NOW,
        "exp": NOW + 300,
        **members,
    }
    return {name: value for name, value in said.items() if value is not None}


def sign(
    said: Mapping[str, Any] | None = None,
    *,
    algorithm: str = "RS256",
    number: int = 1,
    headers: Mapping[str, Any] | None = None,
) -> Secret:
    """Return a JWT."""
    header = {"kid": f"{algorithm}-{number}", **(headers or {})}
    key = private_key(algorithm, number)
    content = dict(claims() if said is None else said)
    # What PyJWT refuses to write is what is tested.
    payload = json.dumps(content).encode()
    return Secret(jwt.api_jws.encode(payload, key, algorithm, header))


def sign_bytes(payload: bytes, *, algorithm: str = "RS256", number: int = 1) -> Secret:
    """Return a JWT around any payload."""
    header = {"kid": f"{algorithm}-{number}"}
    return Secret(jwt.api_jws.encode(payload, private_key(algorithm, number), algorithm, header))


def encode_part(content: object) -> str:
    """Return a part of a JWT."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return urlsafe_b64encode(text).rstrip(b"=").decode()


def jwks_reply(*keys: Mapping[str, Any], delay_s: float = 0) -> Reply:
    """Return the answer with a set of keys."""
    return Reply(200, (JSON,), json.dumps({"keys": list(keys)}).encode(), delay_s)


def publish(server: RecordingUpstream, *keys: Mapping[str, Any], delay_s: float = 0) -> None:
    """Let a server answer with these keys."""
    server.script[JWKS] = jwks_reply(*keys, delay_s=delay_s)


def oidc_settings(url: str = "https://id.example", **values: Any) -> OidcSettings:
    """Return settings that accept what `sign` makes."""
    said = {
        "issuer": ISSUER,
        "audience": (AUDIENCE,),
        "jwks_url": f"{url}/certs/{JWKS}",
        "algorithms": ALGORITHMS,
        **values,
    }
    return OidcSettings.model_validate(said)
