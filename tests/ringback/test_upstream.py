import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.errors import ApiError
from ringback.upstream import (
    UpstreamAnswerError,
    UpstreamFailedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
    error_of,
)

NO_REASON = (
    "The provider refused the request with status 418 and gave no reason. "
    "Check the session settings and the offer."
)
AZURE_KEY = "0123456789abcdef0123456789ABCDEF"
LONG_AZURE_KEY = "9aBc" * 21


def answer_of(status: int, error: object, headers: dict[str, str] | None = None) -> ApiError:
    """Return what becomes of an upstream's answer with an error object."""
    return error_of(status, headers or {}, json.dumps({"error": error}).encode())


def message_of(message: object) -> str:
    """Return what the downstream reads of a provider's message."""
    return str(answer_of(418, {"message": message}))


def downstream_of(error: ApiError) -> Any:
    """Return the error object that the downstream receives."""
    return json.loads(error.to_body())["error"]


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600)])
def test_every_status_has_one_meaning(status: int) -> None:
    """4xx are the caller's, but for those that blame the gateway; all else is the provider's."""
    error = error_of(status, {}, b"")
    match status:
        case 401 | 403:
            expected: tuple[type[ApiError], int, str] = (
                UpstreamRefusedError,
                502,
                "upstream_refused",
            )
        case 408:
            expected = UpstreamTimeoutError, 504, "upstream_timeout"
        case _ if 400 <= status < 500 and status != 407:
            expected = UpstreamAnswerError, status, "upstream_refused_request"
        case _:
            expected = UpstreamFailedError, 502, "upstream_failed"
    assert (type(error), error.http_status, error.code) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(
            UpstreamRefusedError(),
            "The provider refused the gateway's own credentials for this model. "
            "Tell the operator; another try will not help.",
            id="refused",
        ),
        pytest.param(UpstreamFailedError(), "The provider failed. Try again shortly.", id="failed"),
        pytest.param(
            UpstreamTimeoutError(),
            "The provider took too long to answer. Try again shortly.",
            id="timeout",
        ),
        pytest.param(
            UpstreamUnreachableError(),
            "The provider cannot be reached. Try again shortly.",
            id="unreachable",
        ),
        pytest.param(UpstreamAnswerError(418, {}, {}), NO_REASON, id="no-reason"),
    ],
)
def test_messages(error: ApiError, expected: str) -> None:
    """Our own messages say whose fault it is and whether another try can help."""
    assert str(error) == expected


def test_an_unreachable_upstream_is_worth_another_try_in_a_second() -> None:
    """Nothing was sent upstream, so a client may repeat the request at once."""
    error = UpstreamUnreachableError()
    assert (error.http_status, error.type) == (503, "service_unavailable")
    assert dict(error.headers) == {"retry-after": "1"}


def test_a_refusal_passes_in_our_shape() -> None:
    """A real refusal of OpenAI reaches the caller with all its parts and nothing around them."""
    error = answer_of(
        400,
        {
            "message": "Invalid SDP offer. Please try again with a WHIP-compliant offer.",
            "type": "invalid_request_error",
            "param": "sdp",
            "code": "invalid_offer",
            "internal": "pod-17",
        },
    )
    assert downstream_of(error) == {
        "message": "Invalid SDP offer. Please try again with a WHIP-compliant offer.",
        "type": "invalid_request_error",
        "param": "sdp",
        "code": "invalid_offer",
    }


def test_a_providers_code_is_no_label() -> None:
    """The downstream reads the provider's code; metrics and logs keep our word for it."""
    error = answer_of(429, {"code": "rate_limit_exceeded", "type": "tokens"})
    assert downstream_of(error)["code"] == "rate_limit_exceeded"
    assert (error.code, error.type) == ("upstream_refused_request", "tokens")


@pytest.mark.parametrize(
    "body",
    [
        # Realistic
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>nginx</html>", id="html"),
        pytest.param(b'{"error":null}', id="null"),
        pytest.param(b'{"error":"Token has expired"}', id="text"),
        pytest.param(b'{"statusCode":418,"message":"Resource not found"}', id="no-error-object"),
        # Synthetic
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"error":{}}', id="empty-object"),
        pytest.param(b'{"error":{"message":7,"type":[],"code":{},"param":false}}', id="types"),
        pytest.param(b'{"error":{"message":"","type":"","code":"","param":""}}', id="empty-texts"),
        # Pathological
        pytest.param(b'{"error":' + b"[" * 100_000, id="deep"),
        pytest.param(b"\xff\xfe\x00\xd8", id="half-of-utf-16"),
        pytest.param(b"9" * 5000, id="huge-number"),
    ],
)
def test_a_refusal_without_reason_has_ours(body: bytes) -> None:
    """A body that is no error object of OpenAI's shape adds nothing to the answer."""
    assert downstream_of(error_of(418, {}, body)) == {
        "message": NO_REASON,
        "type": "invalid_request_error",
        "param": None,
        "code": "upstream_refused_request",
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # Realistic
        pytest.param("Incorrect key: sk-proj-ab12***********wxyz.", "Incorrect key: ***", id="sk"),
        pytest.param("token ek_68af2f2e7f8c8191 expired", "token *** expired", id="ek"),
        pytest.param("(sess-0123456789abcdef)", "(***)", id="sess"),
        pytest.param(
            "Rate limit reached in organization org-A1b2C3d4 on tokens per min.",
            "Rate limit reached in organization *** on tokens per min.",
            id="organization",
        ),
        pytest.param("project `proj_A1b2C3d4`", "project `***`", id="project"),
        pytest.param("Bearer eyJhbGciOi.eyJzdWIi.c2ln", "Bearer ***", id="jwt"),
        pytest.param(f"key {AZURE_KEY}!", "key ***!", id="azure"),
        pytest.param(LONG_AZURE_KEY, "***", id="long-azure"),
        # Pathological
        pytest.param("sk-abcdef sk-abcdef", "*** ***", id="twice"),
        pytest.param(f"api-key:{AZURE_KEY}", "api-key:***", id="after-colon"),
        pytest.param(
            "bad: o=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\na=ice-pwd:glRt8Fil\r\na=mid:0",
            "bad: ***\r\ns=-\r\n***\r\na=mid:0",
            id="sdp",
        ),
        pytest.param("line `a=candidate:1 1 udp 1 10.0.0.1 9`", "line `***", id="candidate"),
        pytest.param("set foo=1 or data=x", "set foo=1 or data=x", id="no-sdp"),
        pytest.param("x " * 995 + AZURE_KEY, "x " * 995 + "***", id="across-the-cut"),
    ],
)
def test_keys_are_masked(message: str, expected: str) -> None:
    """Whatever looks like a key leaves as ``***``, wherever it stands."""
    assert message_of(message) == expected
    assert downstream_of(answer_of(418, dict.fromkeys(("type", "param", "code"), message))) == {
        "message": NO_REASON,
        "type": expected,
        "param": expected,
        "code": expected,
    }


@pytest.mark.parametrize(
    "message",
    [
        # Realistic
        "Missing required parameter: 'session.type'.",
        "session_not_found",
        "Unknown parameter: 'session.audio.input.turn_detection.eagerness'.",
        "The skeleton was skipped.",
        "Include the request ID req_0123456789abcdef0123456789abcdef in your message.",
        "Request 9c6574da-8b8a-41a1-8da9-308f4ad974ce failed.",
        "No session found for rtc_u1_9c6574da8b8a41a18da9308f4ad974ce",
        "Größe — 大きさ",
    ],
)
def test_words_and_ids_stay(message: str) -> None:
    """Names of parameters and ids, which a caller needs, are not taken for keys."""
    assert message_of(message) == message


def test_a_long_message_is_cut() -> None:
    """An answer stays small however long the provider's explanation is."""
    assert message_of("word " * 1000) == "word " * 400


def test_half_a_surrogate_pair_is_replaced() -> None:
    """JSON can escape what UTF-8 cannot hold; the answer is still an answer."""
    error = error_of(418, {}, rb'{"error":{"message":"a \ud83d b"}}')
    assert downstream_of(error)["message"] == "a ? b"


NOW = "Sun, 22 Nov 2026 14:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Realistic
        pytest.param("20", "20", id="seconds"),
        pytest.param("0", "0", id="at-once"),
        pytest.param("86400", "3600", id="a-day-is-an-hour"),
        pytest.param("Sun, 22 Nov 2026 14:00:20 GMT", "20", id="date"),
        pytest.param("Mon, 23 Nov 2026 14:00:00 GMT", "3600", id="tomorrow"),
        pytest.param("Sun, 22 Nov 2026 13:59:59 GMT", None, id="date-that-is-over"),
        # Synthetic
        pytest.param("Sunday, 22-Nov-26 14:00:20 GMT", "20", id="obsolete-date"),
        pytest.param("Sun Nov 22 14:00:20 2026", None, id="date-without-a-zone"),
        # Pathological
        pytest.param("007", "7", id="zeros"),
        pytest.param("", None, id="empty"),
        pytest.param("-1", None, id="negative"),
        pytest.param("1.5", None, id="fraction"),
        pytest.param("999999999", "3600", id="years"),
        pytest.param("1234567890", None, id="long"),
        pytest.param("٣", None, id="arabic-digit"),
        pytest.param("5,6", None, id="repeated"),
        pytest.param("1\r\nset-cookie: a", None, id="split"),
        pytest.param("Sun, 99 Nov 2026 14:00:00 GMT", None, id="no-such-day"),
        pytest.param("Sun, 22 Nov 99999999999 14:00:00 GMT", None, id="no-such-year"),
        pytest.param("Sun, 22 Nov 2026 14:00:00 +999999999999", None, id="no-such-zone"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_passes_as_seconds(status: int, value: str, expected: str | None) -> None:
    """Seconds pass, up to an hour; a date becomes seconds; any other form is left out."""
    headers = {"retry-after": value, "date": NOW, "x-other": "1"}
    found = dict(error_of(status, headers, b"").headers)
    assert found == ({} if expected is None else {"retry-after": expected})


@pytest.mark.parametrize("date", [{}, {"date": "today"}])
def test_a_date_is_nothing_without_a_clock(date: dict[str, str]) -> None:
    """A date counts from that of the answer; our own clock is not asked."""
    assert not error_of(429, {"retry-after": NOW, **date}, b"").headers


@pytest.mark.parametrize("status", [401, 403, 407, 408])
def test_refusals_of_the_gateway_do_not_quote_the_provider(status: int) -> None:
    """What a provider says about the gateway's own credentials stays here."""
    error = answer_of(status, {"message": "Incorrect API key: hunter2", "code": "hunter2"})
    assert b"hunter2" not in error.to_body()


@given(st.integers(100, 599).filter(lambda status: not 200 <= status < 300), st.binary())
def test_any_body_gives_an_answer(status: int, body: bytes) -> None:
    """Whatever an upstream sends, the downstream receives an error object with 4xx or 5xx."""
    error = error_of(status, {}, body)
    assert 400 <= error.http_status < 600
    assert set(downstream_of(error)) == {"message", "type", "param", "code"}


KEYS = st.from_regex(
    re.compile(r"(?:sk-|ek_|sess-|org-|proj_|eyJ)[A-Za-z0-9_-]{6,80}|[A-Za-z0-9]{32,84}", re.ASCII),
    fullmatch=True,
)


WORDS = ("the", "key:", "'session.type'")


@given(st.lists(st.one_of(KEYS, st.sampled_from(WORDS)), min_size=1, max_size=20))
def test_no_key_leaves(words: list[str]) -> None:
    """Of any message, words stay and keys go."""
    expected = [word if word in WORDS else "***" for word in words]
    assert message_of(" ".join(words)).split(" ") == expected
