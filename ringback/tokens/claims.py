"""What an ``ek_`` token says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from ringback.secrets import Secret
from ringback.tokens import forms
from ringback.tokens.errors import TokenError

# Short, because they travel with every call.
_MEMBERS: Final = MappingProxyType(
    {
        "jti": "jti",
        "iat": "iat",
        "exp": "exp",
        "ek": "ek",
        "deployment": "dep",
        "origin": "org",
        "calls_path": "pth",
        "auth_scheme": "sch",
        "model": "mdl",
        "asked": "ask",
        "key_hash": "key",
        "key_alias": "als",
        "team": "tea",
        "user": "usr",
        "session_type": "ses",
        "bound_origin": "bnd",
    }
)
_FORMS: Final = MappingProxyType(
    {
        "jti": forms.IDENTIFIER,
        "ek": forms.CREDENTIAL,
        "deployment": forms.TEXT,
        "origin": forms.ORIGIN,
        "calls_path": forms.PATH,
        "auth_scheme": re.compile("bearer"),
        "model": forms.TEXT,
        "asked": forms.TEXT,
        "key_hash": forms.VISIBLE,
        "key_alias": forms.LABEL,
        "team": forms.LABEL,
        "user": forms.LABEL,
        "session_type": forms.IDENTIFIER,
        "bound_origin": forms.ORIGIN,
    }
)
_OPTIONAL: Final = frozenset({"asked", "key_alias", "team", "user", "bound_origin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallClaims:
    """The right to open one call at the deployment that minted the ephemeral key.

    Raises:
        ValueError: If a value could not be what it is said to be, for example an ephemeral key
            with a line break; names the field, not the value.
    """

    jti: str
    """Id of the token, up to 128 letters, digits, ``_`` and ``-``."""

    iat: int
    """When it was issued, in seconds since the epoch."""

    exp: int
    """The first second in which it is not valid any more."""

    ek: Secret
    """The upstream's ephemeral key."""

    deployment: str
    """Id of the deployment that minted ``ek``."""

    origin: str
    """Where the deployment is: ``scheme://host[:port]`` in lower case, no default port."""

    calls_path: str
    """Path and query of the upstream's calls endpoint."""

    auth_scheme: Literal["bearer"]
    """How ``ek`` is sent upstream."""

    model: str
    """The model group that the client asked for."""

    key_hash: str
    """Hash of the virtual key that minted the token."""

    session_type: str
    """``realtime`` or ``transcription``."""

    asked: str | None = None
    """The name by which the client asked for the model, if another: an alias."""

    key_alias: str | None = None
    team: str | None = None
    user: str | None = None

    bound_origin: str | None = None
    """The only browser ``Origin`` that may use the token; None for any."""

    def __post_init__(self) -> None:
        forms.check_times(self.iat, self.exp)
        forms.check_forms(self, _FORMS, _OPTIONAL)

    def to_claims(self) -> dict[str, object]:
        """Return the members to seal, with the ephemeral key in the clear."""
        members = {member: getattr(self, name) for name, member in _MEMBERS.items()}
        members["ek"] = self.ek.reveal()
        return {member: value for member, value in members.items() if value is not None}

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Self:
        """Read the members of an opened token.

        Raises:
            TokenError: With reason ``claims`` if they are not exactly what `to_claims` makes.
        """
        fields = forms.read_members(claims, _MEMBERS, _OPTIONAL)
        try:
            return cls(**fields | {"ek": Secret(fields["ek"])})
        except ValueError as error:
            raise TokenError("claims") from error
