"""What the downstream receives when sdpfilter refuses an offer or an answer."""

from types import MappingProxyType

from ringback.errors import ApiError
from sdpfilter.errors import SDPError


class NotAnOfferError(ApiError):
    """The request's content type is not the one of an offer."""

    http_status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"

    def __str__(self) -> str:
        return (
            "Send the offer as the request body with Content-Type: application/sdp, "
            "or as the part sdp of a multipart/form-data form."
        )


class EmptyOfferError(ApiError):
    """The request has no body."""

    http_status = 400
    type = "invalid_request_error"
    code = "sdp_empty"

    def __str__(self) -> str:
        return "The request has no body. Send the text of offer.sdp, as createOffer() made it."


class DescriptionRefusedError(ApiError):
    """The offer breaks a rule; 400, or 413 beyond a limit."""

    type = "invalid_request_error"

    def __init__(self, reason: SDPError) -> None:
        self.http_status = reason.http_status
        self.code = reason.code
        self._reason = reason

    def __str__(self) -> str:
        return f"The SDP offer is refused: {self._reason}."


class AnswerRefusedError(ApiError):
    """The upstream accepted the call and answered what no browser could use."""

    http_status = 502
    type = "upstream_error"

    def __init__(self, reason: SDPError) -> None:
        self.code = reason.code
        self._reason = reason

    def __str__(self) -> str:
        return f"The SDP answer of the provider is refused: {self._reason}."


class TokenSpentError(ApiError):
    """The upstream does not accept the ephemeral key in the token any more."""

    http_status = 401
    type = "invalid_request_error"
    code = "token_refused_upstream"

    def __str__(self) -> str:
        return (
            "The provider does not accept this token, or not any more. "
            "Request a new one from POST /v1/realtime/client_secrets."
        )


class SupervisionUnavailableError(ApiError):
    """Calls have to be supervised, and nobody could take this one on."""

    http_status = 503
    type = "service_unavailable"
    code = "supervision_unavailable"
    headers = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "Calls have to be supervised, and this one could not be. Try again shortly."


class PolicyUnusableError(ApiError):
    """The policies that hold for the call contradict each other, or one does not exist."""

    http_status = 503
    type = "service_unavailable"
    code = "sdp_policy_unusable"

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return (
            "The SDP policy of this call cannot be applied. Tell the operator: "
            "another try will not help."
        )
