"""Call handles: what a downstream knows a call by.

A handle names the deployment and the upstream's call, so that any replica can route requests
about the call and tell whose it is, without a table.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ringback.tokens import forms
from ringback.tokens.errors import TokenError
from ringback.tokens.jwe import Sealer

# Longer than any call: providers end a session after an hour.
HANDLE_LIFETIME_S: Final = 86_400

_MEMBERS: Final = MappingProxyType(
    {
        "deployment": "dep",
        "call_id": "cid",
        "key_hash": "key",
        "token_id": "jti",
        "issued_at": "iat",
    }
)
_FORMS: Final = MappingProxyType(
    {
        "deployment": forms.TEXT,
        "call_id": forms.IDENTIFIER,
        "key_hash": forms.VISIBLE,
        "token_id": forms.IDENTIFIER,
    }
)
# RFC 3986 section 3. The authority never gives characters back (`?+`): in `https://rtc_x` it is
# a host, not a path.
_LOCATION: Final = re.compile(
    r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]*)?+"
    rf"(?:[^?#]*/)?({forms.IDENTIFIER.pattern})(?:[?#].*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHandle:
    """Which call, and whose.

    Raises:
        ValueError: If a value could not be what it is said to be; names the field only.
    """

    deployment: str
    """Id of the deployment that answers the call."""

    call_id: str
    """The upstream's id of the call, up to 128 letters, digits, ``_`` and ``-``."""

    key_hash: str
    """Hash of the virtual key that pays for the call."""

    token_id: str
    """Id of the token that opened the call."""

    issued_at: int
    """When the call was answered, in seconds since the epoch."""

    def __post_init__(self) -> None:
        forms.check_times(self.issued_at, self.issued_at + HANDLE_LIFETIME_S)
        forms.check_forms(self, _FORMS)


def seal_handle(handle: CallHandle, sealer: Sealer, now: float) -> str:
    """Return the handle as one path segment: letters, digits, ``_``, ``-`` and ``.`` only.

    Args:
        handle: The call.
        sealer: From `ringback.tokens.handle_sealer`.
        now: Seconds since the epoch.

    Raises:
        TokenError: If the handle could not be opened now, because ``issued_at`` is far from now.
    """
    members = {member: getattr(handle, name) for name, member in _MEMBERS.items()}
    return sealer.seal(members | {"exp": handle.issued_at + HANDLE_LIFETIME_S}, now)


def open_handle(text: str, sealer: Sealer, now: float) -> CallHandle:
    """Return the handle in a path segment or parameter.

    Args:
        text: What `seal_handle` returned, or whatever a client sends instead.
        sealer: From `ringback.tokens.handle_sealer`.
        now: Seconds since the epoch.

    Raises:
        TokenError: If it is no handle of ours or has expired; then there is no such call (404).
    """
    claims = sealer.open(text, now)
    expires_at = claims.pop("exp")
    fields = forms.read_members(claims, _MEMBERS)
    if expires_at != fields["issued_at"] + HANDLE_LIFETIME_S:
        raise TokenError("claims")
    try:
        return CallHandle(**fields)
    except ValueError as error:
        raise TokenError("claims") from error


def parse_call_id(location: str) -> str:
    """Return the last path segment of a ``Location``, the upstream's id of a call.

    Args:
        location: A URL, absolute or relative, with or without query and fragment.

    Raises:
        ValueError: If it does not end in 1 to 128 letters, digits, ``_`` and ``-``; the upstream's
            answer is no use then (502).
    """
    match = _LOCATION.fullmatch(location)
    if match is None:
        raise ValueError("the Location of a call must end in its id")
    return match[1]
