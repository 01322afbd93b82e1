import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from envoyapi.config.core.v3.base_pb2 import HeaderMap, HeaderValue, HeaderValueOption
from envoyapi.service.ext_proc.v3.external_processor_pb2 import (
    CommonResponse,
    HeaderMutation,
    HttpHeaders,
    HttpTrailers,
    ProcessingRequest,
    ProcessingResponse,
)
from helpers.exchanges import ANSWER, CALL, OFFER, READY, SEALER, new, offered
from helpers.procmessages import (
    CONSENT,
    CREATED,
    Metadata,
    http_headers,
    request_body,
    request_headers,
    response_body,
    response_headers,
)
from ringback.calllimits import CallLimits
from ringback.contract import AUTHZ_NAMESPACE
from ringback.errors import ApiError
from sdpfilter.exchange import Continue, Exchange, Refuse, UnexpectedMessageError
from sdpfilter.translate import answer_message, read_consent, read_headers

NAMESPACE = "ringback.sdpfilter"
# Where Envoy puts them.
ATTRIBUTES = "envoy.filters.http.ext_proc"
OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def metadata(response: ProcessingResponse) -> Any:
    """Return the dynamic metadata that a response sets, in our namespace and no other."""
    found = MessageToDict(response.dynamic_metadata)
    assert found.keys() <= {NAMESPACE}
    return found.get(NAMESPACE, {})


def headers_set(mutation: HeaderMutation) -> dict[str, str]:
    """Return the headers that a mutation sets; each replaces what was there."""
    assert all(option.append_action == OVERWRITE for option in mutation.set_headers)
    assert not any(option.header.value for option in mutation.set_headers)
    return {
        option.header.key: option.header.raw_value.decode("ascii")
        for option in mutation.set_headers
    }


def test_a_call_is_answered_message_by_message() -> None:
    """Each answer is the counterpart of its message; each body opens its interlock."""
    exchange = new()

    first = answer_message(request_headers(), exchange)
    assert first.WhichOneof("response") == "request_headers"
    assert not first.request_headers.response.HasField("header_mutation")
    assert metadata(first) == {}

    second = answer_message(request_body(OFFER), exchange)
    assert second.WhichOneof("response") == "request_body"
    assert headers_set(second.request_body.response.header_mutation) == {
        "content-length": str(len(OFFER))
    }
    assert metadata(second) == {"checked": True}

    third = answer_message(
        response_headers((*CREATED, ("set-cookie", b"a=b"), ("server", b"x"))), exchange
    )
    assert third.WhichOneof("response") == "response_headers"
    mutation = third.response_headers.response.header_mutation
    assert headers_set(mutation).keys() == {"location"}
    assert list(mutation.remove_headers) == ["set-cookie", "server"]
    assert metadata(third) == {}

    fourth = answer_message(response_body(ANSWER), exchange)
    assert fourth.WhichOneof("response") == "response_body"
    assert headers_set(fourth.response_body.response.header_mutation) == {
        "content-length": str(len(ANSWER)),
        "content-type": "application/sdp",
    }
    assert metadata(fourth) == {"answer_checked": True}

    for response in (first, second, third, fourth):
        common = getattr(response, response.WhichOneof("response") or "").response
        assert common.status == CommonResponse.CONTINUE
        assert not common.HasField("body_mutation")
        assert not common.clear_route_cache
        assert not response.HasField("mode_override")


def test_readiness_is_checked_at_once() -> None:
    """The metadata of a readiness request is there with the first answer."""
    message = request_headers((), consent={"checked": True, "outcome": "ready"}, end=True)
    response = answer_message(message, new())
    assert response.WhichOneof("response") == "request_headers"
    assert response.request_headers.HasField("response")
    assert metadata(response) == {"checked": True}


@pytest.mark.parametrize("details", ["ext_authz_denied", "direct_response", "upstream_reset"])
def test_what_envoy_answers_itself_passes(details: str) -> None:
    """Any code_details but via_upstream means that Envoy answers."""
    exchange = new()
    response = answer_message(response_headers(((":status", b"401"),), details=details), exchange)
    assert response.WhichOneof("response") == "response_headers"
    assert metadata(response) == {}
    response = answer_message(response_body(b"{}"), exchange)
    assert metadata(response) == {"answer_checked": True}


def test_an_answer_of_envoy_without_a_body_is_checked_at_once() -> None:
    """No body follows with which the interlock of the way back could open."""
    message = response_headers(((":status", b"204"),), details="direct_response", end=True)
    assert metadata(answer_message(message, new())) == {"answer_checked": True}


@pytest.mark.parametrize(
    ("messages", "status", "code"),
    [
        # Realistic
        pytest.param([request_headers(())], 415, "unsupported_media_type", id="no-type"),
        pytest.param([request_headers(end=True)], 400, "sdp_empty", id="no-body"),
        pytest.param([request_headers(), request_body(b"{}")], 400, "sdp_not_sdp", id="json"),
        pytest.param(
            [request_headers(), request_body(b"v=0\r\n" * 20_000)], 413, "sdp_too_large", id="413"
        ),
        pytest.param(
            [request_headers(), request_body(OFFER), response_headers(((":status", b"401"),))],
            401,
            "token_refused_upstream",
            id="spent",
        ),
        pytest.param(
            [
                request_headers(),
                request_body(OFFER),
                response_headers(((":status", b"500"), ("retry-after", b"9"))),
            ],
            502,
            "upstream_failed",
            id="5xx",
        ),
        pytest.param(
            [request_headers(), request_body(OFFER), response_headers(), response_body(b"{}")],
            502,
            "sdp_invalid_answer",
            id="answer",
        ),
        # Pathological
        pytest.param(
            [
                request_headers(),
                request_body(OFFER),
                response_headers(((":status", b"499"),)),
                response_body(b'{"error":{"code":"client closed, sk-abcdef0123"}}'),
            ],
            499,
            "upstream_refused_request",
            id="status-without-a-name",
        ),
    ],
)
def test_a_refusal_is_answered_at_once(
    messages: list[ProcessingRequest], status: int, code: str
) -> None:
    """The error goes out as it is, as JSON, with metadata that says who answered and why."""
    exchange = new()
    *before, last = messages
    for message in before:
        assert answer_message(message, exchange).WhichOneof("response") != "immediate_response"
    response = answer_message(last, exchange)
    assert response.WhichOneof("response") == "immediate_response"
    immediate = response.immediate_response
    assert (immediate.status.code, immediate.details) == (status, code)
    headers = headers_set(immediate.headers)
    assert headers.pop("content-type") == "application/json"
    assert headers == ({"retry-after": "9"} if code == "upstream_failed" else {})
    assert json.loads(immediate.body)["error"].keys() == {"message", "type", "param", "code"}
    assert metadata(response) == {"answered": True, "outcome": code}


def test_a_header_value_that_is_not_ascii_is_an_error() -> None:
    """No value of ours is; should one become so, the stream ends instead of sending it."""

    class OddError(ApiError):
        headers = {"retry-after": "bald ä"}  # noqa: RUF012

    class Odd(Exchange):
        def request_body(self, body: bytes, *, end_of_stream: bool) -> Refuse:
            del body, end_of_stream
            return Refuse(OddError())

    with pytest.raises(UnicodeEncodeError):
        answer_message(request_body(OFFER), Odd(SEALER, lambda: 0))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Realistic
        pytest.param([("content-type", b"a")], {"content-type": "a"}, id="one"),
        pytest.param([(":status", b"200"), ("a", b"")], {":status": "200", "a": ""}, id="empty"),
        # Synthetic
        pytest.param(
            [("a", b"1"), ("b", b"2"), ("a", b"3"), ("a", b"")], {"a": "1,3,", "b": "2"}, id="same"
        ),
        pytest.param([("A", b"1"), ("a", b"2")], {"a": "1,2"}, id="case"),
        # Pathological
        pytest.param([("a", b"\xff\xfe\xc3\xa4")], {"a": "\xff\xfe\xc3\xa4"}, id="not-utf-8"),
        pytest.param([("", b"x")], {"": "x"}, id="no-name"),
        pytest.param([], {}, id="none"),
    ],
)
def test_headers_are_read(headers: list[tuple[str, bytes]], expected: dict[str, str]) -> None:
    """Raw values are read byte by byte; repeated headers are one value."""
    assert read_headers(http_headers(headers)) == expected


def test_plain_values_are_read_too() -> None:
    """An Envoy that is not set to raw headers sends `value`."""
    headers = HeaderMap(headers=[HeaderValue(key="a", value="1"), HeaderValue(key="b")])
    assert read_headers(HttpHeaders(headers=headers)) == {"a": "1", "b": ""}


@given(st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5))))
def test_any_headers_are_read(headers: list[tuple[str, bytes]]) -> None:
    """No name and no bytes of a value are an error."""
    assert read_headers(http_headers(headers)).keys() == {name.lower() for name, _ in headers}


def test_a_call_is_consented_to() -> None:
    """The metadata of extauthz names what the handle of the call will hold."""
    assert read_consent(request_headers()) == CALL
    assert read_consent(request_headers(consent={"checked": True, "outcome": "ready"})) == READY
    limits = CallLimits(is_required=False, max_duration_s=600, max_cost_microdollars=5)
    held = {**CONSENT, "asked": "fast", "call_limits": limits.to_label()}
    assert read_consent(request_headers(consent=held)) == replace(CALL, asked="fast", limits=limits)


@pytest.mark.parametrize(
    "consent",
    [
        # Realistic
        pytest.param(None, id="extauthz-said-nothing"),
        pytest.param({"answered": True, "outcome": "unauthorized"}, id="extauthz-refused"),
        pytest.param(CONSENT | {"outcome": "minted"}, id="of-another-endpoint"),
        # Pathological
        pytest.param({}, id="empty"),
        pytest.param(CONSENT | {"checked": False}, id="false"),
        pytest.param(CONSENT | {"checked": "true"}, id="text"),
        pytest.param(CONSENT | {"checked": 1.0}, id="number"),
        pytest.param(CONSENT | {"outcome": ""}, id="no-outcome"),
        pytest.param(CONSENT | {"outcome": True}, id="outcome-is-no-text"),
        pytest.param(CONSENT | {"deployment": ""}, id="no-deployment"),
        pytest.param(CONSENT | {"key_hash": 7.0}, id="key-is-no-text"),
        pytest.param(
            {name: CONSENT[name] for name in CONSENT if name != "token_id"}, id="no-token"
        ),
    ],
)
def test_anything_else_is_no_consent(consent: Metadata | None) -> None:
    """Only `checked: true` with an outcome that is ours and complete counts."""
    message = request_headers(consent=consent)
    assert read_consent(message) is None
    with pytest.raises(UnexpectedMessageError, match="did not consent"):
        answer_message(message, new())


def test_metadata_of_others_is_no_consent() -> None:
    """What another filter says, or sdpfilter itself, does not count."""
    message = request_headers(consent=None)
    message.metadata_context.filter_metadata[NAMESPACE].update(CONSENT)
    message.metadata_context.filter_metadata["envoy.filters.http.ext_authz2"].update(CONSENT)
    assert read_consent(message) is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(ProcessingRequest(), id="empty"),
        pytest.param(ProcessingRequest(request_trailers=HttpTrailers()), id="request-trailers"),
        pytest.param(ProcessingRequest(response_trailers=HttpTrailers()), id="response-trailers"),
    ],
)
def test_other_messages_have_no_answer(message: ProcessingRequest) -> None:
    """Envoy is set not to send trailers; a message that we do not know is no message."""
    with pytest.raises(UnexpectedMessageError, match="there is no answer"):
        answer_message(message, new())


@pytest.mark.parametrize("details", [None, ""])
def test_who_answers_must_be_known(details: str | None) -> None:
    """Without response.code_details an upstream's answer could pass as one of Envoy."""
    with pytest.raises(UnexpectedMessageError, match=r"response\.code_details is missing"):
        answer_message(response_headers(details=details), offered())


def test_code_details_of_the_wrong_type_do_not_count() -> None:
    """Only text tells who answers."""
    message = response_headers(details=None)
    message.attributes[ATTRIBUTES].update({"response.code_details": True})
    with pytest.raises(UnexpectedMessageError, match=r"response\.code_details is missing"):
        answer_message(message, offered())


class Anything(Exchange):
    """An exchange that lets everything pass, with headers of a test's choice."""

    def response_headers(self, *_: object, **__: object) -> Continue:
        """Continue."""
        return Continue({"a": "1", "b": ""}, ("c", "d"))


def test_every_header_change_is_written() -> None:
    """What the exchange sets and removes is what Envoy is told, in that order."""
    response = answer_message(response_headers(), Anything(SEALER, lambda: 0))
    mutation = response.response_headers.response.header_mutation
    assert headers_set(mutation) == {"a": "1", "b": ""}
    assert list(mutation.remove_headers) == ["c", "d"]


def whole_request(content_type: str, consent: Metadata | None = CONSENT) -> ProcessingRequest:
    """Return a request's body with the attribute that comes where its headers do not."""
    message = request_body(OFFER)
    message.attributes[ATTRIBUTES].update({"request.headers['content-type']": content_type})
    if consent is not None:
        message.metadata_context.filter_metadata[AUTHZ_NAMESPACE].update(consent)
    return message


def test_an_offer_is_answered_in_one_message() -> None:
    """Where Envoy shows the body alone, one answer opens the interlock."""
    exchange = new()
    response = answer_message(whole_request("application/SDP ; charset=utf-8"), exchange)
    assert response.WhichOneof("response") == "request_body"
    assert metadata(response) == {"checked": True}
    response = answer_message(response_headers(), exchange)
    assert "location" in headers_set(response.response_headers.response.header_mutation)


def test_an_offer_in_one_message_is_no_other_content() -> None:
    """The content type is looked at here, whatever Envoy's routes say."""
    response = answer_message(whole_request("application/sdpx"), new())
    assert response.immediate_response.status.code == 415
    assert "checked" not in metadata(response)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(
            whole_request("application/sdp", None), "extauthz did not consent", id="no-consent"
        ),
        pytest.param(
            whole_request("application/sdp", {"checked": True, "outcome": "ready"}),
            "expected DONE",
            id="readiness",
        ),
        pytest.param(
            whole_request("multipart/form-data; boundary=x"), "without its headers", id="form"
        ),
        pytest.param(request_body(OFFER), "expected REQUEST_HEADERS", id="no-attribute"),
    ],
)
def test_an_offer_in_one_message_is_refused(message: ProcessingRequest, reason: str) -> None:
    """Without consent, and where headers would have to change, the stream is aborted."""
    with pytest.raises(UnexpectedMessageError, match=reason):
        answer_message(message, new())
