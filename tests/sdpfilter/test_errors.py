from collections.abc import Iterator

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from sdpfilter import errors
from sdpfilter.errors import AnswerError, SDPError
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.lines import MAX_DESCRIPTION_BYTES, MAX_LINE_BYTES, MAX_LINES
from sdpfilter.sdp.session import MAX_MEDIA_SECTIONS

OFFER = OFFERS["offer_chromium156_audio_dc_initial"]
ANSWER = ANSWERS["answer_openai_2026-08-17_ga_calls"]

AS_CREATED = "send the description as createOffer() made it"
NOT_AT_FAULT = "the offer is not at fault: try again, and tell the operator if it stays"
NOT_SDP = (
    "line 1: expected v=0; "
    "send the text of offer.sdp itself as the body, not JSON, a form or a quoted string"
)
BAD_MEDIA = (
    "line 8: expected m=<media> <port> <proto> <format> ... with a port from 0 to 65535; "
    "give at least one format, and one space between the fields"
)
BAD_SETUP = f"line 15: expected a=setup:actpass, a=setup:active or a=setup:passive; {AS_CREATED}"
NO_AUDIO = (
    "expected an audio media section (m=audio) that is not rejected by port 0; "
    "add a microphone track or call addTransceiver('audio') before createOffer()"
)


def replaced(old: bytes, new: bytes, *, count: int = 1, data: bytes = OFFER) -> bytes:
    """Replace what must occur in a description."""
    assert old in data
    return data.replace(old, new, count)


def missing(lineno: int, name: str) -> str:
    """Return the message for a section without an attribute."""
    return (
        f"line {lineno}: expected a={name} in the media section that begins here, in its BUNDLE "
        f"group or at the session level; {AS_CREATED}"
    )


REFUSED_OFFERS = [
    # Realistic
    pytest.param(b"", 400, "sdp_not_sdp", NOT_SDP, id="empty-body"),
    pytest.param(b'{"type":"offer","sdp":"v=0"}', 400, "sdp_not_sdp", NOT_SDP, id="json"),
    pytest.param(b'"' + OFFER, 400, "sdp_not_sdp", NOT_SDP, id="quoted"),
    pytest.param(b"\xef\xbb\xbf" + OFFER, 400, "sdp_not_sdp", NOT_SDP, id="byte-order-mark"),
    pytest.param(
        OFFER.strip(),
        400,
        "sdp_invalid_line",
        "line 48: expected CRLF after the last line too; append it; trim() removes it",
        id="trimmed",
    ),
    pytest.param(
        OFFER + b"\r\n",
        400,
        "sdp_invalid_line",
        "line 49: expected no blank line; remove it; a single CRLF ends the last line",
        id="blank-line-at-the-end",
    ),
    pytest.param(
        replaced(b"\n", b"\n    ", count=99).rstrip(b" "),
        400,
        "sdp_invalid_line",
        "line 2: expected no space at the start of a line; "
        "remove it; an indented string literal adds it",
        id="indented",
    ),
    pytest.param(
        OFFERS["offer_chromium156_recvonly_dc_initial"].replace(b"m=audio 9", b"m=audio 0"),
        400,
        "sdp_no_audio",
        NO_AUDIO,
        id="stopped-transceiver",
    ),
    pytest.param(
        OFFER[: OFFER.index(b"m=audio")] + OFFER[OFFER.index(b"m=application") :],
        400,
        "sdp_no_audio",
        NO_AUDIO,
        id="data-channel-only",
    ),
    pytest.param(
        replaced(b"a=ice-ufrag:ciyZ\r\n", b"", count=2),
        400,
        "sdp_missing_attribute",
        missing(8, "ice-ufrag"),
        id="no-ice-ufrag",
    ),
    pytest.param(
        replaced(b"a=ice-pwd:glRt8Fil7+T8Fm5MtEN1jnoa\r\n", b"", count=2),
        400,
        "sdp_missing_attribute",
        missing(8, "ice-pwd"),
        id="no-ice-pwd",
    ),
    pytest.param(
        replaced(b"a=fingerprint", b"a=crypto", count=2),
        400,
        "sdp_missing_attribute",
        missing(8, "fingerprint"),
        id="no-dtls",
    ),
    # Synthetic
    pytest.param(
        replaced(b"a=group:BUNDLE 0 1\r\n", b"").replace(b"a=ice-ufrag:ciyZ\r\n", b"", 1),
        400,
        "sdp_missing_attribute",
        missing(7, "ice-ufrag"),
        id="no-ice-ufrag-and-no-bundle",
    ),
    pytest.param(
        replaced(b"a=mid:1\r\n", b"").replace(b"a=ice-ufrag:ciyZ\r\n", b"", 2)
        + b"m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=ice-ufrag:ciyZ\r\n",
        400,
        "sdp_missing_attribute",
        missing(38, "ice-ufrag"),
        id="no-ice-ufrag-and-no-mid",
    ),
    pytest.param(
        replaced(b"a=ice-ufrag:ciyZ", b"a=ice-ufrag:", count=2),
        400,
        "sdp_missing_attribute",
        missing(8, "ice-ufrag"),
        id="empty-ice-ufrag",
    ),
    pytest.param(
        replaced(b"a=setup:actpass", b"a=setup:holdconn"),
        400,
        "sdp_invalid_line",
        BAD_SETUP,
        id="setup-holdconn",
    ),
    pytest.param(
        replaced(b"a=setup:actpass", b"a=setup"),
        400,
        "sdp_invalid_line",
        BAD_SETUP,
        id="setup-without-value",
    ),
    pytest.param(
        replaced(b"a=mid:1", b"a=mid:0"),
        400,
        "sdp_invalid_line",
        f"line 46: expected one a=mid in each media section, and no two alike; {AS_CREATED}",
        id="mid-twice",
    ),
    pytest.param(
        replaced(b"a=mid:1", b"a=mid:1\r\na=mid:2"),
        400,
        "sdp_invalid_line",
        f"line 47: expected one a=mid in each media section, and no two alike; {AS_CREATED}",
        id="two-mids",
    ),
    pytest.param(
        replaced(b"BUNDLE 0 1", b"BUNDLE 0 1 2"),
        400,
        "sdp_invalid_line",
        f"line 5: expected a BUNDLE group of mids that media sections have; {AS_CREATED}",
        id="bundle-of-no-section",
    ),
    pytest.param(
        replaced(b"BUNDLE 0 1", b"BUNDLE 0\r\na=group:BUNDLE 1 0"),
        400,
        "sdp_invalid_line",
        f"line 6: expected no mid in two BUNDLE groups; {AS_CREATED}",
        id="mid-in-two-groups",
    ),
    pytest.param(
        replaced(b"a=ice-pwd:glRt8Fil7+T8Fm5MtEN1jnoa\r\n", b""),
        400,
        "sdp_missing_attribute",
        missing(8, "ice-pwd"),
        id="half-of-the-credentials",
    ),
    pytest.param(replaced(b"v=0", b"v=1"), 400, "sdp_not_sdp", NOT_SDP, id="other-version"),
    pytest.param(OFFER[5:], 400, "sdp_not_sdp", NOT_SDP, id="no-version"),
    pytest.param(
        replaced(b"s=-\r\n", b""),
        400,
        "sdp_invalid_line",
        "line 3: expected s=; begin the description with v=, o= and s=, in this order",
        id="no-session-name",
    ),
    pytest.param(
        b"v=0\n",
        400,
        "sdp_invalid_line",
        "line 2: expected o=; begin the description with v=, o= and s=, in this order",
        id="version-alone",
    ),
    pytest.param(
        replaced(b"t=0 0\r\n", b""),
        400,
        "sdp_invalid_line",
        "line 7: expected t= before the media sections; insert t=0 0 after s=",
        id="no-time",
    ),
    pytest.param(
        replaced(b"t=0 0\r\n", b"t=0 0\r\ns=again\r\n"),
        400,
        "sdp_invalid_line",
        "line 5: expected v=, o= and s= only once; remove the line; descriptions cannot be joined",
        id="second-session-name",
    ),
    pytest.param(
        OFFER + OFFER,
        400,
        "sdp_invalid_line",
        "line 49: expected only i=, c=, b=, k= and a= in a media section; "
        "move the line above the first m= line",
        id="joined-offers",
    ),
    pytest.param(
        replaced(b"a=rtcp-mux", b"y=1"),
        400,
        "sdp_invalid_line",
        "line 23: expected <type>=<value>, the type one of v o s i u e p c b t r z k a m; "
        "correct the line or remove it",
        id="unknown-type",
    ),
    pytest.param(
        replaced(b" 111 63 9 0 8 13 110 126\r", b"\r"),
        400,
        "sdp_invalid_line",
        BAD_MEDIA,
        id="no-formats",
    ),
    pytest.param(
        replaced(b"m=audio 9", b"m=audio 65536"), 400, "sdp_invalid_line", BAD_MEDIA, id="port"
    ),
    pytest.param(
        replaced(b"m=audio ", b"m=audio  "), 400, "sdp_invalid_line", BAD_MEDIA, id="two-spaces"
    ),
    # Pathological
    pytest.param(
        replaced(b"a=mid:0", b"a=mid:\x000"),
        400,
        "sdp_invalid_line",
        "line 16: expected no NUL byte; send the description as UTF-8 text",
        id="nul",
    ),
    pytest.param(
        replaced(b"a=mid:0", b"a=mid:0\ra=mid:7"),
        400,
        "sdp_invalid_line",
        "line 16: expected CR only as part of CRLF; end every line with CRLF",
        id="bare-cr",
    ),
    pytest.param(
        OFFER[:-1],
        400,
        "sdp_invalid_line",
        "line 48: expected CR only as part of CRLF; end every line with CRLF",
        id="cr-at-the-end",
    ),
    pytest.param(
        OFFER + b"a=candidate\r\n" * 100_000,
        413,
        "sdp_too_large",
        f"the description has {len(OFFER) + 1_300_000} bytes, at most {MAX_DESCRIPTION_BYTES} are "
        "allowed; offer fewer media sections, codecs or candidates",
        id="100000-lines",
    ),
    pytest.param(
        b"\n" * MAX_DESCRIPTION_BYTES,
        413,
        "sdp_too_many_lines",
        f"the description has {MAX_DESCRIPTION_BYTES} lines, at most {MAX_LINES} are allowed; "
        "offer fewer media sections, codecs or candidates",
        id="only-newlines",
    ),
    pytest.param(
        OFFER + b"m=audio 0 x 0\r\n" * 15,
        413,
        "sdp_too_many_sections",
        f"the description has 17 media sections, at most {MAX_MEDIA_SECTIONS} are allowed; "
        "offer one audio track and one data channel, on a new RTCPeerConnection",
        id="17-sections",
    ),
    pytest.param(
        replaced(b"s=-", b"s=" + b"-" * (MAX_LINE_BYTES - 3)),
        413,
        "sdp_line_too_long",
        f"line 3: expected at most {MAX_LINE_BYTES} bytes; "
        "shorten the line, or end it with CRLF if two lines were joined",
        id="long-line",
    ),
]

REFUSED_ANSWERS = [
    # Realistic
    pytest.param(
        b'{"error":{"message":"overloaded"}}',
        "sdp_invalid_answer",
        "the upstream's answer is not usable SDP: line 1: expected v=0",
        id="json",
    ),
    pytest.param(
        ANSWER.rstrip(),
        "sdp_invalid_answer",
        "the upstream's answer is not usable SDP: line 40: expected CRLF after the last line too",
        id="trimmed",
    ),
    # Synthetic
    pytest.param(
        ANSWER[: ANSWER.index(b"m=audio")],
        "sdp_empty_answer",
        "the upstream's answer has no media section",
        id="no-media",
    ),
    pytest.param(
        ANSWER[: ANSWER.index(b"m=application")],
        "sdp_section_count",
        "expected as many media sections in the upstream's answer as in the offer: 2, not 1",
        id="section-removed",
    ),
    pytest.param(
        replaced(b"m=audio", b"m=video", data=ANSWER),
        "sdp_section_mismatch",
        "line 10 of the upstream's answer: expected a media section with the media type of the one "
        "at line 8 of the offer",
        id="other-media-type",
    ),
    pytest.param(
        replaced(b"a=mid:1", b"a=mid:data", data=ANSWER),
        "sdp_section_mismatch",
        "line 32 of the upstream's answer: expected a media section with the mid of the one at "
        "line 39 of the offer",
        id="other-mid",
    ),
    pytest.param(
        replaced(b"a=setup:active", b"a=setup:actpass", data=ANSWER),
        "sdp_invalid_answer",
        "the upstream's answer is not usable SDP: line 12: expected a=setup:active or "
        "a=setup:passive",
        id="setup-actpass",
    ),
    pytest.param(
        replaced(b"BUNDLE 0 1", b"BUNDLE 0 1 2", data=ANSWER),
        "sdp_invalid_answer",
        "the upstream's answer is not usable SDP: line 9: expected a BUNDLE group of mids that "
        "media sections have",
        id="bundle-of-no-section",
    ),
    pytest.param(
        ANSWER + b"m=audio 0 x 0\r\n" * 15,
        "sdp_invalid_answer",
        "the upstream's answer is not usable SDP: the description has 17 media sections, at most "
        f"{MAX_MEDIA_SECTIONS} are allowed",
        id="17-sections",
    ),
    # Pathological
    pytest.param(
        ANSWER + b"a=candidate\r\n" * 100_000,
        "sdp_invalid_answer",
        f"the upstream's answer is not usable SDP: the description has {len(ANSWER) + 1_300_000} "
        f"bytes, at most {MAX_DESCRIPTION_BYTES} are allowed",
        id="100000-lines",
    ),
]


@pytest.mark.parametrize(("data", "http_status", "code", "message"), REFUSED_OFFERS)
def test_refused_offers(data: bytes, http_status: int, code: str, message: str) -> None:
    """A bad offer is refused with a status, a code, and a text that says where, what and how."""
    with pytest.raises(SDPError) as refusal:
        check_offer(data)
    assert (refusal.value.http_status, refusal.value.code) == (http_status, code)
    assert str(refusal.value) == message


@pytest.mark.parametrize(("data", "code", "problem"), REFUSED_ANSWERS)
def test_refused_answers(data: bytes, code: str, problem: str) -> None:
    """A bad answer is the upstream's fault, 502, whatever is wrong with it."""
    with pytest.raises(AnswerError) as refusal:
        check_answer(data, check_offer(OFFER))
    assert (refusal.value.http_status, refusal.value.code) == (502, code)
    assert str(refusal.value) == f"{problem}; {NOT_AT_FAULT}"


def concrete(error: type[SDPError]) -> Iterator[type[SDPError]]:
    """List the errors that are raised, which are the leaves of the tree."""
    children = error.__subclasses__()
    if not children:
        yield error
    for child in children:
        yield from concrete(child)


def test_every_error_is_in_the_tables() -> None:
    """No error exists whose text is not pinned here, and no two share a code."""
    every = [*concrete(SDPError)]
    assert len({error.code for error in every}) == len(every)
    # tests/sdpfilter/test_policyerrors.py has those that only policies raise.
    assert {error.code for error in every if error.__module__ == errors.__name__} == {
        *(row.values[2] for row in REFUSED_OFFERS),
        *(row.values[1] for row in REFUSED_ANSWERS),
    }


def test_module_draws_the_whole_tree() -> None:
    """The picture at the top of the module names every error."""
    assert errors.__doc__ is not None
    for error in concrete(SDPError):
        assert error.__name__ in errors.__doc__


def test_a_wrapped_reason_is_the_cause() -> None:
    """The error for an answer keeps the parser's own as its cause."""
    with pytest.raises(AnswerError) as refusal:
        check_answer(b"", None)
    assert isinstance(refusal.value.__cause__, SDPError)
