"""Metrics of sdpfilter. Labels have few values: our rules and codes, never what was received."""

from functools import cache
from typing import Final

from prometheus_client import Counter

from sdpfilter.exchange import Action, Refuse

CHECKED: Final = Counter(
    "ringback_sdp_checked",
    "Offers and answers that may pass, changed or not; answers of Envoy's own among them",
    ["description"],
)
EDITS: Final = Counter(
    "ringback_sdp_edits",
    "Offers and answers that a rule has changed, by the rule",
    ["description", "rule"],
)
REFUSALS: Final = Counter(
    "ringback_sdp_refusals",
    "Offers, answers and errors of upstreams that were refused or reworded, by the code of the "
    "error that the caller got",
    ["description", "code"],
)
ABORTED: Final = Counter(
    "ringback_sdp_streams_aborted", "Streams that nothing could be said about: Envoy answers 503"
)
REGISTRATIONS: Final = Counter(
    "ringback_call_registrations",
    "Calls that callkeeper was told of before their answer was released, by result: registered, "
    "failed, or no_call_id where the provider named none",
    ["result"],
)
ORPHANS: Final = Counter(
    "ringback_call_orphans",
    "Calls that callkeeper could not take on and that were hung up therefore, by result: ended, "
    "or given_up",
    ["result"],
)

_OFFER, _ANSWER = "offer", "answer"


def count(part: str, action: Action) -> None:
    """Count what became of one message.

    Args:
        part: Of the HTTP stream: ``request_body``, for example.
        action: The reply to it.
    """
    description = _OFFER if part.startswith("request") else _ANSWER
    if isinstance(action, Refuse):
        _refused(description, action.error.code).inc()
        return
    for rule in action.edits:
        _edited(description, rule).inc()
    if action.checked and part.endswith("body"):
        _checked(description).inc()


# Finding a counter by its labels costs more than counting.
@cache
def _checked(description: str) -> Counter:
    return CHECKED.labels(description)


@cache
def _edited(description: str, rule: str) -> Counter:
    return EDITS.labels(description, rule)


@cache
def _refused(description: str, code: str) -> Counter:
    return REFUSALS.labels(description, code)
