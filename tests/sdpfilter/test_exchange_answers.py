import json
from dataclasses import replace

import pytest

from helpers.exchanges import (
    ANSWER,
    CALL,
    CREATED,
    NOW,
    SEALER,
    answer,
    check_done,
    check_refused,
    offered,
)
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import CallHandle, open_handle
from sdpfilter.exchange import Continue, Refuse, UnexpectedMessageError

NOT_AT_FAULT = "the offer is not at fault: try again, and tell the operator if it stays"
PROVIDER_FAILED = "The provider failed. Try again shortly."
PROVIDER_REFUSED = (
    "The provider refused the gateway's own credentials for this model. "
    "Tell the operator; another try will not help."
)
PROVIDER_SLOW = "The provider took too long to answer. Try again shortly."
NO_REASON = (
    "The provider refused the request with status {} and gave no reason. "
    "Check the session settings and the offer."
)
TOKEN_SPENT = (
    "The provider does not accept this token, or not any more. "
    "Request a new one from POST /v1/realtime/client_secrets."
)


def expected_refusal(status: int) -> tuple[int, str, str]:
    """Return what becomes of an upstream's refusal that gives no reason."""
    match status:
        case 401:
            return 401, "token_refused_upstream", TOKEN_SPENT
        case 403:
            return 502, "upstream_refused", PROVIDER_REFUSED
        case 408:
            return 504, "upstream_timeout", PROVIDER_SLOW
        case _ if 400 <= status < 500 and status != 407:
            return status, "upstream_refused_request", NO_REASON.format(status)
    return 502, "upstream_failed", PROVIDER_FAILED


@pytest.mark.parametrize("status", range(200, 600))
def test_statuses_without_a_body(status: int) -> None:
    """Whatever an upstream answers without a body is a refusal, with one meaning each."""
    exchange = offered()
    action = answer(exchange, CREATED | {":status": str(status)}, end=True)
    check_refused(action, *expected_refusal(status))
    check_done(exchange)


@pytest.mark.parametrize("status", range(200, 600))
def test_statuses_with_a_body(status: int) -> None:
    """2xx and 4xx wait for their body; every other status is refused at once."""
    exchange = offered()
    action = answer(exchange, CREATED | {":status": str(status)})
    if 200 <= status < 300:
        assert isinstance(action, Continue)
        action = exchange.response_body(ANSWER, end_of_stream=True)
        assert isinstance(action, Continue)
        assert action.checked
    elif 400 <= status < 500 and status != 401:
        assert action == Continue()
        action = exchange.response_body(b"<html>", end_of_stream=True)
        check_refused(action, *expected_refusal(status))
    else:
        check_refused(action, *expected_refusal(status))
    check_done(exchange)


def test_a_refusal_of_the_provider_is_passed_on() -> None:
    """The provider's reason reaches the caller in our shape, without its key, with retry-after."""
    exchange = offered()
    answer(exchange, {":status": "429", "retry-after": "7", "x-internal": "pod-17"})
    body = b"""{"error": {"message": "Slow down, sk-proj-abcdef123456", "type": "tokens",
                "code": "rate_limit_exceeded", "param": null}, "trace": "pod-17"}"""
    action = exchange.response_body(body, end_of_stream=True)
    assert isinstance(action, Refuse)
    assert action.error.http_status == 429
    assert dict(action.error.headers) == {"retry-after": "7"}
    assert json.loads(action.error.to_body()) == {
        "error": {
            "message": "Slow down, ***",
            "type": "tokens",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }


@pytest.mark.parametrize(
    ("body", "code", "problem"),
    [
        # Realistic
        pytest.param(
            b'{"id":"rtc_1"}',
            "sdp_invalid_answer",
            "the upstream's answer is not usable SDP: line 1: expected v=0",
            id="json",
        ),
        pytest.param(
            b"",
            "sdp_invalid_answer",
            "the upstream's answer is not usable SDP: line 1: expected v=0",
            id="empty",
        ),
        pytest.param(
            ANSWER.replace(b"a=mid:1", b"a=mid:7"),
            "sdp_section_mismatch",
            "line 32 of the upstream's answer: expected a media section with the mid of the one "
            "at line 39 of the offer",
            id="of-another-call",
        ),
        # Pathological
        pytest.param(
            ANSWER[: ANSWER.index(b"m=")],
            "sdp_empty_answer",
            "the upstream's answer has no media section",
            id="no-sections",
        ),
        pytest.param(
            ANSWER[: ANSWER.index(b"m=application")],
            "sdp_section_count",
            "expected as many media sections in the upstream's answer as in the offer: 2, not 1",
            id="one-section",
        ),
        pytest.param(
            b"v=0\r\n" + b"a" * 70_000,
            "sdp_invalid_answer",
            "the upstream's answer is not usable SDP: "
            "the description has 70005 bytes, at most 65536 are allowed",
            id="too-large",
        ),
    ],
)
def test_unusable_answers_are_502(body: bytes, code: str, problem: str) -> None:
    """An answer that no browser could use is refused, in words that do not blame the caller."""
    exchange = offered()
    assert isinstance(answer(exchange, CREATED), Continue)
    action = exchange.response_body(body, end_of_stream=True)
    message = f"The SDP answer of the provider is refused: {problem}; {NOT_AT_FAULT}."
    check_refused(action, 502, code, message)
    check_done(exchange)


@pytest.mark.parametrize(
    "location",
    [
        # Realistic
        pytest.param("/v1/realtime/calls/rtc_u1_9c65", id="relative"),
        pytest.param("https://api.openai.com/v1/realtime/calls/rtc_u1_9c65", id="absolute"),
        pytest.param("https://r.openai.azure.com/openai/v1/realtime/calls/rtc_u1_9c65", id="azure"),
        pytest.param("rtc_u1_9c65", id="id-alone"),
        # Synthetic
        pytest.param("/v1/realtime/calls/rtc_u1_9c65?api-version=1", id="query"),
        pytest.param("/v1/realtime/calls/rtc_u1_9c65#x", id="fragment"),
        pytest.param("//other.example/rtc_u1_9c65", id="no-scheme"),
    ],
)
def test_the_call_id_is_sealed(location: str) -> None:
    """The downstream gets a handle that opens to the call and its owner, and to nothing else."""
    action = answer(offered(), CREATED | {"location": location})
    assert isinstance(action, Continue)
    path = action.set_headers["location"]
    assert path.startswith("/v1/realtime/calls/rtc_")
    assert "9c65" not in path
    assert open_handle(path.removeprefix("/v1/realtime/calls/"), SEALER, NOW) == CallHandle(
        deployment="azure-sweden",
        call_id="rtc_u1_9c65",
        key_hash="5b6a" * 16,
        token_id="k3VYbGJp",
        issued_at=int(NOW),
    )


@pytest.mark.parametrize(
    "location",
    [
        # Realistic
        pytest.param("https://api.openai.com/", id="no-id"),
        pytest.param("", id="empty"),
        # Pathological
        pytest.param("/calls/rtc_a,/calls/rtc_b/", id="two-headers"),
        pytest.param("https://rtc_u1_9c65", id="host"),
        pytest.param("/calls/rtc_\u00e4", id="not-ascii"),
        pytest.param("/calls/rtc_a\r\nset-cookie: b", id="split"),
        pytest.param("/calls/" + "r" * 129, id="long"),
    ],
)
def test_a_location_of_no_use_is_left_out(location: str) -> None:
    """A call that cannot be named works, and shows nothing of the upstream's own path."""
    action = answer(offered(), CREATED | {"location": location})
    assert action == Continue({}, ("location",))


def test_without_a_location_there_is_none() -> None:
    """An upstream need not name its calls."""
    action = answer(offered(), {":status": "201"})
    assert action == Continue()


def test_only_listed_headers_of_the_upstream_pass() -> None:
    """Everything else goes, but pseudo-headers and x-envoy-*, which Envoy lets nobody remove."""
    kept = {":status": "201", "content-length": "7", "date": "today", "x-envoy-upstream": "9"}
    gone = dict.fromkeys(
        [
            "set-cookie",
            "openai-organization",
            "access-control-allow-origin",
            "server",
            "x-request-id",
            "content-encoding",
            "",
        ],
        "x",
    )
    action = answer(offered(), kept | gone | {"content-type": "text/plain"})
    assert action == Continue({}, tuple(gone))


@pytest.mark.parametrize("status", ["", "20", "2000", "+20", "099", "٢٠٠", "9" * 5000, "ok"])
def test_an_answer_without_a_status_aborts_the_stream(status: str) -> None:
    """What is no status of three digits cannot be judged, and leaves the stage as it was."""
    exchange = offered()
    for headers in ({":status": status}, {}):
        with pytest.raises(UnexpectedMessageError, match="no status"):
            answer(exchange, headers)
    with pytest.raises(UnexpectedMessageError, match="expected RESPONSE_HEADERS"):
        exchange.response_body(ANSWER, end_of_stream=True)


class BrokenSealer:
    """Seals nothing."""

    def seal(self, _claims: object, _now: float) -> str:
        """Fail."""
        raise TokenError("length")


@pytest.mark.parametrize("broken", ["sealer", "consent"])
def test_a_call_that_cannot_be_sealed_aborts_the_stream(broken: str) -> None:
    """A fault of ours is no reason to hand out a call without a handle."""
    exchange = offered(consent=replace(CALL, token_id="no id") if broken == "consent" else CALL)
    if broken == "sealer":
        exchange._sealer = BrokenSealer()  # type: ignore[assignment]
    with pytest.raises((TokenError, ValueError)):
        answer(exchange, CREATED)
