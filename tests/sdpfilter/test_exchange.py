from collections.abc import Callable

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.exchanges import (
    ANSWER,
    CALL,
    CREATED,
    NOW,
    OFFER,
    READY,
    SDP,
    SEALER,
    answer,
    check_done,
    check_refused,
    new,
    offered,
)
from sdpfilter.exchange import Continue, Exchange, UnexpectedMessageError

# Not whole: its BUNDLE group names sections that the source left out.
PARTIAL = "offer_safari13_partial_audio_section"

NOT_SDP = (
    "line 1: expected v=0; "
    "send the text of offer.sdp itself as the body, not JSON, a form or a quoted string"
)
NO_AUDIO = (
    "expected an audio media section (m=audio) that is not rejected by port 0; "
    "add a microphone track or call addTransceiver('audio') before createOffer()"
)
NO_BODY = "The request has no body. Send the text of offer.sdp, as createOffer() made it."


@pytest.mark.parametrize(
    ("offer", "answered"),
    [
        pytest.param("offer_chromium156_audio_dc_initial", "2026-08-17_ga_calls", id="chromium"),
        pytest.param("offer_firefox153_audio_dc_initial", "2026-08-17_ga_calls", id="firefox"),
        pytest.param("offer_aiortc1.16_initial", "2026-01-25_to_aiortc", id="aiortc"),
        pytest.param("offer_aiortc_old_2026-01-25_public", "2026-01-25_to_aiortc", id="old"),
    ],
)
def test_a_call_passes(offer: str, answered: str) -> None:
    """Offer and answer pass as they are; each interlock opens at the body and not before."""
    offer_sdp, answer_sdp = OFFERS[offer], ANSWERS[f"answer_openai_{answered}"]
    exchange = Exchange(SEALER, lambda: NOW)

    assert exchange.request_headers(SDP, CALL, end_of_stream=False) == Continue()
    assert exchange.request_body(offer_sdp, end_of_stream=True) == Continue(
        {"content-length": str(len(offer_sdp))}, checked=True
    )
    headers = answer(exchange, CREATED)
    assert isinstance(headers, Continue)
    assert headers == Continue({"location": headers.set_headers["location"]})
    assert exchange.response_body(answer_sdp, end_of_stream=True) == Continue(
        {"content-length": str(len(answer_sdp)), "content-type": "application/sdp"}, checked=True
    )
    check_done(exchange)


@pytest.mark.parametrize("name", [name for name in OFFERS if name != PARTIAL])
def test_every_real_offer_passes(name: str) -> None:
    """What browsers and libraries offer goes upstream."""
    offered(OFFERS[name])


@pytest.mark.parametrize(
    "content_type",
    ["application/sdp", "Application/SDP", "application/sdp; charset=utf-8", " application/sdp ;"],
)
def test_the_content_type_of_an_offer(content_type: str) -> None:
    """Case, parameters and spaces around do not matter."""
    action = new().request_headers({"content-type": content_type}, CALL, end_of_stream=False)
    assert action == Continue()


@pytest.mark.parametrize(
    "headers",
    [
        # Realistic
        pytest.param({"content-type": "application/json"}, id="json"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, id="form"),
        pytest.param({"content-type": "text/plain;charset=UTF-8"}, id="fetch-without-type"),
        pytest.param({}, id="none"),
        # Pathological
        pytest.param({"content-type": "application/sdp,application/sdp"}, id="repeated"),
        pytest.param({"content-type": "application/sdpx"}, id="longer"),
        pytest.param({"content-type": "application/json;application/sdp"}, id="as-parameter"),
        pytest.param({"content-type": ""}, id="empty"),
    ],
)
@pytest.mark.parametrize("end", [False, True])
def test_other_content_types_are_415(headers: dict[str, str], end: bool) -> None:
    """A request that carries no offer is refused before its body is read."""
    exchange = new()
    check_refused(
        exchange.request_headers(headers, CALL, end_of_stream=end),
        415,
        "unsupported_media_type",
        "Send the offer as the request body with Content-Type: application/sdp, "
        "or as the part sdp of a multipart/form-data form.",
    )
    check_done(exchange)


def test_a_request_without_a_body_is_400() -> None:
    """No body, and a body of no bytes, are the same mistake."""
    exchange = new()
    action = exchange.request_headers(SDP, CALL, end_of_stream=True)
    check_refused(action, 400, "sdp_empty", NO_BODY)
    check_done(exchange)

    exchange = new(CALL)
    check_refused(exchange.request_body(b"", end_of_stream=True), 400, "sdp_empty", NO_BODY)
    check_done(exchange)


@pytest.mark.parametrize(
    ("offer", "status", "code", "message"),
    [
        # Realistic
        pytest.param(b'{"sdp":"v=0"}', 400, "sdp_not_sdp", NOT_SDP, id="json"),
        pytest.param(
            OFFER.replace(b"m=audio", b"m=video"), 400, "sdp_no_audio", NO_AUDIO, id="no-audio"
        ),
        pytest.param(
            OFFER.replace(b"a=ice-pwd", b"a=x-pwd"),
            400,
            "sdp_missing_attribute",
            "line 8: expected a=ice-pwd in the media section that begins here, "
            "in its BUNDLE group or at the session level; "
            "send the description as createOffer() made it",
            id="no-ice-pwd",
        ),
        # Pathological
        pytest.param(
            OFFER + b"a=x\r",
            400,
            "sdp_invalid_line",
            "line 49: expected CR only as part of CRLF; end every line with CRLF",
            id="bare-cr",
        ),
        pytest.param(
            b"v=0\r\n" + b"a" * 70_000,
            413,
            "sdp_too_large",
            "the description has 70005 bytes, at most 65536 are allowed; "
            "offer fewer media sections, codecs or candidates",
            id="too-large",
        ),
    ],
)
def test_unusable_offers_are_refused(offer: bytes, status: int, code: str, message: str) -> None:
    """The refusal has the rule's status, code and words, and the upstream gets nothing."""
    exchange = new(CALL)
    action = exchange.request_body(offer, end_of_stream=True)
    check_refused(action, status, code, f"The SDP offer is refused: {message}.")
    check_done(exchange)


@pytest.mark.parametrize(
    "start",
    [
        # Realistic
        pytest.param(new, id="extauthz-denied"),
        pytest.param(lambda: new(CALL), id="body-too-slow"),
        pytest.param(offered, id="upstream-unreachable"),
        pytest.param(lambda: new(READY), id="ready"),
        # Pathological
        pytest.param(lambda: begun("201"), id="instead-of-an-answer"),
        pytest.param(lambda: begun("400"), id="instead-of-a-refusal"),
        pytest.param(lambda: begun("500"), id="after-a-refusal"),
    ],
)
def test_what_envoy_answers_itself_passes(start: Callable[[], Exchange]) -> None:
    """At any stage: it is in our shape already, and it may pass the interlock of the way back."""
    exchange = start()
    assert answer(exchange, {":status": "503"}, from_upstream=False) == Continue()
    action = exchange.response_body(b'{"error":{}}', end_of_stream=True)
    assert action == Continue({"content-length": "12"}, checked=True)
    check_done(exchange)
    bodiless = answer(start(), {":status": "204"}, from_upstream=False, end=True)
    assert bodiless == Continue(checked=True)


def begun(status: str) -> Exchange:
    """Return an exchange that has seen the headers of an upstream's answer."""
    exchange = offered()
    answer(exchange, {":status": status})
    return exchange


def test_readiness_needs_no_offer_and_no_upstream() -> None:
    """A readiness request passes without an offer, so no answer of an upstream may come back."""
    exchange = new()
    assert exchange.request_headers({}, READY, end_of_stream=True) == Continue(checked=True)
    check_done(exchange)


def test_without_consent_the_stream_is_aborted() -> None:
    """A stream that extauthz did not consent to gets no answer at all."""
    with pytest.raises(UnexpectedMessageError, match="extauthz did not consent"):
        new().request_headers(SDP, None, end_of_stream=False)


def test_bodies_in_parts_abort_the_stream() -> None:
    """Half an offer cannot be checked; Envoy is set to send bodies whole."""
    with pytest.raises(UnexpectedMessageError, match="request body came in parts"):
        new(CALL).request_body(OFFER, end_of_stream=False)
    exchange = offered()
    answer(exchange, CREATED)
    with pytest.raises(UnexpectedMessageError, match="response body came in parts"):
        exchange.response_body(ANSWER, end_of_stream=False)
