"""Pseudonyms: stable names for users that say nothing about them to whoever reads them."""

import hmac
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final

from ringback.secrets import Secret

_LENGTH: Final = 32


class Pseudonyms:
    """Names users by a keyed hash, so that nobody can try names until one fits.

    Args:
        key: The key of the hash; as long as it stays the same, so do the pseudonyms.
    """

    def __init__(self, key: Secret) -> None:
        self._key = key.to_bytes()

    def of(self, kind: str, name: str) -> str:
        """Return 32 letters, digits, ``_`` and ``-`` that stand for a name.

        Args:
            kind: What the name is the name of: a user and a key of one name differ.
            name: What nobody shall learn.
        """
        digest = hmac.digest(self._key, f"{kind}\0{name}".encode(errors="surrogatepass"), sha256)
        return urlsafe_b64encode(digest).decode()[:_LENGTH]
