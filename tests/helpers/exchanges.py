"""One HTTP stream as `sdpfilter.exchange` sees it, brought to the stage that a test is about."""

from typing import Final

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from sdpfilter.consent import Consent, Purpose
from sdpfilter.exchange import (
    Action,
    Continue,
    Exchange,
    Refuse,
    UnexpectedMessageError,
)

NOW: Final = 1_767_268_800.25
SEALER: Final = handle_sealer(TokenSettings(secret=Secret("correct horse battery staple")), {})
CALL: Final = Consent(
    Purpose.CALL,
    deployment="azure-sweden",
    key_hash="5b6a" * 16,
    token_id="k3VYbGJp",
    model="gpt-realtime",
    team="kiosks",
    key_alias="web",
)
READY: Final = Consent(Purpose.READY)
SDP: Final = {"content-type": "application/sdp"}
OFFER: Final = OFFERS["offer_chromium156_audio_dc_initial"]
ANSWER: Final = ANSWERS["answer_openai_2026-08-17_ga_calls"]
CREATED: Final = {":status": "201", "location": "/v1/realtime/calls/rtc_u1_9c65", **SDP}


def new(consent: Consent | None = None) -> Exchange:
    """Return an exchange; with consent, one that has seen the headers of a request."""
    exchange = Exchange(SEALER, lambda: NOW)
    if consent is not None:
        assert isinstance(exchange.request_headers(SDP, consent, end_of_stream=False), Continue)
    return exchange


def offered(offer: bytes = OFFER, consent: Consent = CALL) -> Exchange:
    """Return an exchange that has let an offer pass."""
    exchange = new(consent)
    assert isinstance(exchange.request_body(offer, end_of_stream=True), Continue)
    return exchange


def answer(
    exchange: Exchange, headers: dict[str, str], *, from_upstream: bool = True, end: bool = False
) -> Action:
    """Give an exchange the headers of an answer."""
    return exchange.response_headers(headers, from_upstream=from_upstream, end_of_stream=end)


def check_refused(action: Action, status: int, code: str, message: str) -> None:
    """Check everything that the downstream receives."""
    assert isinstance(action, Refuse)
    error = action.error
    assert (error.http_status, error.code, str(error)) == (status, code, message)


def check_done(exchange: Exchange) -> None:
    """Check that nothing but an answer of Envoy itself may follow."""
    with pytest.raises(UnexpectedMessageError, match="expected DONE"):
        exchange.request_headers(SDP, CALL, end_of_stream=False)
    with pytest.raises(UnexpectedMessageError, match="expected DONE"):
        exchange.request_body(OFFER, end_of_stream=True)
    with pytest.raises(UnexpectedMessageError, match="expected DONE"):
        answer(exchange, CREATED)
    with pytest.raises(UnexpectedMessageError, match="expected DONE"):
        exchange.response_body(ANSWER, end_of_stream=True)
