from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.exchanges import ANSWER, CALL, CREATED, OFFER, READY, SDP, new
from sdpfilter.consent import Consent
from sdpfilter.errors import SDPError
from sdpfilter.exchange import Action, Continue, Exchange, Refuse, UnexpectedMessageError
from sdpfilter.rules import check_answer, check_offer

BODIES = st.sampled_from(
    [OFFER, ANSWER, OFFER.replace(b"m=audio", b"m=video"), b"", b"v=0\r\n"]
) | st.binary(max_size=40)


@dataclass(frozen=True)
class RequestHeaders:
    """What `Exchange.request_headers` takes."""

    headers: dict[str, str]
    consent: Consent | None
    end: bool

    def send(self, exchange: Exchange) -> Action:
        """Give it to an exchange."""
        return exchange.request_headers(self.headers, self.consent, end_of_stream=self.end)


@dataclass(frozen=True)
class ResponseHeaders:
    """What `Exchange.response_headers` takes."""

    headers: dict[str, str]
    from_upstream: bool
    end: bool

    def send(self, exchange: Exchange) -> Action:
        """Give it to an exchange."""
        return exchange.response_headers(
            self.headers, from_upstream=self.from_upstream, end_of_stream=self.end
        )


@dataclass(frozen=True)
class RequestBody:
    """What `Exchange.request_body` takes."""

    body: bytes
    end: bool

    def send(self, exchange: Exchange) -> Action:
        """Give it to an exchange."""
        return exchange.request_body(self.body, end_of_stream=self.end)


@dataclass(frozen=True)
class ResponseBody:
    """What `Exchange.response_body` takes."""

    body: bytes
    end: bool

    def send(self, exchange: Exchange) -> Action:
        """Give it to an exchange."""
        return exchange.response_body(self.body, end_of_stream=self.end)


Message = RequestHeaders | RequestBody | ResponseHeaders | ResponseBody

ENDS = st.booleans()
HEADERS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        RequestHeaders, st.just(SDP) | HEADERS, st.sampled_from([CALL, READY, None]), end=ENDS
    ),
    st.builds(RequestBody, BODIES, end=ENDS),
    st.builds(
        ResponseHeaders,
        st.builds(
            lambda headers, status: headers | {":status": status},
            st.just(CREATED) | HEADERS,
            st.integers(0, 700).map(str) | st.text(max_size=4),
        ),
        from_upstream=st.booleans(),
        end=ENDS,
    ),
    st.builds(ResponseBody, BODIES, end=ENDS),
)
# A call as it should be, so that sequences get anywhere.
GOOD: list[Message] = [
    RequestHeaders(SDP, CALL, end=False),
    RequestBody(OFFER, end=True),
    ResponseHeaders(CREATED, from_upstream=True, end=False),
    ResponseBody(ANSWER, end=True),
]
# A good beginning, one message more or less, and whatever then.
SEQUENCES = st.builds(
    lambda begin, messages: GOOD[:begin] + messages,
    st.integers(0, 4),
    st.lists(MESSAGES, max_size=6),
) | st.permutations(GOOD)


def is_offer(body: bytes) -> bool:
    """Tell whether a body is an offer that may pass."""
    try:
        check_offer(body)
    except SDPError:
        return False
    return True


def is_answer(body: bytes) -> bool:
    """Tell whether a body is an answer to the offer that is used here."""
    try:
        check_answer(body, check_offer(OFFER))
    except SDPError:
        return False
    return True


@dataclass
class Seen:
    """What an exchange was given that could be a reason to let a message pass."""

    consent: Consent | None = None
    has_offer: bool = False
    answered_by_envoy: bool = False

    def take(self, message: Message) -> None:
        """Remember a message that was answered."""
        match message:
            case RequestHeaders():
                self.consent = message.consent
            case RequestBody():
                self.has_offer = self.has_offer or is_offer(message.body)
            case ResponseHeaders():
                self.answered_by_envoy = not message.from_upstream

    def may_open(self, message: Message) -> bool:
        """Tell whether a message, taken already, is a reason to open its interlock."""
        match message:
            case RequestHeaders():
                return message.consent is READY
            case RequestBody():
                return self.consent is CALL and message.end and is_offer(message.body)
            case ResponseHeaders():
                return not message.from_upstream and message.end
            case ResponseBody():
                return message.end and (
                    self.answered_by_envoy or (self.has_offer and is_answer(message.body))
                )


def checked(message: Message, exchange: Exchange, seen: Seen) -> Action | None:
    """Give a message to an exchange, and check the answer; None if the stream is aborted."""
    try:
        action = message.send(exchange)
    except UnexpectedMessageError:
        return None
    seen.take(message)
    if isinstance(message, ResponseHeaders) and message.from_upstream:
        # Nobody but an upstream that got a checked offer may have answered.
        assert seen.has_offer
        assert seen.consent is CALL
    if isinstance(action, Refuse):
        assert 400 <= action.error.http_status < 600
        return action
    assert isinstance(action, Continue)
    if action.checked:
        assert seen.may_open(message)
    if isinstance(message, RequestBody | ResponseBody):
        # Nothing that was not checked goes on: the body is the last that either side sends.
        assert action.checked
    return action


@given(SEQUENCES)
def test_nothing_passes_unchecked(messages: list[Message]) -> None:
    """Any messages in any order give an action or an abort; no interlock opens without a check."""
    exchange, seen = new(), Seen()
    for message in messages:
        checked(message, exchange, seen)


def test_the_good_call_passes() -> None:
    """The sequence that the others vary is answered and opens both interlocks."""
    exchange, seen = new(), Seen()
    actions = [checked(message, exchange, seen) for message in GOOD]
    assert [isinstance(action, Continue) and action.checked for action in actions] == [
        False,
        True,
        False,
        True,
    ]


class Careless(Exchange):
    """An exchange with the mistake that the properties are about: it checks no offer."""

    def request_body(self, body: bytes, *, end_of_stream: bool) -> Action:
        """Let everything pass."""
        del body, end_of_stream
        return Continue(checked=True)


def test_the_properties_can_fail() -> None:
    """An exchange that opens the interlock for garbage is found out."""
    careless = Careless(new()._sealer, lambda: 0)
    seen = Seen()
    checked(GOOD[0], careless, seen)
    with pytest.raises(AssertionError):
        checked(RequestBody(b"garbage", end=True), careless, seen)
