"""One input of the fuzzer, and everything that must hold of it.

An input is `CHOICES` bytes that choose a policy, an offer, a line of ``====`` and an answer.
"""

from collections.abc import Sequence
from typing import Any, Final

from helpers.descriptions import ANSWERS, OFFERS
from helpers.policies import check_hidden, check_rewritten, count_candidates, make_policy
from ringback.sdppolicy import OfferCandidates, Policy
from sdpfilter.errors import AnswerError, SDPError
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer
from sdpfilter.sdp.session import SessionDescription, serialize_description

CHOICES: Final = 40
_BETWEEN: Final = b"====\n"


def check_input(data: bytes) -> None:
    """Run one input through all that a call's descriptions go through.

    Raises:
        Exception: Anything is a finding.
    """
    choices = iter(data[:CHOICES])

    def pick(values: Sequence[Any]) -> Any:
        return values[next(choices, 0) % len(values)]

    policy = make_policy(pick)
    offer, _, answer = data[CHOICES:].partition(_BETWEEN)
    try:
        sent = _check_offer(check_offer(offer), policy)
    except SDPError as refusal:
        _check_refusal(refusal, (400, 403, 413))
        return
    try:
        _check_answer(check_answer(answer, sent), sent, policy)
    except AnswerError as refusal:
        _check_refusal(refusal, (502,))


def make_seeds() -> dict[str, bytes]:
    """Return inputs made of real descriptions, by name: each offer with an answer that fits it."""
    answer = ANSWERS["answer_openai_2026-08-17_ga_calls"]
    head, tail = answer.split(b"m=application")
    with_video = (
        head.replace(b"BUNDLE 0 1", b"BUNDLE 0 2")
        + b"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\nm=application"
        + tail.replace(b"a=mid:1", b"a=mid:2")
    )
    # The first value of every switch is its default.
    choices = {"none": bytes(CHOICES), "some": bytes(n % 3 for n in range(CHOICES))}
    return {
        f"{name}_{policy}": chosen
        + offer.replace(b"BUNDLE audio video data", b"BUNDLE audio")
        + _BETWEEN
        + (with_video if b"m=video" in offer else answer)
        for name, offer in OFFERS.items()
        for policy, chosen in choices.items()
    }


def _check_offer(offer: SessionDescription, policy: Policy) -> SessionDescription:
    assert serialize_description(offer) == offer.data
    rewritten = apply_to_offer(offer, policy)
    check_rewritten(offer, rewritten)
    again = check_offer(rewritten.data)
    assert again == rewritten.description
    assert not apply_to_offer(again, policy).edits
    if policy.offer_candidates is not OfferCandidates.KEEP:
        check_hidden(again)
    return again


def _check_answer(answer: SessionDescription, offer: SessionDescription, policy: Policy) -> None:
    assert serialize_description(answer) == answer.data
    rewritten = apply_to_answer(answer, offer, policy)
    check_rewritten(answer, rewritten)
    again = check_answer(rewritten.data, offer)
    assert again == rewritten.description
    assert not apply_to_answer(again, offer, policy).edits
    if policy.offer_candidates is OfferCandidates.DROP_ALL:
        assert count_candidates(again)


def _check_refusal(refusal: SDPError, statuses: tuple[int, ...]) -> None:
    assert refusal.http_status in statuses
    assert str(refusal)
