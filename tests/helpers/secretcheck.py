"""Finds secrets in what programs write."""

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote


class ShownSecretError(AssertionError):
    """A secret was found; says which and how it was written, not the text around it."""


def check_shows_none(text: str, secrets: Iterable[str]) -> None:
    """Check that a text holds no secret, plain or in a usual disguise.

    Raises:
        ShownSecretError: If it does.
    """
    for secret in secrets:
        for form, disguised in _disguises(secret).items():
            if disguised in text:
                raise ShownSecretError(f"{secret} is shown: {form}")


def _disguises(secret: str) -> dict[str, str]:
    # Of base64 only what does not depend on the bytes around it.
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    return {
        "plain": secret,
        "as JSON": json.dumps(secret)[1:-1],
        "in a URL": quote(secret, safe=""),
        "in base64": encoded,
        "in hex": secret.encode().hex(),
        "its end": secret[-12:],
    }
