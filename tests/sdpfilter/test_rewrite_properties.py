from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.descriptions import ANSWERS, OFFERS
from helpers.mutations import mutated, odd
from helpers.policies import check_hidden, check_rewritten, count_candidates, policies
from ringback.sdppolicy import OfferCandidates, Policy
from sdpfilter.errors import AnswerError, SDPError
from sdpfilter.policy import PolicyConflictError, strictest
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.session import SessionDescription

# Many descriptions are refused, and a busy machine is no failure.
MANY: Final = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
CHROMIUM: Final = check_offer(OFFERS["offer_chromium156_audio_dc_initial"])


def odd_ones(them: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """Odd descriptions made of real ones."""
    return st.sampled_from([*them.values()]).flatmap(odd)


OFFERED = st.one_of(odd_ones(OFFERS), mutated())
ANSWERED = st.one_of(odd_ones(ANSWERS), mutated())


def offer_of(data: bytes) -> SessionDescription | None:
    """Return an offer; None if the checks refuse it."""
    try:
        return check_offer(data)
    except SDPError:
        return None


def answer_of(data: bytes, offer: SessionDescription) -> SessionDescription | None:
    """Return an answer; None if the checks refuse it."""
    try:
        return check_answer(data, offer)
    except AnswerError:
        return None


def is_satisfied(policy: Policy, offer: SessionDescription) -> bool:
    """Tell whether a policy passes an offer as it is."""
    try:
        return not apply_to_offer(offer, policy).edits
    except SDPError:
        return False


@given(OFFERED, policies())
@MANY
def test_any_offer_is_refused_or_made_to_fit(data: bytes, policy: Policy) -> None:
    """Whatever the policy, an offer is refused or keeps to the rules, and twice is once."""
    offer = offer_of(data)
    if offer is None:
        return
    try:
        rewritten = apply_to_offer(offer, policy)
    except SDPError as refusal:
        check_refusal(refusal, 400, 403, 413)
        return
    check_rewritten(offer, rewritten)
    again = check_offer(rewritten.data)
    assert again == rewritten.description
    assert is_satisfied(policy, again)
    if policy.offer_candidates is not OfferCandidates.KEEP:
        check_hidden(again)


@given(ANSWERED, policies())
@MANY
def test_any_answer_is_refused_or_made_to_fit(data: bytes, policy: Policy) -> None:
    """Whatever the policy, an answer is refused or keeps to the rules, and twice is once."""
    try:
        offer = apply_to_offer(CHROMIUM, policy).description
    except SDPError:
        offer = CHROMIUM
    answer = answer_of(data, offer)
    if answer is None:
        return
    try:
        rewritten = apply_to_answer(answer, offer, policy)
    except AnswerError as refusal:
        check_refusal(refusal, 502)
        return
    check_rewritten(answer, rewritten)
    again = check_answer(rewritten.data, offer)
    assert not apply_to_answer(again, offer, policy).edits
    if policy.offer_candidates is not OfferCandidates.KEEP:
        # Chromium's offer has none, so somebody must be reachable.
        assert count_candidates(again)


def check_refusal(refusal: SDPError, *statuses: int) -> None:
    """Check the status and that there is a text."""
    assert refusal.http_status in statuses
    assert str(refusal)


@given(odd_ones(OFFERS), policies(), policies())
@MANY
def test_what_satisfies_the_strictest_satisfies_both(data: bytes, a: Policy, b: Policy) -> None:
    """An offer that a merged policy passes or makes fit needs nothing of the two policies."""
    try:
        both = strictest(a, b)
        offer = apply_to_offer(check_offer(data), both).description
    except (PolicyConflictError, SDPError):
        return
    assert is_satisfied(a, offer)
    assert is_satisfied(b, offer)


@given(odd_ones(ANSWERS), policies(), policies())
@MANY
def test_answers_that_satisfy_the_strictest_satisfy_both(data: bytes, a: Policy, b: Policy) -> None:
    """So does an answer."""
    try:
        both = strictest(a, b)
        offer = apply_to_offer(CHROMIUM, both).description
        answer = apply_to_answer(check_answer(data, offer), offer, both).description
    except (PolicyConflictError, SDPError):
        return
    for policy in (a, b):
        assert not apply_to_answer(answer, offer, policy).edits
