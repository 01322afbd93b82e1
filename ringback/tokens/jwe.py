"""Sealing of claims as compact JWE (RFC 7516), and strict opening."""

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwe import JWERegistry, decrypt_compact, encrypt_compact
from joserfc.util import urlsafe_b64decode

from ringback.tokens.budget import SealBudget
from ringback.tokens.errors import CannotSealError, TokenError
from ringback.tokens.keys import KeyRing

# Browsers and proxies take header lines of 8 KiB; an honest token has about 700 characters.
MAX_SEALED_CHARS: Final = 8 * 1024

_REGISTRY: Final = JWERegistry(algorithms=("dir", "A256GCM"))
# Header, no encrypted key (`dir`), IV of 96 bits, ciphertext, tag of 128 bits.
_FORM: Final = re.compile(
    r"([A-Za-z0-9_-]+)\.\.[A-Za-z0-9_-]{16}\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{21}[AQgw]"
)
# By the length of the last group: how base64url may end if the bits it does not need are zero.
_LAST_CHARS: Final = {1: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
# Nobody but us makes these headers, so there is one spelling: no other parameter (`zip`, `crit`,
# `jku`, ...), order, repetition or space gets as far as a JSON parser.
_HEADER: Final = re.compile(
    rb'\{"alg":"dir","enc":"A256GCM","typ":"ringback\+jwe","kid":"([A-Za-z0-9._-]{1,64})"\}'
)


class Sealer:
    """Seals claims into text that only we can read, and opens it again.

    The text is the prefix and a compact JWE: ``alg`` ``dir``, ``enc`` ``A256GCM``. Every text has
    one spelling: a change of any character makes it invalid.

    Args:
        keyring: The keys of this kind of token.
        prefix: What the text begins with.
        budget: Counts what each key seals.

    Attributes:
        revoked_kids: Ids of keys that neither seal nor open any more.
    """

    def __init__(self, keyring: KeyRing, *, prefix: str, budget: SealBudget | None = None) -> None:
        self._keyring = keyring
        self._prefix = prefix
        self._budget = budget or SealBudget(prefix.rstrip("_"))
        self.revoked_kids: AbstractSet[str] = frozenset()

    def take_up(self, materials: Mapping[str, bytes]) -> None:
        """Use the keys of a JWK set that has changed.

        Args:
            materials: From `ringback.tokens.keys.read_jwk_set`.
        """
        self._keyring.take_up(materials)

    def check_can_seal(self, now: float) -> None:
        """Check that `seal` will find a key, before anything is done that would be in vain.

        Raises:
            CannotSealError: If it will not.
        """
        kid, _ = self._keyring.sealing_key(now)
        if kid in self.revoked_kids:
            raise CannotSealError("revoked")
        self._budget.check(kid)

    def seal(self, claims: Mapping[str, object], now: float) -> str:
        """Return the sealed claims.

        Args:
            claims: JSON values, with the times ``iat`` and ``exp`` in whole seconds.
            now: Seconds since the epoch.

        Raises:
            TokenError: If the result could not be opened: times are missing (``claims``), are
                over (``expired``) or to come (``not_yet``), or there is too much (``length``).
            CannotSealError: If the key may seal nothing any more.
        """
        self._check_times(claims, now)
        self.check_can_seal(now)
        kid, key = self._keyring.sealing_key(now)
        self._budget.take(kid)
        header = {"alg": "dir", "enc": "A256GCM", "typ": "ringback+jwe", "kid": kid}
        plaintext = json.dumps(dict(claims), separators=(",", ":"), allow_nan=False)
        sealed = encrypt_compact(header, plaintext, key, registry=_REGISTRY)
        if len(self._prefix) + len(sealed) > MAX_SEALED_CHARS:
            raise TokenError("length")
        return self._prefix + sealed

    def open(self, text: str, now: float, *, grace_s: int = 0) -> dict[str, Any]:
        """Return the claims in a sealed text.

        Args:
            text: What `seal` returned, or whatever a client sends instead.
            now: Seconds since the epoch.
            grace_s: For how many seconds after its expiry it opens all the same.

        Raises:
            TokenError: If the text is not ours, was changed, has expired or is from the future.
        """
        # First of all, so that nothing is done for a text of megabytes.
        if len(text) > MAX_SEALED_CHARS:
            raise TokenError("length")
        if not text.startswith(self._prefix):
            raise TokenError("prefix")
        sealed = text[len(self._prefix) :]
        kid = _parse_kid(sealed)
        if kid in self.revoked_kids:
            raise TokenError("revoked")
        key = self._keyring.opening_key(kid, now)
        try:
            plaintext = decrypt_compact(sealed, key, registry=_REGISTRY).plaintext
        except JoseError:
            raise TokenError("decrypt") from None
        claims = _parse_claims(plaintext)
        self._check_times(claims, now, grace_s)
        return claims

    def _check_times(self, claims: Mapping[str, object], now: float, grace_s: int = 0) -> None:
        issued_at, expires_at = claims.get("iat"), claims.get("exp")
        # Not isinstance: True is an int too.
        if type(issued_at) is not int or type(expires_at) is not int:
            raise TokenError("claims")
        if now >= expires_at + grace_s:
            raise TokenError("expired")
        if issued_at > now + self._keyring.leeway_s:
            raise TokenError("not_yet")


def _parse_kid(sealed: str) -> str:
    form = _FORM.fullmatch(sealed)
    if form is None or not all(_is_canonical(part) for part in form.groups()):
        raise TokenError("form")
    header = _HEADER.fullmatch(urlsafe_b64decode(form[1].encode()))
    if header is None:
        raise TokenError("header")
    return header[1].decode()


def _is_canonical(part: str) -> bool:
    rest = len(part) % 4
    return not rest or part[-1] in _LAST_CHARS[rest]


def _parse_claims(plaintext: bytes | None) -> dict[str, Any]:
    try:
        claims = json.loads(plaintext or b"")
    except (ValueError, RecursionError):
        # Not chained: the error of the decoder holds the whole text.
        raise TokenError("claims") from None
    if not isinstance(claims, dict):
        raise TokenError("claims")
    return claims
