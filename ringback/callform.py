"""The form of ``calls``: ``multipart/form-data`` with the parts ``sdp`` and ``session``.

OpenAI: POST /v1/realtime/calls of the API reference, the "unified interface"; RFC 7578. What is in
the form decides what is sent on, so both services read it by the same strict rules, and what one
reader could take for something else than another is refused.
"""

from dataclasses import dataclass
from typing import Final

from multipart import MultipartError, PushMultipartParser, parse_options_header

from ringback.errors import ApiError

FORM_CONTENT_TYPE: Final = "multipart/form-data"
_SDP: Final = "sdp"
_SESSION: Final = "session"
# RFC 2046 section 5.1.1.
_MAX_BOUNDARY_CHARS: Final = 70
_IDENTITY_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary"})


class InvalidFormError(ApiError):
    """The form cannot be read, or holds something else: 400.

    Args:
        reason: What is wrong, without anything of the form's content.
    """

    http_status = 400
    type = "invalid_request_error"
    code = "invalid_form"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __str__(self) -> str:
        return (
            f"The multipart form is refused: {self._reason}. Send one part named sdp with the "
            "offer, and if you use a key one part named session with the session as JSON."
        )


@dataclass(frozen=True, slots=True)
class CallForm:
    """What a caller sent.

    Attributes:
        offer: The part ``sdp``, as it came.
        session: The part ``session``, as it came; None if there is none.
    """

    offer: bytes
    session: bytes | None = None


def is_form(content_type: str) -> bool:
    """Tell whether a ``Content-Type`` announces a form."""
    return content_type.partition(";")[0].strip().lower() == FORM_CONTENT_TYPE


def parse_call_form(content_type: str, body: bytes) -> CallForm:
    """Parse the body of a request to ``calls``.

    Args:
        content_type: The request's, with the boundary.
        body: The whole body; its size is limited by Envoy.

    Raises:
        InvalidFormError: If a part is missing, unknown, repeated or encoded, or if it is no form.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get("boundary", "")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise InvalidFormError("its Content-Type names no boundary of 1 to 70 characters")
    try:
        parts = _read(boundary, body)
    except MultipartError:
        # Not chained: the parser's words may quote the form.
        raise InvalidFormError("it does not follow RFC 7578") from None
    if _SDP not in parts:
        raise InvalidFormError("it has no part named sdp")
    return CallForm(parts[_SDP], parts.get(_SESSION))


def _read(boundary: str, body: bytes) -> dict[str, bytes]:
    parts: dict[str, bytearray] = {}
    current = bytearray()
    with PushMultipartParser(boundary, content_length=len(body), strict=True) as parser:
        for event in parser.parse(body):
            if event is None:
                continue
            if isinstance(event, bytes | bytearray):
                current += event
                continue
            if event.name not in {_SDP, _SESSION} or event.name in parts:
                raise InvalidFormError("it has a part that is unknown, or one that is there twice")
            encoding = event.header("Content-Transfer-Encoding", "binary")
            if encoding.lower() not in _IDENTITY_ENCODINGS:
                raise InvalidFormError("a part has a Content-Transfer-Encoding")
            current = parts[event.name] = bytearray()
    return {name: bytes(content) for name, content in parts.items()}
