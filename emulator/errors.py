"""Refusals in the shape of the provider's errors.

The texts imitate the provider, so that clients and gateways meet here what they will meet there;
that is why some name their input, as OpenAI does.
"""

from typing import Any


class ApiError(Exception):
    """A request or an event that the emulated provider refuses.

    Attributes:
        status: HTTP status; over a data channel or a sideband it is not used.
        code: The machine-readable reason, or None where the provider sends null.
        param: The parameter at fault, or None.
        kind: OpenAI's error ``type``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind

    def __str__(self) -> str:
        return self.message

    def error(self) -> dict[str, Any]:
        """Return the ``error`` object that bodies and error events carry."""
        return {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }


def missing_key() -> ApiError:
    """Refuse a request without a credential (401)."""
    return ApiError(
        401, "You didn't provide an API key. Send it in an Authorization header: Bearer YOUR_KEY"
    )


def incorrect_key(value: str) -> ApiError:
    """Refuse a credential that is unknown here or has expired (401).

    The message shows the key's ends, as OpenAI's does: a gateway must not pass it on.
    """
    masked = f"{value[:3]}{'*' * 8}{value[-4:]}" if len(value) > 12 else "*" * len(value)
    return ApiError(401, f"Incorrect API key provided: {masked}.", code="invalid_api_key")


def wrong_entra_token() -> ApiError:
    """Refuse a token that Entra ID has not issued for Azure (401)."""
    return ApiError(
        401,
        "Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired.",
        code="401",
    )


def resource_not_found() -> ApiError:
    """Refuse a path of Azure's that needs ``?api-version=`` and has none (404)."""
    return ApiError(404, "Resource not found", code="404")


def beta_disabled() -> ApiError:
    """Refuse the retired beta of the WebSocket API, which a header asks for (close code 4000)."""
    return ApiError(
        400,
        "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.",
        code="beta_api_shape_disabled",
    )


def ephemeral_required() -> ApiError:
    """Refuse a long-lived credential on Azure's calls endpoint (401)."""
    return ApiError(401, "This operation requires ephemeral tokens for authentication")


def call_not_found() -> ApiError:
    """Refuse to touch a call that is unknown, has ended or is not live yet (404)."""
    return ApiError(
        404, "No session found for the provided call_id", code="call_id_not_found", param=""
    )


def voice_is_fixed() -> ApiError:
    """Return the error for another voice after the first has been heard.

    https://github.com/openai/openai-agents-python/issues/1661
    """
    return ApiError(
        400,
        "Cannot update a conversation's voice if assistant audio is present.",
        code="cannot_update_voice",
    )


def session_expired(cap_s: float) -> ApiError:
    """End a session that has lasted as long as it may; sockets close with the same words (1001)."""
    return ApiError(
        400,
        f"Your session hit the maximum duration of {cap_s / 60:g} minutes.",
        code="session_expired",
    )


def invalid_offer(
    message: str = "Invalid SDP offer. Please try again with a WHIP-compliant offer.",
) -> ApiError:
    """Refuse an SDP offer (400)."""
    return ApiError(400, message, code="invalid_offer")


def unsupported_content_type(content_type: str, accepted: str) -> ApiError:
    """Refuse a body of another kind than the endpoint reads (400, as OpenAI does)."""
    return ApiError(
        400,
        f"Unsupported content type: '{content_type}'. This API method only accepts {accepted}.",
        code="unsupported_content_type",
    )


def unknown_parameter(param: str) -> ApiError:
    """Refuse a field that the endpoint doesn't know (400)."""
    return ApiError(400, f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def missing_parameter(param: str) -> ApiError:
    """Refuse a body or event that lacks a field (400)."""
    return ApiError(
        400,
        f"Missing required parameter: '{param}'.",
        code="missing_required_parameter",
        param=param,
    )


def invalid_type(param: str, expected: str) -> ApiError:
    """Refuse a field of another JSON type (400)."""
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {expected}.",
        code="invalid_type",
        param=param,
    )


def invalid_value(param: str, expected: str) -> ApiError:
    """Refuse a value outside of what the field allows (400)."""
    return ApiError(
        400, f"Invalid value for '{param}': expected {expected}.", code="invalid_value", param=param
    )


def invalid_json() -> ApiError:
    """Refuse a text that is no JSON object (400)."""
    return ApiError(400, "We could not parse the JSON that you sent.", code="invalid_json")


def invalid_form() -> ApiError:
    """Refuse a multipart body that is none (400)."""
    return ApiError(400, "We could not parse the multipart form that you sent.")
