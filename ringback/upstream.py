"""What an upstream's refusal means to the downstream, for mint and for calls alike.

4xx that concern the caller's own request pass on. A refusal of the gateway's own credentials is the
gateway's fault, and no text of an upstream that might quote a credential leaves.
"""

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any, Final

from ringback.errors import ApiError

# Providers echo a masked key in some messages, and of rate limits they tell the operator's
# organization and project; anything that looks like one is replaced: OpenAI's prefixes, a JWT, or
# as many letters and digits in a row as an Azure key has. Words like `session.type` and ids like
# `req_...` stay.
_CREDENTIAL: Final = re.compile(
    r"\b(?:(?:sk|ek|rk|sess|org|proj)[-_]|eyJ)[-_A-Za-z0-9*.]{6,}|\b[A-Za-z0-9]{32,}"
)
# Lines of SDP that say how a peer is reached, or what its media are locked with (RFC 8839, 8122).
_SDP_LINE: Final = re.compile(
    r"\b(?:a=(?:candidate|crypto|fingerprint|ice-pwd|ice-ufrag|remote-candidates|rtcp):|[co]=)"
    r"[^\r\n]*"
)
_MAX_MESSAGE_CHARS: Final = 2000
_MAX_RETRY_AFTER_S: Final = 3600
_MAX_DIGITS: Final = 9


class UpstreamRefusedError(ApiError):
    """The provider does not accept the gateway's own credentials (401 or 403)."""

    http_status = 502
    type = "upstream_error"
    code = "upstream_refused"

    def __str__(self) -> str:
        return (
            "The provider refused the gateway's own credentials for this model. "
            "Tell the operator; another try will not help."
        )


class UpstreamFailedError(ApiError):
    """The provider failed (5xx), or answered what cannot be used."""

    http_status = 502
    type = "upstream_error"
    code = "upstream_failed"

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.headers = headers or {}

    def __str__(self) -> str:
        return "The provider failed. Try again shortly."


class UpstreamTimeoutError(ApiError):
    """The provider took too long."""

    http_status = 504
    type = "upstream_error"
    code = "upstream_timeout"

    def __str__(self) -> str:
        return "The provider took too long to answer. Try again shortly."


class UpstreamUnreachableError(ApiError):
    """No connection to the provider could be made."""

    http_status = 503
    type = "service_unavailable"
    code = "upstream_unreachable"
    headers = MappingProxyType({"retry-after": "1"})

    def __str__(self) -> str:
        return "The provider cannot be reached. Try again shortly."


class UpstreamAnswerError(ApiError):
    """The provider refused the caller's request, in its own words.

    The downstream reads the provider's code; `code` stays ours, because it is a metric label and
    a provider can write anything.

    Args:
        status: The provider's 4xx.
        error: Its ``error`` object; empty if it had none.
        headers: ``retry-after`` if it sent a usable one.
    """

    type = "invalid_request_error"
    code = "upstream_refused_request"

    def __init__(self, status: int, error: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.http_status = status
        self.type = _text(error, "type") or self.type
        self.param = _text(error, "param") or None
        self.headers = headers
        self._code = _text(error, "code") or self.code
        self._message = _text(error, "message")

    def to_object(self) -> dict[str, str | None]:
        """Return the error object with the provider's own code."""
        return {**super().to_object(), "code": self._code}

    def __str__(self) -> str:
        if self._message:
            return self._message
        return (
            f"The provider refused the request with status {self.http_status} and gave no reason. "
            "Check the session settings and the offer."
        )


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """Return what the downstream receives for an upstream's answer that is no success.

    Args:
        status: The upstream's status; a success counts as a failure here, since it is of no use.
        headers: Its headers, names in lower case.
        body: Its body, or as much of it as was read.
    """
    if status in {401, 403}:
        return UpstreamRefusedError()
    if status == 408:
        return UpstreamTimeoutError()
    retry = _retry_after(headers)
    if status == 407 or not 400 <= status < 500:
        return UpstreamFailedError(retry)
    return UpstreamAnswerError(status, _error_object(body), retry)


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    """Return ``retry-after`` in seconds, empty if there is none that can be read.

    A date (RFC 9110 section 10.2.3) counts from the answer's own ``date``: whose clock is wrong
    does not matter.
    """
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        seconds = int(value)
    else:
        seconds = _seconds_between(headers.get("date", ""), value)
    return {"retry-after": str(min(seconds, _MAX_RETRY_AFTER_S))} if seconds >= 0 else {}


def _seconds_between(begin: str, end: str) -> int:
    """Return the seconds between two dates of HTTP, less than 0 if one of them is none."""
    try:
        return int((parsedate_to_datetime(end) - parsedate_to_datetime(begin)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return -1


def _error_object(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {}


def _text(error: Mapping[str, Any], name: str) -> str:
    value = error.get(name)
    if not isinstance(value, str):
        return ""
    # Cut last: of a key that is cut in two, neither half looks like one.
    shown = _CREDENTIAL.sub("***", _SDP_LINE.sub("***", value))[:_MAX_MESSAGE_CHARS]
    # JSON can escape half a surrogate pair, which no answer of ours could hold.
    return shown.encode(errors="replace").decode()
