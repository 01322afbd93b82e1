import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.descriptions import ANSWERS, OFFERS
from ringback.contract import MAX_REQUEST_BODY_BYTES
from sdpfilter.errors import (
    DescriptionTooLargeError,
    LimitError,
    LineTooLongError,
    SDPError,
    TooManyLinesError,
)
from sdpfilter.sdp.lines import (
    MAX_DESCRIPTION_BYTES,
    MAX_LINE_BYTES,
    parse_lines,
    serialize_lines,
)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        # Realistic
        pytest.param(b"v=0\r\ns=-\r\n", (b"v=0\r\n", b"s=-\r\n"), id="crlf"),
        pytest.param(b"v=0\ns=-\n", (b"v=0\n", b"s=-\n"), id="lf"),
        pytest.param(b"s= \r\n", (b"s= \r\n",), id="no-session-name"),
        pytest.param("s=Gespräch\r\n".encode(), ("s=Gespräch\r\n".encode(),), id="utf-8"),
        # Synthetic
        pytest.param(b"v=0\ns=-\r\n", (b"v=0\n", b"s=-\r\n"), id="mixed"),
        pytest.param(b"a=\r\n", (b"a=\r\n",), id="empty-value"),
        # Pathological
        pytest.param(b"s=\xff\x85\x0b\x0c\x1c\n", (b"s=\xff\x85\x0b\x0c\x1c\n",), id="any-byte"),
    ],
)
def test_lines_keep_their_bytes(data: bytes, lines: tuple[bytes, ...]) -> None:
    """Only CRLF and LF end a line; each line keeps its own."""
    assert parse_lines(data) == lines
    assert serialize_lines(lines) == data


@pytest.mark.parametrize("data", [*OFFERS.values(), *ANSWERS.values()], ids=[*OFFERS, *ANSWERS])
def test_real_descriptions_round_trip(data: bytes) -> None:
    """Real descriptions come back byte for byte, with LF ends too."""
    assert serialize_lines(parse_lines(data)) == data
    with_lf = data.replace(b"\r\n", b"\n")
    assert serialize_lines(parse_lines(with_lf)) == with_lf


LONGEST_LINE = b"s=" + b"-" * (MAX_LINE_BYTES - 3) + b"\n"


@pytest.mark.parametrize(
    ("allowed", "refused", "error"),
    [
        pytest.param(
            LONGEST_LINE * 32, LONGEST_LINE * 32 + b"\n", DescriptionTooLargeError, id="bytes"
        ),
        pytest.param(b"s=\n" * 1024, b"s=\n" * 1025, TooManyLinesError, id="lines"),
        pytest.param(LONGEST_LINE, b"s=-" + LONGEST_LINE[2:], LineTooLongError, id="line-bytes"),
    ],
)
def test_limits_are_inclusive(allowed: bytes, refused: bytes, error: type[LimitError]) -> None:
    """A description at a limit is read, and one beyond it is refused."""
    assert serialize_lines(parse_lines(allowed)) == allowed
    with pytest.raises(error):
        parse_lines(refused)


def test_envoy_and_the_model_agree_on_the_size() -> None:
    """What Envoy lets in as a request body, the model reads."""
    assert MAX_DESCRIPTION_BYTES == MAX_REQUEST_BODY_BYTES


@given(st.binary())
@example(b"\r")
@example(b"v=0\r\r\n")
@example(b"v=0\n\r")
@settings(deadline=None)
def test_any_bytes_are_refused_or_round_trip(data: bytes) -> None:
    """Any bytes are refused with an SDPError, or come back as they were."""
    try:
        lines = parse_lines(data)
    except SDPError:
        return
    assert serialize_lines(lines) == data
