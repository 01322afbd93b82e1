import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callkeeper.calls import CallState, Limits, Phase, Reason, attached, ending, lost, opened
from callkeeper.model import Call, Payer, Tokens
from callkeeper.shared.record import (
    BadRecordError,
    Facts,
    Progress,
    decode_counters,
    decode_facts,
    decode_progress,
    encode_counters,
    encode_facts,
    encode_progress,
    orphaned,
)

LIMITS = Limits(is_required=True, attach_s=20, unattached_s=10, max_duration_s=600, idle_s=60)
CALL = Call(
    *("0" * 32, "voice-1", "https://provider.example", "rtc_1", "voice"),
    *(Payer("f" * 64, "web", "team"), "token-1", "request-1", 1e9),
)
FACTS = Facts(CALL, "rtc_handle", "sealed")

numbers = st.integers(0, 10**9)
times = st.floats(0, 1e6)
tokens = st.builds(Tokens, *[numbers] * 8, st.floats(0, 1e6))
states = st.builds(
    CallState,
    limits=st.builds(
        Limits, st.booleans(), times, times, times, st.none() | times, st.none() | numbers
    ),
    opened_at=times,
    active_at=times,
    phase=st.sampled_from(Phase),
    lost_at=st.none() | times,
    reason=st.none() | st.sampled_from(Reason),
    used=tokens,
    cost_microdollars=numbers,
    was_warned=st.booleans(),
    speaking=st.frozensets(st.sampled_from(["caller", "model"])),
)


def test_facts_are_read_as_they_were_written() -> None:
    """A newer version may have added some; those that are known are read."""
    assert decode_facts(encode_facts(FACTS)) == FACTS
    newer = json.loads(encode_facts(FACTS))
    newer["call"]["colour"] = newer["call"]["payer"]["colour"] = "green"
    assert decode_facts(json.dumps(newer)) == FACTS


@given(states, st.booleans(), st.text(), times)
def test_progress_is_read_by_another_clock(
    state: CallState, was_attached: bool, transcriber: str, apart: float
) -> None:
    """Times are as long ago as they were; who is speaking only who listens knows."""
    written = encode_progress(Progress(state, was_attached, transcriber), 1e9)
    used, cost = decode_counters(
        [str(value).encode() for value in encode_counters(state.used, state.cost_microdollars)]
    )
    found = decode_progress(written, used, cost, 1e9 + apart)
    assert (found.was_attached, found.transcriber) == (was_attached, transcriber)
    state = replace(state, speaking=frozenset())
    for field in fields(CallState):
        before, after = getattr(state, field.name), getattr(found.state, field.name)
        if field.name.endswith("_at") and before is not None:
            assert after == pytest.approx(before - apart, abs=1e-3)
        else:
            assert after == before


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "[]", "{}", '{"call":{},"handle":"","sealed_key":""}', "null", "\xff"],
)
def test_what_is_no_record_is_not_read(text: str) -> None:
    """It is one error, whatever is wrong with it."""
    with pytest.raises(BadRecordError):
        decode_facts(text)
    with pytest.raises(BadRecordError):
        decode_progress(text, Tokens(), 0, 0)
    with pytest.raises(BadRecordError):
        decode_counters([text.encode() or None])


def test_a_reason_of_a_newer_version_is_a_reason() -> None:
    """That the call ends is what counts."""
    state = ending(opened(LIMITS, 0), Reason.ADMIN)
    written = encode_progress(Progress(state), 0).replace('"admin"', '"too_loud"')
    found = decode_progress(written, Tokens(), 0, 0)
    assert found.state == replace(state, reason=Reason.ENDED_ELSEWHERE)


def test_who_is_gone_listens_no_more() -> None:
    """A call that its keeper listened to is lost since then; others are as they were."""
    listened = Progress(attached(opened(LIMITS, 0)), was_attached=True)
    assert orphaned(listened, 7).state == lost(listened.state, 7)
    for state in (opened(LIMITS, 0), ending(listened.state, Reason.IDLE), lost(listened.state, 3)):
        assert orphaned(Progress(state), 7).state == state
