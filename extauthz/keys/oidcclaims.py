"""JWTs (RFC 7519): what they must be like, and which virtual key they amount to. Pure.

As RFC 8725 asks: the algorithm comes from the settings, the key from the provider's set, and of the
token's header nothing is followed: neither ``jku`` nor ``x5u`` nor ``jwk``.
"""

import binascii
import hashlib
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from jwt import PyJWK

from extauthz.jsontext import JsonError, parse_object
from extauthz.keys.model import VirtualKey
from ringback.secrets import Secret
from ringback.settings.oidc import OidcSettings

HASH_PREFIX: Final = "jwt:"
# In a list of models: a name that no model has.
_NO_MODELS: Final = ("no-default-models",)
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
# RFC 7519 section 5.1 and RFC 9068 section 2.1; a token of another type was made for another use.
_TYPES: Final = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
# It is text for labels and claims, not for reading.
_MAX_NAME_CHARS: Final = 256
_MAX_MODELS: Final = 1000
# The last minutes that datetime knows: the leeway comes on top.
_MAX_TIME: Final = 253_402_300_000


class JwtRefusedError(Exception):
    """A JWT that is not accepted.

    Args:
        reason: A stable word; quotes nothing of the token.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"the JWT is not accepted: {self.reason}"


@dataclass(frozen=True, slots=True)
class Jwt:
    """A JWT that nobody has verified.

    Attributes:
        text: The whole of it.
        algorithm: One of the settings.
        kid: Which key of the provider signed it, if it says.
    """

    text: Secret
    algorithm: str
    kid: str | None


def is_jwt(credential: Secret) -> bool:
    """Tell whether a credential has the form of a JWT: three parts, separated by dots."""
    return credential.reveal().count(".") == 2


def read_jwt(text: Secret, settings: OidcSettings) -> Jwt:
    """Read what is needed to find the key of a JWT.

    Args:
        text: For which `is_jwt` is true.
        settings: What is accepted.

    Raises:
        JwtRefusedError: If it cannot be one of the provider's, whoever signed it.
    """
    if len(text) > settings.max_bytes:
        raise JwtRefusedError("too_long")
    first, second, third = text.reveal().split(".")
    header, claims = _read_part(first), _read_part(second)
    if not _PART.fullmatch(third):
        raise JwtRefusedError("malformed")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm not in settings.algorithms:
        raise JwtRefusedError("algorithm")
    # RFC 7515 section 4.1.11: whoever does not know an extension that is critical refuses.
    if "crit" in header or "b64" in header:
        raise JwtRefusedError("extension")
    if not isinstance(kind, str | None) or (kind and kind.lower()) not in _TYPES:
        raise JwtRefusedError("type")
    if not isinstance(kid, str | None):
        raise JwtRefusedError("malformed")
    # Before keys are looked for: a stranger's token is no reason to ask the provider for new ones.
    if claims.get("iss") != settings.issuer:
        raise JwtRefusedError("issuer")
    return Jwt(text, algorithm, kid)


def verify_jwt(token: Jwt, key: PyJWK, settings: OidcSettings, now: float) -> VirtualKey:
    """Verify a JWT and return the virtual key that it amounts to.

    A token whose time is over is returned as an expired key, so that its bearer learns why.

    Args:
        token: From `read_jwt`.
        key: Of the provider, for the token's algorithm.
        settings: What is accepted, and which claims mean what.
        now: The time in seconds since the epoch.

    Raises:
        JwtRefusedError: If it is not the provider's, not for us, not valid yet or says too little.
    """
    try:
        claims = jwt.decode(
            token.text.reveal(),
            key,
            algorithms=[token.algorithm],
            audience=settings.audience,
            issuer=settings.issuer,
            options={
                "require": ["iss", "aud", "exp", "sub"],
                # Below, by the clock that we are given.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.InvalidSignatureError:
        raise JwtRefusedError("signature") from None
    except jwt.InvalidAudienceError:
        raise JwtRefusedError("audience") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        # Not chained: the text of some quotes claims.
        raise JwtRefusedError("claims") from None
    for name in ("nbf", "iat"):
        if name in claims and _time_of(claims, name) > now + settings.leeway_s:
            raise JwtRefusedError("not_yet")
    expires = datetime.fromtimestamp(_time_of(claims, "exp") + settings.leeway_s, UTC)
    return VirtualKey(
        hash=hash_subject(claims["iss"], _name_of(claims, "sub")),
        models=_models_of(claims, settings.models_claim),
        expires=expires,
        team=_team_of(claims, settings.team_claim),
        user=_name_of(claims, settings.user_claim),
    )


def hash_subject(issuer: str, subject: str) -> str:
    """Return the identity of a provider's user, the same for all of its tokens."""
    # A NUL is in no issuer, which is a URL.
    return HASH_PREFIX + hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()


def _read_part(part: str) -> dict[str, Any]:
    if not _PART.fullmatch(part):
        raise JwtRefusedError("malformed")
    try:
        return parse_object(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, JsonError):
        raise JwtRefusedError("malformed") from None


def _time_of(claims: Mapping[str, Any], name: str) -> float:
    time = claims[name]
    if type(time) not in {int, float} or not 0 <= time < _MAX_TIME:
        raise JwtRefusedError("claims")
    return float(time)


def _find(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim with this name, else what the path leads to, else None."""
    # Names may hold dots themselves: https://example.com/team
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _name_of(claims: Mapping[str, Any], path: str) -> str:
    return _check_name(_find(claims, path))


def _team_of(claims: Mapping[str, Any], path: str | None) -> str | None:
    found = None if path is None else _find(claims, path)
    if found is None or found == []:
        return None
    if isinstance(found, list) and len(found) == 1:
        return _check_name(found[0])
    # Of several teams nobody can tell which one pays.
    return _check_name(found)


def _models_of(claims: Mapping[str, Any], path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    found = _find(claims, path)
    if isinstance(found, str):
        found = found.split()
    if found is None or found == []:
        # An empty list would mean every model.
        return _NO_MODELS
    if not isinstance(found, list) or len(found) > _MAX_MODELS:
        raise JwtRefusedError("claims")
    return tuple(_check_name(name) for name in found)


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME_CHARS:
        raise JwtRefusedError("claims")
    return name
