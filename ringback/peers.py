"""Who may speak to a service: SPIFFE ids, and the patterns that they are compared with.

https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
"""

import re
from collections.abc import Iterable
from typing import Final

_ANY_BELOW: Final = "/*"
# Section 2: a trust domain is lower case, a segment is neither empty nor `.` nor `..`.
_PATTERN: Final = re.compile(
    r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)*(?:/\*)?"
)
_MAX_CHARS: Final = 2048


def check_peer_pattern(pattern: str) -> str:
    """Check a SPIFFE id, or one that ends in ``/*``, and return it.

    Raises:
        ValueError: If no SPIFFE id could match it.
    """
    if len(pattern) > _MAX_CHARS or not _PATTERN.fullmatch(pattern):
        raise ValueError(
            "expected spiffe://trust-domain/path without a slash at the end; /* at the end stands "
            "for whatever comes below, and there is no other wildcard"
        )
    return pattern


def is_allowed(peer: str, patterns: Iterable[str]) -> bool:
    """Tell whether a SPIFFE id is one of several, or below one that ends in ``/*``.

    Args:
        peer: As the certificate has it.
        patterns: Checked by `check_peer_pattern`.
    """
    return any(
        peer.startswith(pattern[:-1]) and len(peer) >= len(pattern)
        if pattern.endswith(_ANY_BELOW)
        else peer == pattern
        for pattern in patterns
    )
