import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.callforms import BOUNDARY, CONTENT_TYPE, form, part
from ringback.callform import CallForm, InvalidFormError, is_form, parse_call_form

OFFER = b"v=0\r\ns=-\r\n"
SESSION = b'{"type":"realtime","model":"voice"}'


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        # Realistic
        pytest.param(
            CONTENT_TYPE,
            form(
                part("sdp", OFFER, "application/sdp"), part("session", SESSION, "application/json")
            ),
            CallForm(OFFER, SESSION),
            id="openai-python",
        ),
        pytest.param(
            CONTENT_TYPE,
            form(
                part("sdp", OFFER, "application/sdp", filename="offer.sdp"), part("session", b"{}")
            ),
            CallForm(OFFER, b"{}"),
            id="curl-file",
        ),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER, "application/octet-stream", filename="blob")),
            CallForm(OFFER),
            id="browser-blob-alone",
        ),
        pytest.param(
            f'Multipart/Form-Data; charset=utf-8; Boundary="{BOUNDARY}"',
            form(part("session", SESSION), part("sdp", OFFER)),
            CallForm(OFFER, SESSION),
            id="other-order-and-case",
        ),
        # Synthetic
        pytest.param(CONTENT_TYPE, form(part("sdp", b"")), CallForm(b""), id="empty-part"),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", b"a\r\n--x\r\n--" + BOUNDARY[:-1].encode())),
            CallForm(b"a\r\n--x\r\n--" + BOUNDARY[:-1].encode()),
            id="almost-a-boundary",
        ),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER, extra="Content-Transfer-Encoding: binary\r\n")),
            CallForm(OFFER),
            id="encoding-that-is-none",
        ),
        pytest.param(
            CONTENT_TYPE,
            b"before\r\n" + form(part("sdp", OFFER)) + b"after",
            CallForm(OFFER),
            id="preamble-and-epilogue",
        ),
    ],
)
def test_a_form_is_read(content_type: str, body: bytes, expected: CallForm) -> None:
    """The parts come out byte by byte as they went in, whatever else the client says of them."""
    assert is_form(content_type)
    assert parse_call_form(content_type, body) == expected


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        # Realistic
        pytest.param("multipart/form-data", form(part("sdp", OFFER)), id="no-boundary"),
        pytest.param(CONTENT_TYPE, form(part("session", SESSION)), id="no-sdp"),
        pytest.param(CONTENT_TYPE, OFFER, id="raw-sdp"),
        pytest.param(CONTENT_TYPE, b"", id="empty"),
        pytest.param(CONTENT_TYPE, form(part("sdp", OFFER))[:-4], id="cut-off"),
        # Synthetic
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER), part("model", b"x")), id="unknown-part"
        ),
        pytest.param(CONTENT_TYPE, form(part("sdp", OFFER), part("sdp", OFFER)), id="sdp-twice"),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER), part("session", b"{}"), part("session", SESSION)),
            id="session-twice",
        ),
        pytest.param(CONTENT_TYPE, form(part("SDP", OFFER)), id="upper-case"),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER, extra="Content-Transfer-Encoding: base64\r\n")),
            id="base64",
        ),
        pytest.param(
            "multipart/form-data; boundary=" + "b" * 71,
            form(part("sdp", OFFER), boundary="b" * 71),
            id="long-boundary",
        ),
        # Pathological
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER)).replace(b"\r\n", b"\n"), id="line-feeds"
        ),
        pytest.param(
            CONTENT_TYPE, form(*(part("session", b"{}") for _ in range(1000))), id="thousand-parts"
        ),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, extra="X: " + "y" * 9000 + "\r\n")), id="header"
        ),
        pytest.param(
            CONTENT_TYPE, form(part("sdp", OFFER, extra="X: y\r\n" * 20)), id="many-headers"
        ),
        pytest.param(
            CONTENT_TYPE,
            form(part("sdp", OFFER, extra="Content-Disposition: form-data; name=session\r\n")),
            id="two-dispositions",
        ),
        pytest.param(
            CONTENT_TYPE,
            form(b'Content-Disposition: form-data; name="sdp"; name="session"\r\n\r\n' + OFFER),
            id="two-names",
        ),
        pytest.param(
            CONTENT_TYPE,
            form(b"Content-Disposition: form-data; name*=utf-8''sdp\r\n\r\n" + OFFER),
            id="encoded-name",
        ),
        pytest.param(
            f"{CONTENT_TYPE}; boundary=other", form(part("sdp", OFFER)), id="two-boundaries"
        ),
    ],
)
def test_an_unclear_form_is_refused(content_type: str, body: bytes) -> None:
    """What another reader might read otherwise is 400, and the message quotes nothing of it."""
    with pytest.raises(InvalidFormError) as error:
        parse_call_form(content_type, body)
    assert error.value.http_status == 400
    assert error.value.__context__ is None or error.value.__suppress_context__
    assert "v=0" not in str(error.value)


@pytest.mark.parametrize(
    "content_type", ["", "application/sdp", "multipart/mixed", "multipart/form-data-x", "text/html"]
)
def test_other_types_are_no_form(content_type: str) -> None:
    """Only multipart/form-data is a form."""
    assert not is_form(content_type)


@given(st.binary(max_size=300), st.booleans())
def test_no_body_breaks_the_reader(noise: bytes, inside: bool) -> None:
    """Whatever comes is a form or refused."""
    body = form(part("sdp", noise)) if inside else b"--" + BOUNDARY.encode() + noise
    try:
        assert inside <= (parse_call_form(CONTENT_TYPE, body).offer == noise)
    except InvalidFormError:
        assert not inside or BOUNDARY.encode() in noise
