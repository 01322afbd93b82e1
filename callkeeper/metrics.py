"""Metrics of callkeeper. Labels have few values: reasons, phases and kinds, never ids."""

from dataclasses import fields
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from callkeeper.model import Call, Tokens

OPEN_CALLS: Final = Gauge("ringback_calls_open", "Calls that this worker keeps")
ATTACHED_CALLS: Final = Gauge("ringback_calls_attached", "Those of them with a sideband")
ATTACH_SECONDS: Final = Histogram(
    "ringback_call_attach_seconds",
    "Time from a call's answer to its sideband",
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32),
)
ATTACH_FAILURES: Final = Counter(
    "ringback_call_attach_failures",
    "Tries to attach a sideband that failed, by why: not_there is a call that is not live yet",
    ["why"],
)
UNHEARD_SECONDS: Final = Counter(
    "ringback_call_unheard_seconds",
    "Time in which calls had no sideband that had one before, at most; what they used then is lost"
    " unless another observer has heard it",
)
ADOPTED: Final = Counter(
    "ringback_calls_adopted", "Calls of other replicas that this one keeps now, by why", ["why"]
)
OBSERVED_CALLS: Final = Gauge(
    "ringback_calls_observed", "Calls of other replicas that this worker listens to, too"
)
ENDED: Final = Counter("ringback_calls_ended", "Calls that have ended, by the reason", ["reason"])
HANGUP_FAILURES: Final = Counter(
    "ringback_call_hangup_failures", "Hangups that a provider did not confirm; tried again"
)
HANGUPS_GIVEN_UP: Final = Counter(
    "ringback_call_hangups_given_up", "Calls that nobody confirmed the end of for over an hour"
)
STANDING_FAILURES: Final = Counter(
    "ringback_standing_failures",
    "Times that nobody could tell whether calls may go on, by who failed: extauthz did not answer, "
    "or its key_source",
    ["why"],
)
VIOLATIONS: Final = Counter(
    "ringback_call_violations",
    "Changes of sessions that their locks do not allow, by deployment",
    ["deployment"],
)
WARNINGS: Final = Counter(
    "ringback_call_warnings", "Calls whose end was announced, by why", ["why"]
)
UNSENT: Final = Counter(
    "ringback_call_events_unsent", "Events that a sideband did not take; it is attached again"
)
TOKENS: Final = Counter(
    "ringback_call_tokens",
    "Tokens that calls have used, by kind; of the kind seconds, seconds of audio",
    ["kind"],
)
COST: Final = Counter(
    "ringback_call_cost_microdollars", "What calls have cost, by deployment", ["deployment"]
)
SPEND: Final = Counter(
    "ringback_call_spend_microdollars",
    "The same by team and model group; the first pairs that are seen, and other for all later ones",
    ["team", "model"],
)
UNPRICED: Final = Counter(
    "ringback_call_usage_unpriced",
    "Responses and transcriptions whose price is not known, or not wholly, by deployment",
    ["deployment"],
)
# Series that one worker may make of it.
MAX_PAIRS: Final = 500
_NO_TEAM: Final = "none"
_OTHER: Final = ("other", "other")
_pairs: Final[set[tuple[str, str]]] = set()
_KINDS: Final = tuple(field.name for field in fields(Tokens))


def count_usage(call: Call, tokens: Tokens, microdollars: int) -> None:
    """Count what a call has used and what that costs."""
    for kind in _KINDS:
        if number := getattr(tokens, kind):
            TOKENS.labels(kind).inc(number)
    COST.labels(call.deployment).inc(microdollars)
    pair = (call.payer.team_id or _NO_TEAM, call.model)
    if pair not in _pairs:
        if len(_pairs) >= MAX_PAIRS:
            pair = _OTHER
        else:
            _pairs.add(pair)
    SPEND.labels(*pair).inc(microdollars)
