"""The keys that seal tokens and call handles: derived for each day, or from a JWK set."""

import datetime as dt
import json
import re
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import OctKey

from ringback.errors import why_unusable
from ringback.secrets import Secret
from ringback.tokens.errors import KeyFileError, TokenError

# What a key is for is part of its derivation: a token never opens as a handle, nor the reverse.
TOKEN_PURPOSE: Final = "token"
HANDLE_PURPOSE: Final = "handle"
PSEUDONYM_PURPOSE: Final = "pseudonym"
CALL_KEY_PURPOSE: Final = "call_key"

_KEY_BYTES: Final = 32
_DAY_S: Final = 86_400
_EPOCH_DAY: Final = dt.date(1970, 1, 1).toordinal()
_KID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class KeyRing(ABC):
    """The keys of one purpose: one seals, several open.

    Args:
        leeway_s: How far, in seconds, the clocks of replicas may be apart.
    """

    def __init__(self, *, leeway_s: int) -> None:
        self.leeway_s = leeway_s

    @abstractmethod
    def sealing_key(self, now: float) -> tuple[str, OctKey]:
        """Return the id and the key that seal at ``now`` (seconds since the epoch)."""

    @abstractmethod
    def opening_key(self, kid: str, now: float) -> OctKey:
        """Return the key of that id if it may open at ``now`` (seconds since the epoch).

        Raises:
            TokenError: With reason ``kid`` if no such key may.
        """

    @abstractmethod
    def take_up(self, materials: Mapping[str, bytes]) -> None:
        """Use the keys of a set that has changed; keys that come from a secret know no set.

        Args:
            materials: From `read_jwk_set`.
        """

    @staticmethod
    def from_secret(secret: Secret, purpose: str, *, leeway_s: int) -> "KeyRing":
        """Return keys that are derived from a secret, one for each UTC day.

        The id of a key is its day, ``YYYY-MM-DD``. Today's seals; yesterday's opens too, and
        tomorrow's within the leeway of midnight, when a replica with a fast clock may use it.

        Args:
            secret: Long and random: a weak one can be guessed from one sealed value.
            purpose: What the keys are for.
            leeway_s: How far, in seconds, the clocks of replicas may be apart.
        """
        return _DailyKeys(secret, purpose, leeway_s=leeway_s)

    @staticmethod
    def from_jwk_set(path: Path, purpose: str, *, leeway_s: int) -> "KeyRing":
        """Return keys that are derived from the keys of a JWK set, one for each.

        The first one seals and all of them open, so a new key is added at the end, put first when
        all replicas know it, and an old one is removed when what it sealed has expired.

        Args:
            path: A JWK set (RFC 7517 section 5) of ``oct`` keys of 256 bits with unique ``kid``.
            purpose: What the keys are for.
            leeway_s: How far, in seconds, the clocks of replicas may be apart.

        Raises:
            KeyFileError: If the file cannot be used; lists everything that is wrong.
        """
        return _SetKeys(read_jwk_set(path), purpose, leeway_s=leeway_s)


def lasting_key(material: Secret | Path, purpose: str) -> Secret:
    """Return a key that no day ends, in hexadecimal digits.

    Args:
        material: A secret, or a JWK set, whose first key then counts.
        purpose: What the key is for.

    Raises:
        KeyFileError: If the file cannot be used; lists everything that is wrong.
    """
    if isinstance(material, Path):
        start = next(iter(read_jwk_set(material).values()))
    else:
        start = material.to_bytes()
    return Secret(_derive(start, f"ringback {purpose} lasting").hex())


class _DailyKeys(KeyRing):
    def __init__(self, secret: Secret, purpose: str, *, leeway_s: int) -> None:
        super().__init__(leeway_s=leeway_s)
        self._material = secret.to_bytes()
        self._purpose = purpose
        # Yesterday, today and tomorrow. Days come from our clock, never from a token.
        self._key_of_day = lru_cache(maxsize=3)(self._derive)

    def sealing_key(self, now: float) -> tuple[str, OctKey]:
        return self._key_of_day(int(now // _DAY_S))

    def opening_key(self, kid: str, now: float) -> OctKey:
        today = int(now // _DAY_S)
        latest = int((now + self.leeway_s) // _DAY_S)
        for day in range(latest, today - 2, -1):
            day_kid, key = self._key_of_day(day)
            if day_kid == kid:
                return key
        raise TokenError("kid")

    def take_up(self, materials: Mapping[str, bytes]) -> None:
        """Go on with the secret."""

    def _derive(self, day: int) -> tuple[str, OctKey]:
        kid = dt.date.fromordinal(_EPOCH_DAY + day).isoformat()
        return kid, _derive_key(self._material, f"ringback {self._purpose} day {kid}")


class _SetKeys(KeyRing):
    def __init__(self, materials: Mapping[str, bytes], purpose: str, *, leeway_s: int) -> None:
        super().__init__(leeway_s=leeway_s)
        self._info = f"ringback {purpose} jwk"
        self.take_up(materials)

    def take_up(self, materials: Mapping[str, bytes]) -> None:
        self._keys = {kid: _derive_key(key, self._info) for kid, key in materials.items()}
        self._sealing = next(iter(self._keys.items()))

    def sealing_key(self, now: float) -> tuple[str, OctKey]:  # noqa: ARG002  any time is the same
        return self._sealing

    def opening_key(self, kid: str, now: float) -> OctKey:  # noqa: ARG002  any time is the same
        key = self._keys.get(kid)
        if key is None:
            raise TokenError("kid")
        return key


def _derive_key(material: bytes, info: str) -> OctKey:
    return OctKey.import_key(_derive(material, info))


def _derive(material: bytes, info: str) -> bytes:
    """Derive bytes by HKDF-SHA256 (RFC 5869), whose ``info`` keeps uses of one secret apart."""
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info.encode()).derive(
        material
    )


def read_jwk_set(path: Path) -> dict[str, bytes]:
    """Return the key material of a JWK set by kid, in the order of the file.

    Raises:
        KeyFileError: If the file cannot be used; lists everything that is wrong.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise KeyFileError(path, [f"it cannot be read: {why_unusable(error)}"]) from error
    except (ValueError, RecursionError):
        # Not chained: the error of the decoder holds the whole text.
        raise KeyFileError(path, ["it is not JSON"]) from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise KeyFileError(path, ['expected an object {"keys": [...]} with at least one key'])
    keys: dict[str, bytes] = {}
    problems: list[str] = []
    for position, entry in enumerate(entries, start=1):
        found = _check_jwk(entry)
        kid = entry["kid"] if not found else ""
        if kid in keys:
            found = ["another key has the same kid"]
        elif not found:
            keys[kid] = _decode_material(entry["k"])
        problems += [f"key {position}: {problem}" for problem in found]
    if problems:
        raise KeyFileError(path, problems)
    return keys


def _check_jwk(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["expected an object"]
    problems = []
    if entry.get("kty") != "oct":
        problems.append("kty must be oct")
    if entry.get("use", "enc") != "enc":
        problems.append("use must be enc or absent")
    kid = entry.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        problems.append("kid must be 1 to 64 letters, digits, dots, underscores and hyphens")
    if len(_decode_material(entry.get("k"))) != _KEY_BYTES:
        problems.append("k must be 256 bits in base64url without padding")
    return problems


def _decode_material(value: object) -> bytes:
    """Decode ``k``; anything but canonical base64url gives nothing."""
    if not isinstance(value, str) or not value.isascii():
        return b""
    try:
        decoded = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return b""
    return decoded if urlsafe_b64encode(decoded).decode().rstrip("=") == value else b""
