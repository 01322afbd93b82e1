"""Why a key is refused, with LiteLLM's status and ``error.type``.

No message says what else exists: no other model, route, team or key.
"""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

from extauthz.errors import AuthError
from ringback.errors import ApiError

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

# Whose list of models refuses.
Refuser = Literal["key", "team", "member", "user", "project"]
# Whose budget is used up.
Spender = Literal[
    "key",
    "model",
    "window",
    "team",
    "team_window",
    "member",
    "user",
    "organization",
    "project",
    "proxy",
]
_SPENDERS: Final[Mapping[Spender, str]] = MappingProxyType(
    {
        "key": "this API key",
        "model": "this API key for the requested model",
        "window": "this API key for the current period",
        "team": "the team of this API key",
        "team_window": "the team of this API key for the current period",
        "member": "the user of this API key within the team",
        "user": "the user of this API key",
        "organization": "the organization of this API key",
        "project": "the project of this API key",
        "proxy": "the whole gateway",
    }
)


class UnknownKeyError(AuthError):
    """No source knows the key."""

    type = "token_not_found_in_db"
    code = "key_unknown"
    param = "key"

    def __str__(self) -> str:
        return (
            "This API key is not known. Check that you sent the whole key, "
            "or ask your platform team for a new one."
        )


class KeyBlockedError(AuthError):
    """The key was blocked by an administrator."""

    code = "key_blocked"
    param = "key"

    def __str__(self) -> str:
        return "This API key is blocked. Ask your platform team to unblock it."


class KeyExpiredError(AuthError):
    """The key's time is over.

    Args:
        expires: The first moment at which the key was no longer valid.
    """

    type = "expired_key"
    code = "key_expired"
    param = "key"

    def __init__(self, expires: datetime) -> None:
        self.expires = expires

    def __str__(self) -> str:
        return (
            f"This API key expired at {self.expires:%Y-%m-%dT%H:%M:%SZ}. "
            "Ask your platform team for a new one."
        )


class UserInactiveError(AuthError):
    """The key's user was deactivated by SCIM: 401."""

    code = "user_inactive"
    param = "key"

    def __str__(self) -> str:
        return (
            "The user of this API key is deactivated. "
            "Use a key of an active user, or ask your platform team to activate this one."
        )


class TeamUnknownError(AuthError):
    """The key names a team that is gone: 404, as in LiteLLM."""

    http_status = 404
    code = "team_unknown"
    param = "key"
    headers: Mapping[str, str] = _NO_HEADERS

    def __str__(self) -> str:
        return (
            "The team of this API key does not exist any more. "
            "Ask your platform team for a key of another team."
        )


class TeamBlockedError(AuthError):
    """The key's team was blocked by an administrator: 401."""

    code = "team_blocked"
    param = "key"

    def __str__(self) -> str:
        return "The team of this API key is blocked. Ask your platform team to unblock it."


class ProjectBlockedError(AuthError):
    """The key's project was blocked by an administrator: 401."""

    code = "project_blocked"
    param = "key"

    def __str__(self) -> str:
        return "The project of this API key is blocked. Ask your platform team to unblock it."


class AddressDeniedError(AuthError):
    """Keys may not be used from where the request comes: 403."""

    http_status = 403
    code = "address_denied"
    headers: Mapping[str, str] = _NO_HEADERS

    def __str__(self) -> str:
        return (
            "API keys may not be used from this address. "
            "Call from another network, or ask your platform team to allow this one."
        )


class RouteDeniedError(AuthError):
    """The key's ``allowed_routes`` do not name the path: 403."""

    http_status = 403
    code = "route_denied"
    param = "key"
    headers: Mapping[str, str] = _NO_HEADERS

    def __str__(self) -> str:
        return (
            "This API key may not call this path. "
            "Use another key, or ask your platform team to add the path to its allowed routes."
        )


class ModelDeniedError(AuthError):
    """A list of models does not name the requested one: 403.

    Args:
        refuser: Whose list that is; in LiteLLM a member's is the team's, too.
    """

    http_status = 403
    type = "key_model_access_denied"
    code = "model_denied"
    param = "model"
    headers: Mapping[str, str] = _NO_HEADERS

    def __init__(self, refuser: Refuser = "key") -> None:
        self.refuser: Refuser = refuser
        self.type = f"{'team' if refuser == 'member' else refuser}_model_access_denied"

    def __str__(self) -> str:
        return (
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access."
        )


class BudgetExceededError(ApiError):
    """A budget is used up: 422, or what ``budget_exceeded_status_code`` says.

    No `AuthError`: the caller is known, and a new token would help as little as a new request.

    Args:
        spender: Whose budget it is.
        status: The status of the answer.
        masked: The key as it may be shown, if it is known.
    """

    http_status = 422
    type = "budget_exceeded"
    code = "budget_exceeded"

    def __init__(self, spender: Spender, status: int = 422, masked: str | None = None) -> None:
        self.spender: Spender = spender
        self.http_status = status
        self.masked = masked

    def __str__(self) -> str:
        whose = _SPENDERS[self.spender]
        if self.masked:
            whose = whose.replace("this API key", f"API key {self.masked}")
        return f"The budget of {whose} is used up. Ask your platform team to raise it."
