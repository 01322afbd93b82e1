"""Offers that come in a form."""

from dataclasses import replace

import pytest

from helpers.callforms import CONTENT_TYPE, form, part
from helpers.exchanges import CALL, CREATED, OFFER, answer, check_done, new
from ringback.sdppolicy import Policy
from sdpfilter.consent import Consent, Purpose
from sdpfilter.exchange import Continue, Exchange, Refuse

KEY_CALL = replace(CALL, purpose=Purpose.KEY_CALL)
FORM = {"content-type": CONTENT_TYPE}
SESSION = part("session", b'{"type":"realtime","model":"voice"}', "application/json")


def with_form(consent: Consent = KEY_CALL) -> Exchange:
    """Return an exchange that has seen the headers of a request with a form."""
    exchange = new()
    assert exchange.request_headers(FORM, consent, end_of_stream=False) == Continue()
    return exchange


@pytest.mark.parametrize("consent", [CALL, KEY_CALL], ids=["token", "key"])
def test_the_offer_alone_goes_on(consent: Consent) -> None:
    """The upstream receives the bytes of the part as raw SDP, whatever else the form holds."""
    body = form(part("sdp", OFFER, "text/plain"), SESSION)
    assert with_form(consent).request_body(body, end_of_stream=True) == Continue(
        {"content-length": str(len(OFFER)), "content-type": "application/sdp"},
        body=OFFER,
        checked=True,
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(form(SESSION), 400, "invalid_form", id="no-offer"),
        pytest.param(OFFER, 400, "invalid_form", id="raw-offer"),
        pytest.param(b"", 400, "invalid_form", id="nothing"),
        pytest.param(form(part("sdp", b"")), 400, "sdp_empty", id="empty-offer"),
        pytest.param(form(part("sdp", OFFER[:40])), 400, None, id="broken-offer"),
        pytest.param(
            form(part("sdp", OFFER), part("sdp", OFFER)), 400, "invalid_form", id="two-offers"
        ),
    ],
)
def test_what_holds_no_offer_is_refused(body: bytes, status: int, code: str | None) -> None:
    """A form without one good offer goes nowhere."""
    exchange = with_form()
    action = exchange.request_body(body, end_of_stream=True)
    assert isinstance(action, Refuse)
    assert action.error.http_status == status
    assert code is None or action.error.code == code
    check_done(exchange)


def test_the_policy_holds_for_offers_in_forms() -> None:
    """An offer in a form is changed by the policy as any other."""
    exchange = Exchange(new()._sealer, lambda: 0, lambda _: Policy(direction="recvonly"))
    exchange.request_headers(FORM, KEY_CALL, end_of_stream=False)
    action = exchange.request_body(form(part("sdp", OFFER), SESSION), end_of_stream=True)
    assert isinstance(action, Continue)
    assert action.body is not None
    assert b"a=recvonly" in action.body
    assert b"a=sendrecv" not in action.body
    assert action.set_headers["content-length"] == str(len(action.body))


def test_a_key_that_the_provider_refuses_is_no_token_of_the_caller() -> None:
    """With a token 401 means a new token helps; with a key the gateway's own secret is refused."""
    for consent, status, code in (
        (CALL, 401, "token_refused_upstream"),
        (KEY_CALL, 502, "upstream_refused"),
    ):
        exchange = with_form(consent)
        exchange.request_body(form(part("sdp", OFFER)), end_of_stream=True)
        action = answer(exchange, {**CREATED, ":status": "401"})
        if isinstance(action, Continue):
            action = exchange.response_body(b"ek_...", end_of_stream=True)
        assert isinstance(action, Refuse)
        assert (action.error.http_status, action.error.code) == (status, code)
