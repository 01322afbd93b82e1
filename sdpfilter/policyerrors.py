"""Why a policy refuses a description that is otherwise fine; ``sdpfilter.errors`` has the tree.

Messages name what the policy allows, which is the operator's word, and no byte of the input.
"""

from collections.abc import Iterable

from sdpfilter.errors import AnswerError, LimitError, SDPError


class TooManyCandidatesError(LimitError):
    """The offer has more candidates than the policy allows."""

    code = "sdp_too_many_candidates"

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit

    @property
    def problem(self) -> str:
        """The number that was found and the one that is allowed."""
        return f"the offer has {self.count} candidates, at most {self.limit} are allowed"

    @property
    def fix(self) -> str:
        """Candidates are gathered after createOffer()."""
        return "send the description as createOffer() made it, before candidates are gathered"


class PolicyError(SDPError):
    """A description that asks for more than the policy of this caller allows."""

    http_status = 403


class ForbiddenMediaError(PolicyError):
    """An offer has a kind of media that is not allowed."""

    code = "sdp_media_forbidden"

    def __init__(self, lineno: int, allowed: Iterable[str]) -> None:
        self.lineno, self.allowed = lineno, tuple(sorted(allowed))

    @property
    def problem(self) -> str:
        """The m= line, 1-based, and the kinds that are allowed."""
        kinds = " or ".join(self.allowed)
        return f"line {self.lineno}: expected a media section of an allowed kind: {kinds}"

    @property
    def fix(self) -> str:
        """Where a media section comes from."""
        return "add no other track or transceiver before createOffer()"


class TooManyDataSectionsError(PolicyError):
    """An offer has more media sections for data channels than allowed."""

    code = "sdp_data_sections"

    def __init__(self, lineno: int, limit: int) -> None:
        self.lineno, self.limit = lineno, limit

    @property
    def problem(self) -> str:
        """The m= line, 1-based, of the first one too many, and the number that is allowed."""
        return (
            f"line {self.lineno}: expected no further media section for data channels, at most "
            f"{self.limit} allowed"
        )

    @property
    def fix(self) -> str:
        """One section carries every channel."""
        return (
            "open all channels on one media section, as createDataChannel() does"
            if self.limit
            else "call createDataChannel() not at all"
        )


class ForbiddenTransportError(PolicyError):
    """A media section that is not allowed carries the transport of those that are."""

    code = "sdp_transport_forbidden"

    def __init__(self, lineno: int) -> None:
        self.lineno = lineno

    @property
    def problem(self) -> str:
        """The m= line, 1-based; the first of a BUNDLE group carries the transport of all."""
        return (
            f"line {self.lineno}: expected a media section that is allowed as the first of its "
            "BUNDLE group, because the others share its transport"
        )

    @property
    def fix(self) -> str:
        """Sections stand in the order in which they were added."""
        return "add the audio track before all others"


class NoCodecLeftError(PolicyError):
    """An audio section has none of the codecs that are allowed."""

    code = "sdp_no_codec"

    def __init__(self, lineno: int, allowed: Iterable[str]) -> None:
        self.lineno, self.allowed = lineno, tuple(sorted(allowed))

    @property
    def problem(self) -> str:
        """The m= line, 1-based, and the codecs that are allowed."""
        codecs = ", ".join(self.allowed)
        return f"line {self.lineno}: expected at least one of these codecs for voice: {codecs}"

    @property
    def fix(self) -> str:
        """Browsers offer Opus unless a page keeps them from it."""
        return "do not remove codecs with setCodecPreferences() or by editing the description"


class WeakFingerprintError(PolicyError):
    """A DTLS fingerprint has a weak hash (RFC 8122, section 5)."""

    code = "sdp_weak_fingerprint"

    def __init__(self, lineno: int, weakest: str) -> None:
        self.lineno, self.weakest = lineno, weakest

    @property
    def problem(self) -> str:
        """The line, 1-based, and the weakest hash that is allowed."""
        return f"line {self.lineno}: expected a=fingerprint with {self.weakest} or a longer hash"

    @property
    def fix(self) -> str:
        """Every browser of today uses sha-256."""
        return "update the browser or the WebRTC library"


class ForbiddenAnswerError(AnswerError):
    """The answer does what the policy forbids, and no edit can mend it."""

    code = "sdp_answer_forbidden"

    def __init__(self, reason: PolicyError) -> None:
        self.reason = reason

    @property
    def problem(self) -> str:
        """What the same lines would have been refused for in an offer."""
        return f"the policy forbids the upstream's answer: {self.reason.problem}"


class NoCandidateLeftError(AnswerError):
    """The answer has no candidate left at which the downstream may reach the upstream."""

    code = "sdp_no_candidate"

    def __init__(self, answered: int) -> None:
        self.answered = answered

    @property
    def problem(self) -> str:
        """How many there were, and why none is left."""
        return (
            "expected at least one candidate that the policy allows in the upstream's answer, "
            f"which has {self.answered}"
        )

    @property
    def fix(self) -> str:
        """Only the operator can change either side."""
        return "ask the operator to allow the transport and the addresses of this upstream"
