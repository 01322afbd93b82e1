"""The store that replicas share: Valkey, or Redis."""

import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ringback.secrets import Secret
from ringback.settings.sections import Section

_PREFIX: Final = r"^[A-Za-z0-9_.:-]{1,64}$"
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,4}")


def _check_url(url: Secret) -> Secret:
    """Check what names the store; a query is refused, since it could switch off TLS checks."""
    try:
        parts = urlsplit(url.reveal())
        at = bool(parts.port or parts.hostname)
    except ValueError:
        at, parts = False, urlsplit("")
    is_socket = parts.scheme == "unix" and len(parts.path) > 1 and not parts.hostname
    is_server = parts.scheme in {"redis", "rediss"} and at and _DATABASE.fullmatch(parts.path)
    if not (is_socket or is_server) or parts.query or parts.fragment:
        raise ValueError(
            "expected redis://[user:password@]host[:port][/database], the same with rediss:// for "
            "TLS, or unix:///path/to/socket"
        )
    return url


class StoreSettings(Section):
    """Where replicas keep what they share; each process for itself when no URL is set."""

    url: Annotated[Secret, AfterValidator(_check_url)] | None = None
    """``redis://``, ``rediss://`` (TLS) or ``unix://``; a secret, since it may hold a password."""

    ca_file: Path | None = None
    """Certificate authorities that may vouch for the server of a ``rediss://`` URL, a PEM file.
    Default: those of the machine."""

    prefix: Annotated[str, Field(pattern=_PREFIX)] = "ringback"
    """What the names of all keys and channels begin with; one for each gateway that shares a
    server with others."""

    timeout_s: Annotated[float, Field(gt=0, le=5)] = 1
    """For one operation, a new connection included."""

    connections: Annotated[int, Field(ge=1, le=1024)] = 32
    """At most, of each worker."""
