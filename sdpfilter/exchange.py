"""The state of one HTTP stream: an offer in, an answer out. Pure: no I/O, no messages.

1. Request headers: is this a call that extauthz allowed, and does it carry an offer?
2. Request body: the offer is checked. Only now the stream counts as checked; Envoy's interlock
   lets nothing pass before.
3. Response headers: an error is answered at once where no body is needed; the upstream's Location
   is sealed into a handle; headers that are not on the allow-list go. What Envoy itself answers
   passes.
4. Response body: an answer is checked against the offer, an error is put into our shape. Only now
   the answer counts as checked; Envoy's interlock of the way back lets nothing pass before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from ringback.contract import CALL_LOCATION_PREFIX
from ringback.errors import ApiError
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import CallHandle, parse_call_id, seal_handle
from ringback.tokens.jwe import Sealer
from ringback.upstream import error_of
from sdpfilter.errors import SDPError
from sdpfilter.refusals import (
    AnswerRefusedError,
    DescriptionRefusedError,
    EmptyOfferError,
    NotAnOfferError,
    TokenSpentError,
)
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.session import SessionDescription

SDP_CONTENT_TYPE: Final = "application/sdp"
# Headers of the upstream that reach the downstream. Everything else goes: cookies, the name of the
# organization, CORS headers that are not ours.
_ANSWER_HEADERS: Final = frozenset({"content-type", "content-length", "date", "location"})


class UnexpectedMessageError(Exception):
    """Envoy sent what this stream does not expect; the stream must be aborted, never ended.

    An aborted stream gives the downstream 5xx and the upstream nothing.
    """


class Purpose(Enum):
    """What extauthz consented to."""

    CALL = auto()
    READY = auto()


@dataclass(frozen=True, slots=True)
class Consent:
    """What extauthz decided about the stream, as its metadata says."""

    purpose: Purpose
    deployment: str = ""
    key_hash: str = ""
    token_id: str = ""


@dataclass(frozen=True, slots=True)
class Continue:
    """The message may pass."""

    set_headers: Mapping[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    checked: bool = False
    """The interlock may open: that of the request, or from the upstream's answer on that one's."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The downstream receives this error instead."""

    error: ApiError


Action = Continue | Refuse


class _Stage(Enum):
    REQUEST_HEADERS = auto()
    REQUEST_BODY = auto()
    RESPONSE_HEADERS = auto()
    RESPONSE_BODY = auto()
    DONE = auto()


class Exchange:
    """One HTTP stream. Each method takes one message and returns the one answer to it.

    Args:
        sealer: From `ringback.tokens.handle_sealer`.
        now: The time in seconds since the epoch.
    """

    __slots__ = ("_consent", "_error_headers", "_now", "_offer", "_sealer", "_stage", "_status")

    def __init__(self, sealer: Sealer, now: Callable[[], float]) -> None:
        self._sealer = sealer
        self._now = now
        self._stage = _Stage.REQUEST_HEADERS
        self._consent = Consent(Purpose.READY)
        self._offer: SessionDescription | None = None
        self._status = 0
        self._error_headers: Mapping[str, str] = {}

    def request_headers(
        self, headers: Mapping[str, str], consent: Consent | None, *, end_of_stream: bool
    ) -> Action:
        """Take the headers of the request.

        Args:
            headers: Names in lower case.
            consent: What extauthz decided; None if it did not.
            end_of_stream: There is no body.

        Raises:
            UnexpectedMessageError: If extauthz did not consent.
        """
        self._expect(_Stage.REQUEST_HEADERS)
        if consent is None:
            raise UnexpectedMessageError("extauthz did not consent to this stream")
        self._consent = consent
        if consent.purpose is Purpose.READY:
            self._stage = _Stage.RESPONSE_HEADERS
            return Continue(checked=True)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != SDP_CONTENT_TYPE:
            return self._refuse(NotAnOfferError())
        if end_of_stream:
            return self._refuse(EmptyOfferError())
        self._stage = _Stage.REQUEST_BODY
        return Continue()

    def request_body(self, body: bytes, *, end_of_stream: bool) -> Action:
        """Take the whole body of the request: the offer.

        Raises:
            UnexpectedMessageError: If it is only a part.
        """
        self._expect(_Stage.REQUEST_BODY)
        if not end_of_stream:
            raise UnexpectedMessageError("the request body came in parts")
        if not body:
            return self._refuse(EmptyOfferError())
        try:
            self._offer = check_offer(body)
        except SDPError as error:
            return self._refuse(DescriptionRefusedError(error))
        self._stage = _Stage.RESPONSE_HEADERS
        # Envoy dropped it while it buffered the body.
        return Continue({"content-length": str(len(body))}, checked=True)

    def response_headers(
        self, headers: Mapping[str, str], *, from_upstream: bool, end_of_stream: bool
    ) -> Action:
        """Take the headers of the answer.

        Args:
            headers: Names in lower case, ``:status`` among them.
            from_upstream: False if Envoy answers itself, in our shape already.
            end_of_stream: There is no body.

        Raises:
            UnexpectedMessageError: If there is no usable status.
        """
        if not from_upstream:
            # At any stage: Envoy answers when extauthz denies, when a time is over, ...
            self._stage = _Stage.RESPONSE_BODY
            return Continue()
        self._expect(_Stage.RESPONSE_HEADERS)
        self._stage = _Stage.RESPONSE_BODY
        status = headers.get(":status", "")
        if not status.isascii() or not status.isdigit():
            raise UnexpectedMessageError("the answer has no status")
        self._status = int(status)
        if self._status == 401:
            return self._refuse(TokenSpentError())
        if end_of_stream or not 200 <= self._status < 500 or 300 <= self._status < 400:
            return self._refuse(error_of(self._status, headers, b""))
        if self._status >= 400:
            self._error_headers = headers
            return Continue()
        return self._accept(headers)

    def response_body(self, body: bytes, *, end_of_stream: bool) -> Action:
        """Take the whole body of the answer.

        Raises:
            UnexpectedMessageError: If it is only a part.
        """
        self._expect(_Stage.RESPONSE_BODY)
        if not end_of_stream:
            raise UnexpectedMessageError("the response body came in parts")
        self._stage = _Stage.DONE
        if self._status >= 400:
            return self._refuse(error_of(self._status, self._error_headers, body))
        if self._status:
            try:
                check_answer(body, self._offer)
            except SDPError as error:
                return self._refuse(AnswerRefusedError(error))
        return Continue({"content-length": str(len(body))}, checked=True)

    def _accept(self, headers: Mapping[str, str]) -> Action:
        changed = {"content-type": SDP_CONTENT_TYPE}
        removed = [name for name in headers if name[0] != ":" and name not in _ANSWER_HEADERS]
        location = headers.get("location")
        if location is not None:
            try:
                changed["location"] = CALL_LOCATION_PREFIX + self._seal(parse_call_id(location))
            except (ValueError, TokenError):
                # The call itself is fine; it can only not be controlled.
                removed.append("location")
        return Continue(changed, tuple(removed))

    def _seal(self, call_id: str) -> str:
        now = self._now()
        handle = CallHandle(
            deployment=self._consent.deployment,
            call_id=call_id,
            key_hash=self._consent.key_hash,
            token_id=self._consent.token_id,
            issued_at=int(now),
        )
        return seal_handle(handle, self._sealer, now)

    def _refuse(self, error: ApiError) -> Refuse:
        self._stage = _Stage.DONE
        return Refuse(error)

    def _expect(self, stage: _Stage) -> None:
        if self._stage is not stage:
            raise UnexpectedMessageError(f"expected {self._stage.name}, received {stage.name}")
