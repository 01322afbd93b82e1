import pytest

from extauthz.calls import SessionFixedError, check_form
from extauthz.decision import RequestFacts
from helpers.callforms import CONTENT_TYPE, form, part
from ringback.callform import InvalidFormError


def call(content_type: str | None, body: bytes = b"") -> RequestFacts:
    """Return a call."""
    headers = {} if content_type is None else {"content-type": content_type}
    return RequestFacts("POST", "/v1/realtime/calls", headers, body)


def test_a_form_with_the_offer_alone_is_as_good_as_the_offer() -> None:
    """A token's call may come as a form, as some clients send it."""
    check_form(call(CONTENT_TYPE, form(part("sdp", b"v=0"))))


@pytest.mark.parametrize("content_type", [None, "application/sdp", "text/plain"])
def test_other_types_are_not_looked_at(content_type: str | None) -> None:
    """What is no form is for sdpfilter to judge; its body does not come here at all."""
    check_form(call(content_type))


def test_a_session_beside_a_token_is_refused() -> None:
    """A session at calls could replace the one, and the model, that the token was made for."""
    with pytest.raises(SessionFixedError, match="client_secrets"):
        check_form(call(CONTENT_TYPE, form(part("sdp", b"v=0"), part("session", b"{}"))))


@pytest.mark.parametrize("body", [b"", b"v=0", form(part("session", b"{}"))])
def test_a_form_that_cannot_be_read_is_refused(body: bytes) -> None:
    """A form that sdpfilter might read otherwise does not get that far."""
    with pytest.raises(InvalidFormError):
        check_form(call(CONTENT_TYPE, body))
