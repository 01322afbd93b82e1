"""Errors of extauthz: what the downstream is told, and files that cannot be used."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ringback.errors import ApiError, StartError

# RFC 9110 section 11.6.1: a 401 names the scheme that would be accepted.
_CHALLENGE: Mapping[str, str] = MappingProxyType({"www-authenticate": "Bearer"})
# How a key is best sent.
KEY_FORM = "Authorization: Bearer sk-..."


class AuthError(ApiError):
    """A caller whose key does not admit the request: 401 unless a subclass says otherwise."""

    http_status = 401
    type = "auth_error"
    code = "unauthorized"
    headers: Mapping[str, str] = _CHALLENGE

    def __str__(self) -> str:
        return f"This request is not authorized. Send a valid key as `{KEY_FORM}`."


class MissingKeyError(AuthError):
    """The request carries no key.

    Args:
        form: The header in which it is expected, as it should be sent.
    """

    code = "key_missing"

    def __init__(self, form: str = KEY_FORM) -> None:
        self.form = form

    def __str__(self) -> str:
        return f"No API key was sent. Send yours as `{self.form}`."


class MalformedKeyError(AuthError):
    """The credential is no key at all.

    Args:
        form: The header in which it was found, as it should be sent.
    """

    code = "key_malformed"

    def __init__(self, form: str = KEY_FORM) -> None:
        self.form = form

    def __str__(self) -> str:
        return (
            f"The API key cannot be read. Send it as `{self.form}`: "
            "one space, the whole key, no quotes."
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


class TokenUncheckedError(ApiError):
    """What is known of tokens beside themselves cannot be had, so this one is not judged: 503."""

    http_status = 503
    type = "service_unavailable"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "The token cannot be checked at the moment. Try again shortly, with the same token."


class OverloadedError(ApiError):
    """Too many requests of this kind are being decided, so this one is not begun: 503."""

    http_status = 503
    type = "service_unavailable"
    code = "overloaded"
    headers: Mapping[str, str] = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "The gateway is busy and has not begun with this request. Try again shortly."


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
