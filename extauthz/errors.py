"""Errors of extauthz: what the downstream is told, and files that cannot be used."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from ringback.errors import ApiError, StartError

# RFC 9110 section 11.6.1: a 401 names the scheme that would be accepted.
_CHALLENGE: Mapping[str, str] = MappingProxyType({"www-authenticate": "Bearer"})


class AuthError(ApiError):
    """A caller whose key does not admit the request: 401 unless a subclass says otherwise."""

    http_status = 401
    type = "auth_error"
    code = "unauthorized"
    headers: Mapping[str, str] = _CHALLENGE

    def __str__(self) -> str:
        return "This request is not authorized. Send a valid key as `Authorization: Bearer sk-...`."


class MissingKeyError(AuthError):
    """The request carries no key."""

    code = "key_missing"

    def __str__(self) -> str:
        return "No API key was sent. Send yours as `Authorization: Bearer sk-...`."


class MalformedKeyError(AuthError):
    """The credential is no key at all."""

    code = "key_malformed"

    def __str__(self) -> str:
        return (
            "The API key cannot be read. Send it as `Authorization: Bearer sk-...`: "
            "one space, the whole key, no quotes."
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


class ModelDeniedError(AuthError):
    """The key is valid but not for this model: 403."""

    http_status = 403
    type = "key_model_access_denied"
    code = "model_denied"
    param = "model"
    headers: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return (
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access."
        )


class UnknownModelError(ApiError):
    """No deployment serves the requested model: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "model_unknown"
    param = "model"

    def __str__(self) -> str:
        return (
            "No deployment serves the requested model. "
            "Check its name, or ask your platform team for one that is served here."
        )


class ModelRequiredError(ApiError):
    """The request names no model, and to choose one would be a guess: 400."""

    http_status = 400
    type = "invalid_request_error"
    code = "model_required"
    param = "model"

    def __str__(self) -> str:
        return 'The request names no model. Send {"session":{"type":"realtime","model":"..."}}.'


class NotServedError(ApiError):
    """No rule covers the path: 404."""

    http_status = 404
    type = "invalid_request_error"
    code = "not_found"

    def __str__(self) -> str:
        return "There is nothing at this path."


class KeySourceUnavailableError(ApiError):
    """A key source cannot be asked, so nobody can tell whether the key is valid: 503."""

    http_status = 503
    type = "no_db_connection"
    code = "key_source_unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "The API key cannot be checked at the moment. Try again shortly."


class ConfigError(StartError):
    """A configuration or key file that cannot be used.

    At the start it ends the process with exit code 2; at a reload the old file stays in force.

    Args:
        problems: Every mistake, one line each: file, place, what is wrong and what to do; never a
            secret.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)

    def __str__(self) -> str:
        lines = (f"  {problem}" for problem in self.problems)
        return "\n".join(("The configuration cannot be used:", *lines))
