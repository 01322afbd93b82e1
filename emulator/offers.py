"""What the emulated provider checks in an SDP offer, and how it reads one. Pure text."""

import re
from typing import Final

from emulator import errors

MAX_OFFER_BYTES: Final = 64 * 1024
_SECTION: Final = re.compile("(?m)^(?=m=)")


def parse_offer(body: bytes) -> str:
    r"""Return the offer in a request body as text with ``\r\n`` line ends and no candidates.

    Like the ice-lite provider, the emulator never sends first: it answers the client's connectivity
    checks and learns the client's addresses from them (RFC 8445 section 7.3.1.3). So an offer's
    candidates, mDNS names among them, are not needed and nobody can make the emulator send to an
    address by naming it. Without them ``end-of-candidates`` would say that no check can ever come,
    and is dropped as well.

    Raises:
        ApiError: 400 ``invalid_offer``.
    """
    if len(body) > MAX_OFFER_BYTES:
        raise errors.invalid_offer()
    try:
        lines = body.decode("utf-8").splitlines()
    except UnicodeDecodeError as exc:
        raise errors.invalid_offer() from exc
    if not lines or lines[0] != "v=0":
        raise errors.invalid_offer()
    if not any(line.startswith("m=audio ") for line in lines):
        raise errors.invalid_offer("Offer did not have an audio media section.")
    kept = (line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates")))
    return "".join(f"{line}\r\n" for line in kept)


def set_rejected_aside(offer: str) -> tuple[str, dict[int, str]]:
    """Part an offer from the media sections that it rejects itself (RFC 3264 section 6).

    aiortc would wait for the transport of such a section for ever.

    Args:
        offer: From `parse_offer`.

    Returns:
        The offer without them, and for each its place and the section that answers it.
    """
    head, *sections = _SECTION.split(offer)
    rejected = {
        place: _answer_rejected(section)
        for place, section in enumerate(sections)
        if section.split(" ", 2)[1] == "0" and "\r\na=bundle-only\r\n" not in section
    }
    kept = (section for place, section in enumerate(sections) if place not in rejected)
    return head + "".join(kept), rejected


def put_rejected_back(answer: str, rejected: dict[int, str]) -> str:
    """Return an answer with the sections that `set_rejected_aside` took, at their places."""
    head, *sections = _SECTION.split(answer)
    for place, section in sorted(rejected.items()):
        sections.insert(place, section)
    return head + "".join(sections)


def _answer_rejected(section: str) -> str:
    media, *attributes = section.splitlines()
    mids = [line for line in attributes if line.startswith("a=mid:")]
    lines = (media, "c=IN IP4 0.0.0.0", "a=inactive", *mids)
    return "".join(f"{line}\r\n" for line in lines)
