"""Entries of ``cors_origins`` and ``websocket.origins``."""

import re
from typing import Final

# The last label is never a wildcard: `https://app.*` would let in whoever registers `app.example`.
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_ORIGIN_PATTERN = re.compile(
    rf"https?://(?:(?:(?:\*|{_LABEL})\.)*{_LABEL}|\[[0-9a-f:.]+\])(?::(?:\*|[1-9][0-9]{{0,4}}))?"
)
_DEFAULT_PORT = re.compile(r"http:.*:80|https:.*:443")
# A label of a host name as browsers write it: lower case, or Punycode.
_ANY_LABEL: Final = "[a-z0-9_-]+"
# Origins leave the port out where it is the scheme's own.
_ANY_PORT: Final = "(:[0-9]{1,5})?"


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


def origin_regex(pattern: str) -> str:
    """Return what an Origin header has to match in full (RE2 or Python) to be one of a pattern.

    Args:
        pattern: ``scheme://host[:port]``, checked by `check_origin_pattern`; ``*`` as a label of
            the host stands for any one label, as port for any port.
    """
    scheme, _, rest = pattern.partition("://")
    # The colons of an IPv6 address are inside of brackets.
    host, separator, port = rest.rpartition(":") if re.search(r":[^]]*$", rest) else (rest, "", "")
    labels = (_ANY_LABEL if label == "*" else re.escape(label) for label in host.split("."))
    port_regex = _ANY_PORT if port == "*" else re.escape(separator + port)
    return f"{scheme}://{re.escape('.').join(labels)}{port_regex}"
