from dataclasses import replace
from typing import Any

import pytest

from callkeeper import calls
from callkeeper.calls import CallState, Limits, Reason
from callkeeper.model import Tokens
from callkeeper.warning import DueWarning, WarnAs, Warnings, event_of, next_warning, words_of

LIMITS = Limits(
    is_required=True,
    attach_s=20,
    unattached_s=20,
    max_duration_s=600,
    max_cost_microdollars=1000,
)
WARNINGS = Warnings(before_s=60, cost_share=0.8)
AT_THE_END = DueWarning(1540, Reason.MAX_DURATION)


def state(cost: int = 0, limits: Limits = LIMITS) -> CallState:
    """Return a call that was opened at 1000 and is attached."""
    return calls.charged(calls.attached(calls.opened(limits, 1000)), Tokens(), cost)


@pytest.mark.parametrize(
    ("call", "warnings", "due"),
    [
        pytest.param(state(), WARNINGS, AT_THE_END, id="before-the-longest-duration"),
        pytest.param(state(799), WARNINGS, AT_THE_END, id="still-cheap"),
        pytest.param(state(800), WARNINGS, DueWarning(1000, Reason.MAX_COST), id="expensive"),
        pytest.param(
            state(5000, replace(LIMITS, max_cost_microdollars=None)),
            WARNINGS,
            AT_THE_END,
            id="no-limit-of-cost",
        ),
        pytest.param(state(999), Warnings(before_s=60), AT_THE_END, id="cost-does-not-matter"),
        pytest.param(state(), Warnings(cost_share=0.8), None, id="time-does-not-matter"),
        pytest.param(state(999), Warnings(), None, id="off"),
        pytest.param(calls.warned(state(800)), WARNINGS, None, id="once"),
        pytest.param(calls.opened(LIMITS, 1000), WARNINGS, None, id="nobody-listens-yet"),
        pytest.param(calls.lost(state(800), 1500), WARNINGS, None, id="nobody-listens"),
        pytest.param(calls.ending(state(800), Reason.ADMIN), WARNINGS, None, id="ending"),
        pytest.param(
            state(limits=replace(LIMITS, max_duration_s=30)),
            WARNINGS,
            DueWarning(970, Reason.MAX_DURATION),
            id="shorter-than-the-warning",
        ),
    ],
)
def test_a_call_is_warned_once(call: CallState, warnings: Warnings, due: DueWarning | None) -> None:
    """A time before its longest duration, or from a part of its highest cost on."""
    assert next_warning(call, warnings) == due


@pytest.mark.parametrize(
    ("told_as", "event"),
    [
        ("event", None),
        (
            "item",
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "system",
                    "content": [
                        {
                            "type": "input_text",
                            "text": "This call is going to be ended in about 60 seconds.",
                        }
                    ],
                },
            },
        ),
        (
            "response",
            {
                "type": "response.create",
                "response": {
                    "instructions": "Tell the user in one short sentence, in the language of the "
                    "conversation: This call is going to be ended in about 60 seconds."
                },
            },
        ),
    ],
)
def test_the_call_is_told_in_the_providers_words(
    told_as: WarnAs, event: dict[str, Any] | None
) -> None:
    """As an item that the model reads, as a response that it speaks, or not at all."""
    assert event_of(words_of(Reason.MAX_DURATION, 59.9), told_as) == event


def test_no_time_is_left() -> None:
    """Words never speak of less than none; of cost they name no time."""
    assert "about 0 seconds" in words_of(Reason.MAX_DURATION, -3)
    assert words_of(Reason.MAX_COST, 1000).endswith("ended soon.")
