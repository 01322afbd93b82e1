"""Policies of every shape, and what must hold of whatever they are applied to."""

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Any, Final, TypeVar

from hypothesis import strategies as st

from ringback.sdppolicy import (
    AnswerCandidates,
    AudioLimits,
    ForbiddenMedia,
    OfferCandidates,
    Policy,
)
from sdpfilter.draft import Rewritten
from sdpfilter.edits.addresses import is_unset, why_hidden
from sdpfilter.edits.codecs import payload_type
from sdpfilter.sdp.session import MediaSection, SessionDescription

T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of several values."""

_AUDIO: Final = {
    "max_average_bitrate": (None, 6_000, 20_000, 510_000),
    "use_inband_fec": (None, True, False),
    "use_dtx": (None, True, False),
    "stereo": (None, True, False),
    "bandwidth_as_kbps": (None, 8, 40),
    "bandwidth_tias_bps": (None, 6_000, 32_000),
}
_SWITCHES: Final = {
    "media": (
        None,
        frozenset({"audio"}),
        frozenset({"audio", "application"}),
        frozenset({"audio", "video"}),
    ),
    "forbidden_media": tuple(ForbiddenMedia),
    "max_data_sections": (None, 0, 1),
    "audio_codecs": (
        None,
        frozenset({"opus"}),
        frozenset({"opus", "red"}),
        frozenset({"opus", "pcmu", "pcma", "g722"}),
        frozenset({"pcma", "pcmu", "cn", "telephone-event", "red"}),
    ),
    "audio_codec_order": ((), ("pcmu",), ("pcmu", "opus"), ("opus",)),
    "offer_candidates": tuple(OfferCandidates),
    "mask_related_addresses": (False, True),
    "answer_candidates": tuple(AnswerCandidates),
    "answer_addresses": (
        None,
        (ip_network("20.0.0.0/8"), ip_network("51.0.0.0/8"), ip_network("2001:db8::/32")),
        (ip_network("0.0.0.0/1"), ip_network("::/0")),
    ),
    "min_fingerprint_hash": (None, "sha-256", "sha-384"),
    "direction": (None, "recvonly", "sendonly"),
    # Most offers exceed these, and what is refused tells little.
    "max_bytes": (None, None, None, None, 1_024, 4_096),
    "max_lines": (None, None, None, None, 32, 100),
    "max_line_bytes": (None, 256),
    "max_media_sections": (None, None, None, None, 1, 2),
    "max_candidates": (None, None, None, 0, 6),
}


def make_policy(pick: Pick) -> Policy:
    """Return a policy whose switches are picked from a few values each."""
    audio = [
        AudioLimits(**{name: pick(values) for name, values in _AUDIO.items()}) for _ in range(2)
    ]
    switches = {name: pick(values) for name, values in _SWITCHES.items()}
    return Policy(offer_audio=audio[0], answer_audio=audio[1], **switches)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies with few switches set and with many."""
    odds = draw(st.sampled_from([3, 8, 16]))

    def pick(values: Sequence[T]) -> T:
        # The first value is the default.
        return draw(st.sampled_from([values[0]] * (odds - 1) + [*values]))

    return make_policy(pick)


# What ICE, DTLS and SCTP live by.
_UNTOUCHED: Final = (
    b"ice-ufrag",
    b"ice-pwd",
    b"ice-lite",
    b"ice-options",
    b"fingerprint",
    b"setup",
    b"mid",
    b"rtcp-mux",
    b"sctp-port",
    b"sctpmap",
    b"max-message-size",
    b"ssrc",
    b"msid",
    b"extmap",
)


def check_rewritten(before: SessionDescription, after: Rewritten) -> None:
    """Check what holds of every rewritten description, whatever the policy.

    Raises:
        AssertionError: If something does not.
    """
    assert (after.data is before.data) == (not after.edits)
    assert after.description.data == after.data
    _check_other_lines(before, after)
    assert len(before.media) == len(after.description.media)
    for old, new in zip(_parts(before), _parts(after.description), strict=True):
        for name in _UNTOUCHED:
            assert [a.value for a in old.attributes(name)] == [
                a.value for a in new.attributes(name)
            ]
        if isinstance(old, MediaSection):
            assert isinstance(new, MediaSection)
            _check_section(old, new)
    _check_groups(before, after.description)


def check_hidden(offer: SessionDescription) -> None:
    """Check that no address in an offer tells where in a private network somebody is."""
    for part in _parts(offer):
        for candidate in part.attributes(b"candidate"):
            assert not why_hidden(candidate.value.split()[4])
        for connection in part.typed(b"c"):
            address = connection.value.split()[2]
            assert is_unset(address) or not why_hidden(address)
        for rtcp in part.attributes(b"rtcp"):
            fields = rtcp.value.split()
            assert len(fields) < 2 or is_unset(fields[3]) or not why_hidden(fields[3])


def count_candidates(description: SessionDescription) -> int:
    """Return the number of candidates in sections that are not rejected."""
    return sum(
        len(section.attributes(b"candidate"))
        for section in description.media
        if not section.is_rejected
    )


def _parts(description: SessionDescription) -> list[Any]:
    return [description.session, *description.media]


def _check_other_lines(before: SessionDescription, after: Rewritten) -> None:
    """Check that lines which no edit names are there, in their order, with all their bytes."""
    edited = {edit.lineno for edit in after.edits}
    lines = iter(after.data.splitlines(keepends=True))
    for lineno, line in enumerate(before.data.splitlines(keepends=True), 1):
        if lineno not in edited:
            assert line in lines


def _check_groups(before: SessionDescription, after: SessionDescription) -> None:
    """Check that BUNDLE groups lose rejected sections only, and vanish when they have no other."""
    rejected = {section.mid for section in after.media if section.is_rejected}
    expected = [group for group in before.bundle_groups if not group or {*group} - rejected]
    found = [group for group in after.bundle_groups if not group or {*group} - rejected]
    for old, new in zip(expected, found, strict=True):
        assert {*old} - {*new} <= rejected
        assert new == [mid for mid in old if mid in new]


def _check_section(old: MediaSection, new: MediaSection) -> None:
    assert (old.media, old.proto) == (new.media, new.proto)
    assert new.formats
    assert not {*new.formats} - {*old.formats}
    if old.is_rejected:
        assert new.is_rejected
    gone = {*map(payload_type, old.formats)} - {*map(payload_type, new.formats)}
    for name in (b"rtpmap", b"fmtp", b"rtcp-fb"):
        values = (found.value.split(b" ")[0] for found in new.attributes(name))
        # Without a number the line is about none.
        named = {payload_type(value) for value in values if value}
        assert not named & gone
