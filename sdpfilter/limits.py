"""What a policy refuses without trying to mend it."""

from typing import Final

from ringback.sdppolicy import FingerprintHash, Policy
from sdpfilter.errors import (
    DescriptionTooLargeError,
    LineTooLongError,
    TooManyLinesError,
    TooManySectionsError,
)
from sdpfilter.policyerrors import TooManyCandidatesError, WeakFingerprintError
from sdpfilter.sdp.session import MediaSection, SessionDescription

# In the order of their strength. Others, such as md5, sha-1 and those not known, are weaker.
_HASHES: Final = (b"sha-256", b"sha-384", b"sha-512")


def check_size(offer: SessionDescription, policy: Policy) -> None:
    """Check an offer against the numbers of a policy; the hard limits hold already.

    Raises:
        LimitError: If it exceeds one (413).
    """
    data = offer.data
    if policy.max_bytes is not None and len(data) > policy.max_bytes:
        raise DescriptionTooLargeError(len(data), policy.max_bytes)
    if policy.max_lines is not None and (count := data.count(b"\n")) > policy.max_lines:
        raise TooManyLinesError(count, policy.max_lines)
    if policy.max_line_bytes is not None:
        lengths = [*map(len, data.splitlines(keepends=True))]
        if (longest := max(lengths)) > policy.max_line_bytes:
            raise LineTooLongError(lengths.index(longest) + 1, policy.max_line_bytes)
    limit = policy.max_media_sections
    if limit is not None and len(offer.media) > limit:
        raise TooManySectionsError(len(offer.media), limit)
    if policy.max_candidates is not None:
        count = data.count(b"\na=candidate:")
        if count > policy.max_candidates:
            raise TooManyCandidatesError(count, policy.max_candidates)


def check_fingerprints(description: SessionDescription, weakest: FingerprintHash | None) -> None:
    """Check that every DTLS fingerprint has a hash of a strength (RFC 8122, section 5).

    Every one: a peer may choose any of several.

    Raises:
        WeakFingerprintError: If one has not (403 for an offer).
    """
    if weakest is None:
        return
    strong = _HASHES[_HASHES.index(weakest.encode()) :]
    for part in (description.session, *description.media):
        if isinstance(part, MediaSection) and part.is_rejected:
            continue
        for fingerprint in part.attributes(b"fingerprint"):
            if fingerprint.value.split(b" ", 1)[0].lower() not in strong:
                raise WeakFingerprintError(fingerprint.lineno, weakest)
