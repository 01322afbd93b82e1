"""JWK sets of sealing keys."""

import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path


def sealing_key(kid: str) -> dict[str, str]:
    """Return a new key (RFC 7518 section 6.4)."""
    material = urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return {"kty": "oct", "kid": kid, "k": material}


def write_set(path: Path, keys: Iterable[dict[str, str]]) -> None:
    """Write a set in one step, as editors do."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"keys": list(keys)}))
    temporary.replace(path)
