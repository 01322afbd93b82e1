"""What every error answer of both services has in common: OpenAI's error object."""

import json
from collections.abc import Mapping
from types import MappingProxyType

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class StartError(Exception):
    """Something that keeps a program from starting.

    Its text goes to the terminal as it is, and the program ends with exit code 2. The text names
    what to mend, never a secret.
    """


def why_unusable(error: Exception) -> str:
    """Return why a file could not be read or written, in words that a terminal may show.

    Args:
        error: What opening, reading or decoding it raised; its path and content are left out.
    """
    match error:
        case OSError(strerror=str(words)):
            return words
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case _:
            return type(error).__name__


class ApiError(Exception):
    """An error that the downstream receives as an HTTP answer.

    Subclasses set the class variables, store facts in ``__init__`` and build the message in
    ``__str__``; the message says what to do next and quotes no secret, SDP or raw header.
    """

    http_status: int = 500
    """Status of the answer."""

    type: str = "internal_server_error"
    """``error.type``: LiteLLM's value where LiteLLM has one, since clients branch on it."""

    code: str = "internal_error"
    """``error.code``: a stable word, also the log field and the metric label."""

    param: str | None = None
    """``error.param``: the part of the request that is wrong."""

    headers: Mapping[str, str] = _NO_HEADERS
    """Response headers that belong to the error, for example ``retry-after``."""

    def __str__(self) -> str:
        return "The gateway failed. Try again, and report x-request-id if it goes on."

    def to_object(self) -> dict[str, str | None]:
        """Return the error object: ``message``, ``type``, ``param`` and ``code``."""
        return {
            "message": str(self),
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }

    def to_body(self) -> bytes:
        """Return the body: ``{"error":{"message","type","param","code"}}`` as JSON in UTF-8."""
        content = {"error": self.to_object()}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
