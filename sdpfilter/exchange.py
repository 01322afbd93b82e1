"""The state of one HTTP stream: an offer in, an answer out. Pure: no I/O, no messages.

1. Request headers: is this a call that extauthz allowed, and does it carry an offer?
2. Request body: the offer, taken out of its form if it comes in one, is checked and the policy
   applied. Only now the stream counts as checked; Envoy's interlock lets nothing pass before.
   Of an offer without a form 1. and 2. come in one message.
3. Response headers: an error is answered at once where no body is needed; the upstream's Location
   is sealed into a handle; headers that are not on the allow-list go. What Envoy itself answers
   passes.
4. Response body: an answer is checked against the offer and the policy applied, an error is put
   into our shape. Only now the answer counts as checked; Envoy's interlock of the way back lets
   nothing pass before.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from ringback.callform import InvalidFormError, is_form, parse_call_form
from ringback.contract import CALL_LOCATION_PREFIX
from ringback.errors import ApiError
from ringback.sdppolicy import Policy
from ringback.tokens.handles import CallHandle, parse_call_id, seal_handle
from ringback.tokens.jwe import Sealer
from ringback.upstream import error_of
from sdpfilter.consent import Consent, Purpose
from sdpfilter.draft import Rewritten
from sdpfilter.errors import SDPError
from sdpfilter.policies import NoSuchPolicyError
from sdpfilter.policy import PolicyConflictError
from sdpfilter.refusals import (
    AnswerRefusedError,
    DescriptionRefusedError,
    EmptyOfferError,
    NotAnOfferError,
    PolicyUnusableError,
    TokenSpentError,
)
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.session import SessionDescription

SDP_CONTENT_TYPE: Final = "application/sdp"
# Headers of the upstream that reach the downstream. Everything else goes: cookies, the name of the
# organization, CORS headers that are not ours.
_ANSWER_HEADERS: Final = frozenset({"content-type", "content-length", "date", "location"})
# Pseudo-headers, and the headers of an Envoy at the upstream: ours takes no orders about those, one
# would cost the whole answer (mutation_rules, disallow_is_error). envoy.yaml removes them later.
_NOT_OURS_TO_REMOVE: Final = (":", "x-envoy-")
_STATUS: Final = re.compile(r"[1-9][0-9]{2}")


class UnexpectedMessageError(Exception):
    """Envoy sent what this stream does not expect; the stream must be aborted, never ended.

    An aborted stream gives the downstream 5xx and the upstream nothing. The text is for the log and
    holds nothing of a request.
    """


@dataclass(frozen=True, slots=True)
class Continue:
    """The message may pass."""

    set_headers: Mapping[str, str] = field(default_factory=dict)
    remove_headers: tuple[str, ...] = ()
    body: bytes | None = None
    """What takes the body's place; None leaves it as it came."""

    edits: tuple[str, ...] = ()
    """Rules by which the description was changed, each once."""

    checked: bool = False
    """The interlock may open: that of the request, or from the upstream's answer on that one's."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The downstream receives this error instead."""

    error: ApiError


Action = Continue | Refuse


@dataclass(frozen=True, slots=True)
class Opened:
    """A call that the upstream has answered.

    Attributes:
        consent: What extauthz said of it.
        call_id: The upstream's; empty if it named none, so that nobody can control the call.
        handle: Ours; likewise.
    """

    consent: Consent
    call_id: str
    handle: str


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
        policy_for: Returns the policy that holds for a call. Without it nothing is changed.
    """

    __slots__ = (
        "_consent",
        "_error_headers",
        "_form",
        "_now",
        "_offer",
        "_policy",
        "_policy_for",
        "_sealer",
        "_stage",
        "_status",
        "opened",
    )

    def __init__(
        self,
        sealer: Sealer,
        now: Callable[[], float],
        policy_for: Callable[[Consent], Policy] = lambda _: Policy(),
    ) -> None:
        self._sealer = sealer
        self._now = now
        self._policy_for = policy_for
        self._policy = Policy()
        self._stage = _Stage.REQUEST_HEADERS
        self._consent = Consent(Purpose.READY)
        # The content type if the offer comes in a form, else empty.
        self._form = ""
        self._offer: SessionDescription | None = None
        # The upstream's; 0 before it answers, or if Envoy does.
        self._status = 0
        self._error_headers: Mapping[str, str] = {}
        self.opened: Opened | None = None
        """The call, from the headers of its answer on; its body may still be refused."""

    @property
    def slot_id(self) -> str:
        """The id of the slots that extauthz has taken; empty if it has taken none."""
        return self._consent.slot_id

    def releases(self, action: Action) -> bool:
        """Whether an action lets the caller have the answer to an offer."""
        return (
            self._stage is _Stage.DONE
            and self.opened is not None
            and bool(self._status)
            and isinstance(action, Continue)
        )

    @property
    def is_over(self) -> bool:
        """Envoy has the last answer that it may wait for: a refusal, or that to a checked answer.

        Never of a stream without an offer, in which an upstream may have no say.
        """
        return self._stage is _Stage.DONE and self._consent.purpose is not Purpose.READY

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
            # Envoy answers: there is no offer, so no upstream may have a say.
            self._stage = _Stage.DONE
            return Continue(checked=True)
        content_type = headers.get("content-type", "")
        if is_form(content_type):
            self._form = content_type
        elif content_type.partition(";")[0].strip().lower() != SDP_CONTENT_TYPE:
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
        try:
            offer = parse_call_form(self._form, body).offer if self._form else body
            if not offer:
                return self._refuse(EmptyOfferError())
            self._policy = self._policy_for(self._consent)
            rewritten = apply_to_offer(check_offer(offer), self._policy)
        except InvalidFormError as error:
            return self._refuse(error)
        except SDPError as error:
            return self._refuse(DescriptionRefusedError(error))
        except (NoSuchPolicyError, PolicyConflictError) as error:
            return self._refuse(PolicyUnusableError(error))
        self._offer = rewritten.description
        self._stage = _Stage.RESPONSE_HEADERS
        passed = _pass(body, rewritten)
        if self._form:
            # What else the form held went to extauthz; providers take the offer alone.
            headers = {**passed.set_headers, "content-type": SDP_CONTENT_TYPE}
            passed = replace(passed, set_headers=headers)
        return passed

    def request(
        self, content_type: str, consent: Consent | None, body: bytes, *, end_of_stream: bool
    ) -> Action:
        """Take a request whose headers Envoy does not show: the offer as it is, in one message.

        Args:
            content_type: As the request says.
            consent: As in `request_headers`.
            body: As in `request_body`.
            end_of_stream: As in `request_body`.

        Raises:
            UnexpectedMessageError: As `request_headers` and `request_body` do; for a form, whose
                headers have to change.
        """
        if is_form(content_type):
            raise UnexpectedMessageError("a form came without its headers")
        action = self.request_headers({"content-type": content_type}, consent, end_of_stream=False)
        if isinstance(action, Refuse):
            return action
        return self.request_body(body, end_of_stream=end_of_stream)

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
            self._stage, self._status = _Stage.RESPONSE_BODY, 0
            return Continue(checked=end_of_stream)
        self._expect(_Stage.RESPONSE_HEADERS)
        status = headers.get(":status", "")
        if not _STATUS.fullmatch(status):
            raise UnexpectedMessageError("the answer has no status")
        self._stage, self._status = _Stage.RESPONSE_BODY, int(status)
        if self._status == 401 and self._consent.purpose is Purpose.CALL:
            return self._refuse(TokenSpentError())
        if 200 <= self._status < 300:
            action = self._accept(headers)
            if not end_of_stream:
                return action
        if 400 <= self._status < 500 and not end_of_stream:
            # The body tells why.
            self._error_headers = headers
            return Continue()
        return self._refuse(error_of(self._status, headers, b""))

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
        offer = self._offer
        if not self._status or offer is None:
            # Envoy's own answer: an upstream's follows an offer.
            return Continue({"content-length": str(len(body))}, checked=not self._status)
        try:
            rewritten = apply_to_answer(check_answer(body, offer), offer, self._policy)
        except SDPError as error:
            return self._refuse(AnswerRefusedError(error))
        passed = _pass(body, rewritten)
        # Not before: where Envoy's interlock of the way back sees headers alone, an answer is known
        # by its type to be unchecked until now (docs/mesh/envoy-gateway.md).
        headers = {**passed.set_headers, "content-type": SDP_CONTENT_TYPE}
        return replace(passed, set_headers=headers)

    def _accept(self, headers: Mapping[str, str]) -> Action:
        changed, call_id, handle = {}, "", ""
        removed = [
            name
            for name in headers
            if name not in _ANSWER_HEADERS and not name.startswith(_NOT_OURS_TO_REMOVE)
        ]
        if "location" in headers:
            try:
                call_id = parse_call_id(headers["location"])
            except ValueError:
                # The call itself is fine; it can only not be controlled.
                removed.append("location")
            else:
                handle = self._seal(call_id)
                changed["location"] = CALL_LOCATION_PREFIX + handle
        self.opened = Opened(self._consent, call_id, handle)
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


def _pass(body: bytes, rewritten: Rewritten) -> Continue:
    data = rewritten.data
    return Continue(
        # Envoy dropped it while it buffered the body.
        {"content-length": str(len(data))},
        body=None if data is body else data,
        edits=tuple(dict.fromkeys(edit.rule for edit in rewritten.edits)),
        checked=True,
    )
