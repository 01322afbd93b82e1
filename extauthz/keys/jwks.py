"""JWK sets (RFC 7517): a provider's keys, for those who check its signatures. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jwt import PyJWK, PyJWTError

from extauthz.jsontext import JsonError, parse_object

# Providers publish two or three.
MAX_KEYS: Final = 100
# Type, and curve if it has one, of keys for an algorithm (RFC 7518 section 3.1, RFC 8037).
_KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
    **{f"{family}{bits}": ("RSA", None) for family in ("RS", "PS") for bits in (256, 384, 512)},
}


class JwkSetError(ValueError):
    """A text that is no JWK set."""

    def __str__(self) -> str:
        return "expected a JWK set"


class JwkSet:
    """Keys that signatures are checked with.

    Args:
        keys: Members of ``keys``; those of other uses and types are passed over when one is found.
    """

    def __init__(self, keys: Sequence[Mapping[str, Any]]) -> None:
        self._keys = tuple(keys)
        self._made: dict[tuple[str, str | None], PyJWK | None] = {}

    def find(self, algorithm: str, kid: str | None) -> PyJWK | None:
        """Return the one key that a token may be signed with, or None.

        Args:
            algorithm: One that the settings allow.
            kid: What the token says; None fits if there is a single key for the algorithm.
        """
        fitting = [
            key
            for key in self._keys
            if _is_for(key, algorithm) and (kid is None or key.get("kid") == kid)
        ]
        if len(fitting) != 1:
            return None
        # Only what is in the set gets here, so this does not grow with what callers send.
        place = (algorithm, kid)
        if place not in self._made:
            self._made[place] = _make(fitting[0], algorithm)
        return self._made[place]


def parse_jwk_set(text: bytes) -> JwkSet:
    """Parse a JWK set.

    Raises:
        JwkSetError: If it is none, or has more keys than `MAX_KEYS`.
    """
    try:
        keys = parse_object(text).get("keys")
    except JsonError:
        raise JwkSetError from None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise JwkSetError
    return JwkSet([key for key in keys if isinstance(key, dict)])


def _is_for(key: Mapping[str, Any], algorithm: str) -> bool:
    kind, curve = _KINDS[algorithm]
    operations = key.get("key_ops", ["verify"])
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _make(key: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    try:
        return PyJWK(dict(key), algorithm)
    except (PyJWTError, ValueError, TypeError):
        return None
