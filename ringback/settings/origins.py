"""Entries of ``cors_origins``."""

import re

# The last label is never a wildcard: `https://app.*` would let in whoever registers `app.example`.
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ORIGIN_PATTERN = re.compile(
    rf"https?://(?:(?:(?:\*|{_LABEL})\.)*{_LABEL}|\[[0-9a-f:.]+\])(?::(?:\*|[1-9][0-9]{{0,4}}))?"
)
_DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")


def check_origin_pattern(origin: str) -> str:
    """Check one entry of ``cors_origins`` and return it.

    Raises:
        ValueError: If no browser could send an origin (RFC 6454 section 6.2) that matches it.
    """
    if not _ORIGIN_PATTERN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin):
        raise ValueError(
            "an origin is scheme://host[:port] in lower case without a path or a default port, "
            "for example https://app.example.com; * stands for any port, or for one label of the "
            "host other than the last"
        )
    return origin
