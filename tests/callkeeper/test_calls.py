from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callkeeper.calls import (
    CallState,
    End,
    Limits,
    Phase,
    Reason,
    Wait,
    active,
    attached,
    charged,
    ended,
    ending,
    heard,
    lost,
    next_step,
    opened,
    tightened,
)
from callkeeper.model import Tokens
from ringback.calllimits import CallLimits

LIMITS = Limits(
    is_required=True,
    attach_s=20,
    unattached_s=10,
    max_duration_s=600,
    idle_s=60,
    max_cost_microdollars=1000,
)
BEST_EFFORT = replace(LIMITS, is_required=False)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        pytest.param(opened(LIMITS, 100), Wait(120), id="has-to-attach"),
        pytest.param(attached(opened(LIMITS, 100)), Wait(160), id="has-to-speak"),
        pytest.param(active(attached(opened(LIMITS, 100)), 650), Wait(700), id="has-to-end"),
        pytest.param(lost(attached(opened(LIMITS, 100)), 110), Wait(120), id="has-to-come-back"),
        pytest.param(opened(BEST_EFFORT, 100), Wait(700), id="need-not-attach"),
        pytest.param(
            lost(attached(opened(BEST_EFFORT, 100)), 110), Wait(700), id="need-not-come-back"
        ),
        pytest.param(ending(opened(LIMITS, 100), Reason.ADMIN), Wait(None), id="ending"),
        pytest.param(ended(opened(LIMITS, 100)), Wait(None), id="ended"),
    ],
)
def test_what_a_call_waits_for(state: CallState, step: Wait) -> None:
    """The next deadline is the earliest of those that hold in its phase."""
    assert next_step(state, 100) == step


@pytest.mark.parametrize(
    ("state", "at", "reason"),
    [
        (opened(LIMITS, 0), 20, Reason.NOT_ATTACHED),
        (attached(opened(LIMITS, 0)), 60, Reason.IDLE),
        (lost(active(attached(opened(LIMITS, 0)), 30), 30), 40, Reason.UNATTACHED),
        (active(attached(opened(LIMITS, 0)), 599), 600, Reason.MAX_DURATION),
        (opened(BEST_EFFORT, 0), 600, Reason.MAX_DURATION),
    ],
)
def test_a_limit_holds_from_its_first_moment_on(
    state: CallState, at: float, reason: Reason
) -> None:
    """A moment before there is nothing to do; at the deadline the call ends, by its reason."""
    assert next_step(state, at - 0.001) == Wait(at)
    assert next_step(state, at) == End(reason)


def test_who_speaks_is_not_idle() -> None:
    """However long it takes; the silence begins when both sides have ceased."""
    state = heard(attached(opened(LIMITS, 0)), "input_audio_buffer.speech_started", 10)
    assert next_step(state, 500) == Wait(600)
    state = heard(state, "output_audio_buffer.started", 20)
    state = heard(state, "input_audio_buffer.speech_stopped", 30)
    assert next_step(state, 500) == Wait(600)
    state = heard(state, "output_audio_buffer.cleared", 40)
    assert next_step(state, 50) == Wait(100)
    assert next_step(heard(state, "response.created", 60), 70) == Wait(120)


def test_whom_nobody_hears_does_not_speak() -> None:
    """Who may have ceased while the sideband was lost."""
    state = heard(attached(opened(LIMITS, 0)), "output_audio_buffer.started", 10)
    state = attached(lost(state, 20))
    assert next_step(state, 25) == Wait(70)


def test_a_call_ends_when_it_costs_what_it_may() -> None:
    """Charges add up."""
    state = charged(attached(opened(LIMITS, 0)), Tokens(text_in=1), 600)
    assert isinstance(next_step(state, 1), Wait)
    state = charged(state, Tokens(text_in=2), 400)
    assert next_step(state, 1) == End(Reason.MAX_COST)
    assert (state.used.text_in, state.cost_microdollars) == (3, 1000)


@pytest.mark.parametrize(
    ("own", "held_to"),
    [
        (CallLimits(), LIMITS),
        (CallLimits(is_required=False), BEST_EFFORT),
        (CallLimits(None, 60, 5, 7), Limits(True, 20, 10, 60, 5, 7)),
        (CallLimits(True, 9000, 9000, 9000), LIMITS),
    ],
    ids=["nothing", "best-effort", "lower", "higher"],
)
def test_a_call_is_held_to_the_lower_limits(own: CallLimits, held_to: Limits) -> None:
    """Its own, or those of the settings."""
    assert tightened(LIMITS, own) == held_to


def test_the_first_reason_stays() -> None:
    """A call that ends for two reasons ended for the first; one that is over stays so."""
    state = ending(ending(opened(LIMITS, 0), Reason.IDLE), Reason.ADMIN)
    assert ended(state).reason is Reason.IDLE
    assert attached(ended(state)).phase is Phase.ENDED
    assert ended(opened(LIMITS, 0)).reason is Reason.ENDED_ELSEWHERE


_steps = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.sampled_from(["attach", "lose", "speak", "charge", "nothing"]),
    ),
    max_size=20,
)


@given(_steps)
def test_no_required_call_is_unattended_longer_than_it_may(
    steps: list[tuple[float, str]],
) -> None:
    """Whatever happens: while a call goes on, it has a sideband or lost it a short time ago."""
    state, now, unattended_since = opened(LIMITS, 0), 0.0, 0.0
    for seconds, what in steps:
        now += seconds
        if isinstance(next_step(state, now), End):
            return
        if state.phase is not Phase.ATTACHED:
            assert now - unattended_since < LIMITS.attach_s
        match what:
            case "attach":
                state = attached(state)
            case "lose":
                if state.phase is Phase.ATTACHED:
                    unattended_since = now
                state = lost(state, now)
            case "speak":
                state = active(state, now)
            case "charge":
                state = charged(state, Tokens(), 1)
        assert now < LIMITS.max_duration_s
