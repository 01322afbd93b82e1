from contextlib import suppress
from random import Random

import pytest

from helpers.descriptions import ANSWERS, OFFERS
from helpers.policies import make_policy
from sdpfilter.draft import Edit
from sdpfilter.errors import SDPError
from sdpfilter.explain import EDIT_RULES, explain_edit
from sdpfilter.rewrite import apply_to_answer, apply_to_offer
from sdpfilter.rules import check_answer, check_offer


def _edits() -> set[Edit]:
    """Return what many policies do to real offers, and to a real answer."""
    random = Random(5)
    found: set[Edit] = set()
    for _ in range(200):
        policy = make_policy(random.choice)
        for data in OFFERS.values():
            with suppress(SDPError):
                rewritten = apply_to_offer(check_offer(data), policy)
                found.update(rewritten.edits)
                answer = ANSWERS["answer_openai_2026-01-25_to_aiortc"]
                answered = check_answer(answer, rewritten.description)
                found.update(apply_to_answer(answered, rewritten.description, policy).edits)
    return found


def test_every_edit_is_explained() -> None:
    """Whatever policies do to real descriptions, its rule has a reason, and no reason is idle."""
    edits = _edits()
    # No offer here names an address in its origin.
    assert {edit.rule for edit in edits} == EDIT_RULES.keys() - {"origin_address"}
    for edit in edits:
        why = explain_edit(edit)
        assert why.startswith(EDIT_RULES[edit.rule]) or edit.rule == "candidate_dropped"
        assert edit.rule != "candidate_dropped" or why != EDIT_RULES["candidate_dropped"]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        # Realistic
        pytest.param(
            Edit("candidate_dropped", 12, "mdns"),
            "offer_candidates: drop_private, and only the own network resolves an mDNS name",
            id="known-detail",
        ),
        pytest.param(
            Edit("direction", 12, "recvonly"),
            "direction allows one way only (recvonly)",
            id="with-detail",
        ),
        pytest.param(
            Edit("origin_address", 2),
            "offer_candidates hides addresses, and nothing depends on this one",
            id="without-detail",
        ),
        # Synthetic
        pytest.param(
            Edit("candidate_dropped", 12, "new"),
            "the policy does not let this candidate through",
            id="unknown-detail",
        ),
        pytest.param(Edit("new", 12), "the policy asks for it", id="unknown-rule"),
    ],
)
def test_a_reason_names_the_switch(edit: Edit, why: str) -> None:
    """The reason is the policy's switch, with what it found; an unknown rule does not fail."""
    assert explain_edit(edit) == why
