"""Why sdpfilter refuses a description, in words that a browser developer can act on.

::

    SDPError
    ├── LimitError                  413
    │   ├── DescriptionTooLargeError
    │   ├── TooManyLinesError
    │   ├── LineTooLongError
    │   ├── TooManySectionsError
    │   └── TooManyCandidatesError
    ├── NotSDPError                 400
    ├── InvalidLineError            400
    ├── MissingAudioError           400
    ├── MissingAttributeError       400
    ├── PolicyError                 403, well-formed, but more than the policy allows
    │   ├── ForbiddenMediaError
    │   ├── TooManyDataSectionsError
    │   ├── ForbiddenTransportError
    │   ├── NoCodecLeftError
    │   └── WeakFingerprintError
    └── AnswerError                 502, the offer was fine and the upstream's answer is not
        ├── InvalidAnswerError
        ├── EmptyAnswerError
        ├── SectionCountError
        ├── SectionMismatchError
        ├── ForbiddenAnswerError
        └── NoCandidateLeftError

Those that only a policy raises are in ``sdpfilter.policyerrors``. No message holds a byte of the
input: a description carries ICE passwords and addresses.
"""

from typing import ClassVar


class SDPError(Exception):
    """An offer or answer that sdpfilter refuses; the text is ``problem; fix``."""

    code: ClassVar[str]
    """Short and stable: the ``code`` of the API error, the log field and the metric label."""

    http_status: ClassVar[int] = 400
    """The status that the downstream receives."""

    @property
    def problem(self) -> str:
        """The place and the expectation that was not met."""
        raise NotImplementedError

    @property
    def fix(self) -> str:
        """What the sender of the description has to change."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{self.problem}; {self.fix}"


class LimitError(SDPError):
    """A description beyond one of the limits of ``sdpfilter.sdp``, or of a policy."""

    http_status = 413


class DescriptionTooLargeError(LimitError):
    """The whole description has too many bytes."""

    code = "sdp_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes

    @property
    def problem(self) -> str:
        """The size that was found and the one that is allowed."""
        return (
            f"the description has {self.size_bytes} bytes, at most {self.limit_bytes} are allowed"
        )

    @property
    def fix(self) -> str:
        """Which parts of a description grow."""
        return "offer fewer media sections, codecs or candidates"


class TooManyLinesError(LimitError):
    """The description has too many lines."""

    code = "sdp_too_many_lines"

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit

    @property
    def problem(self) -> str:
        """The number that was found and the one that is allowed."""
        return f"the description has {self.count} lines, at most {self.limit} are allowed"

    @property
    def fix(self) -> str:
        """Which parts of a description grow."""
        return "offer fewer media sections, codecs or candidates"


class LineTooLongError(LimitError):
    """One line has too many bytes."""

    code = "sdp_line_too_long"

    def __init__(self, lineno: int, limit_bytes: int) -> None:
        self.lineno, self.limit_bytes = lineno, limit_bytes

    @property
    def problem(self) -> str:
        """The line, 1-based, and the length that is allowed."""
        return f"line {self.lineno}: expected at most {self.limit_bytes} bytes"

    @property
    def fix(self) -> str:
        """Where a long line comes from."""
        return "shorten the line, or end it with CRLF if two lines were joined"


class TooManySectionsError(LimitError):
    """The description has too many media sections."""

    code = "sdp_too_many_sections"

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit

    @property
    def problem(self) -> str:
        """The number that was found and the one that is allowed."""
        return f"the description has {self.count} media sections, at most {self.limit} are allowed"

    @property
    def fix(self) -> str:
        """A call of one voice needs two."""
        return "offer one audio track and one data channel, on a new RTCPeerConnection"


class NotSDPError(SDPError):
    """The body does not begin like a session description."""

    code = "sdp_not_sdp"

    @property
    def problem(self) -> str:
        """The first line of every description."""
        return "line 1: expected v=0"

    @property
    def fix(self) -> str:
        """The usual mistake: the RTCSessionDescription is sent as JSON."""
        return "send the text of offer.sdp itself as the body, not JSON, a form or a quoted string"


class InvalidLineError(SDPError):
    """A line breaks the grammar or stands in the wrong place."""

    code = "sdp_invalid_line"

    def __init__(self, lineno: int, expected: str, fix: str) -> None:
        self.lineno, self.expected, self._fix = lineno, expected, fix

    @property
    def problem(self) -> str:
        """The line, 1-based, and the rule."""
        return f"line {self.lineno}: expected {self.expected}"

    @property
    def fix(self) -> str:
        """What to change in that line."""
        return self._fix


class MissingAudioError(SDPError):
    """An offer has no audio to talk or listen with."""

    code = "sdp_no_audio"

    @property
    def problem(self) -> str:
        """The rule; it has no line."""
        return "expected an audio media section (m=audio) that is not rejected by port 0"

    @property
    def fix(self) -> str:
        """How a browser comes to offer audio."""
        return "add a microphone track or call addTransceiver('audio') before createOffer()"


class MissingAttributeError(SDPError):
    """An offered media section lacks an attribute without which ICE or DTLS cannot start."""

    code = "sdp_missing_attribute"

    def __init__(self, lineno: int, name: str) -> None:
        self.lineno, self.name = lineno, name

    @property
    def problem(self) -> str:
        """The m= line, 1-based, of the section and the attribute that it lacks."""
        return (
            f"line {self.lineno}: expected a={self.name} in the media section that begins here, "
            "in its BUNDLE group or at the session level"
        )

    @property
    def fix(self) -> str:
        """The usual reason is code that edits the description."""
        return "send the description as createOffer() made it"


class AnswerError(SDPError):
    """The upstream accepted the offer and answered what the downstream could not use."""

    http_status = 502

    @property
    def fix(self) -> str:
        """The sender of the offer cannot change an answer."""
        return "the offer is not at fault: try again, and tell the operator if it stays"


class InvalidAnswerError(AnswerError):
    """The answer is not SDP, breaks the grammar or exceeds a limit."""

    code = "sdp_invalid_answer"

    def __init__(self, reason: SDPError) -> None:
        self.reason = reason

    @property
    def problem(self) -> str:
        """What the same bytes would have been refused for as an offer."""
        return f"the upstream's answer is not usable SDP: {self.reason.problem}"


class EmptyAnswerError(AnswerError):
    """The answer has no media section."""

    code = "sdp_empty_answer"

    @property
    def problem(self) -> str:
        """The rule; it has no line."""
        return "the upstream's answer has no media section"


class SectionCountError(AnswerError):
    """The answer does not have the offer's number of media sections (RFC 3264, section 6)."""

    code = "sdp_section_count"

    def __init__(self, offered: int, answered: int) -> None:
        self.offered, self.answered = offered, answered

    @property
    def problem(self) -> str:
        """Both numbers."""
        return (
            f"expected as many media sections in the upstream's answer as in the offer: "
            f"{self.offered}, not {self.answered}"
        )


class SectionMismatchError(AnswerError):
    """A media section of the answer is not the one that was offered in its place."""

    code = "sdp_section_mismatch"

    def __init__(self, lineno: int, offered_lineno: int, what: str) -> None:
        self.lineno, self.offered_lineno, self.what = lineno, offered_lineno, what

    @property
    def problem(self) -> str:
        """Both m= lines, 1-based, and what differs: ``media type`` or ``mid``."""
        return (
            f"line {self.lineno} of the upstream's answer: expected a media section with the "
            f"{self.what} of the one at line {self.offered_lineno} of the offer"
        )
