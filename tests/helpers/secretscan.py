"""Finds in logs what no log may hold, whoever wrote it."""

import re
from typing import Final

# By name, what to look for. Broad on purpose: a false alarm costs a look, a miss costs a key.
PATTERNS: Final = {
    "standard or virtual key": re.compile(r"\bsk-\w[\w-]+"),
    "ephemeral key, token or call id": re.compile(r"\b(?:ek|rtc)_\w[\w.-]+"),
    "sealed text": re.compile(r"\beyJ[\w-]{6,}"),
    "credential": re.compile(r"\b(?:bearer|basic)\s+[\w-]", re.IGNORECASE),
    "line of SDP": re.compile(
        r"\b(?:v=0|o=-|m=(?:audio|video|application)"
        r"|a=(?:candidate|fingerprint|ice-|mid|rtpmap|setup)|c=IN)"
    ),
    "address": re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])"),
    "query string": re.compile(r"\?[\w-]+="),
}
# Logs may hold it. It is random, so that one in thousands begins like something else.
_TOKEN_ID: Final = re.compile(r'"token_id":"[\w-]{16}"')


def find_secrets(text: str, *further: str) -> set[str]:
    """Return what a text holds and should not: names of patterns, and further texts as they are."""
    scanned = _TOKEN_ID.sub("", text)
    found = {name for name, pattern in PATTERNS.items() if pattern.search(scanned)}
    return found | {secret for secret in further if secret in text}
