"""Signatures of webhooks, as Standard Webhooks has them. Pure.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from typing import Final

from ringback.secrets import Secret

_PREFIX: Final = "whsec_"
# What the standard asks for.
_MIN_BYTES, _MAX_BYTES = 24, 64


class BadSigningSecretError(Exception):
    """A secret that is none of the standard."""

    def __str__(self) -> str:
        return (
            "expected whsec_ and 24 to 64 random bytes in base64, one or several with spaces "
            "between them: echo whsec_$(openssl rand -base64 32)"
        )


def parse_secrets(secret: Secret) -> tuple[bytes, ...]:
    """Return the keys of one secret, or of several with spaces between them.

    Raises:
        BadSigningSecretError: If one is none, or there is none at all.
    """
    words = secret.reveal().split()
    if not words:
        raise BadSigningSecretError
    return tuple(map(_parse, words))


def signed_headers(
    keys: Iterable[bytes], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return the headers by which a receiver believes a message.

    Args:
        keys: Each makes a signature, so that a secret can be replaced.
        message_id: The same for the same message, however often it is sent.
        timestamp: Of this attempt, in seconds since 1970.
        body: As it is sent.
    """
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _parse(word: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSigningSecretError from error
    if not word.startswith(_PREFIX) or not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise BadSigningSecretError
    return key
