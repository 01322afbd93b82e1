import re
import time

import pytest

from callsapi.v1 import calls_pb2
from callsapi.v1.calls_pb2 import CallState, Event, Payer, Usage
from ringback.cli.callrows import call_table, event_line

NOW = 1_795_334_400.0


def call(**changes: object) -> CallState:
    """Return a call that is attached and has an hour, but for what is said otherwise."""
    made = CallState(
        id="0" * 32,
        model="voice",
        payer=Payer(key_hash="f" * 64, key_alias="web"),
        opened_at=NOW - 65,
        ends_at=NOW + 3600,
        phase=calls_pb2.PHASE_ATTACHED,
        usage=Usage(text_in=1, cached_audio_in=2, audio_out=3),
        cost_microdollars=1_234_500,
    )
    made.MergeFrom(CallState(**changes))  # type: ignore[arg-type]  # as they are declared
    return made


@pytest.mark.parametrize(
    ("shown", "left", "state"),
    [
        (call(), "60:00", "attached"),
        (call(idle_ends_at=NOW + 7), "0:07 idle", "attached"),
        (call(idle_ends_at=NOW + 3700), "60:00", "attached"),
        (call(phase=calls_pb2.PHASE_ENDING, reason="max_cost"), "-", "ending: max_cost"),
    ],
    ids=["duration", "silence", "duration-before-silence", "ending"],
)
def test_a_row_says_how_a_call_is(shown: CallState, left: str, state: str) -> None:
    """And which limit comes first."""
    table = call_table([shown], NOW)
    cells = ["0" * 32, "1:05", left, state, "voice", "web", "-", "6", "$1.2345"]
    assert re.split(" {2,}", table.splitlines()[1]) == cells


def test_a_table_is_as_long_as_there_is_room() -> None:
    """What does not fit is counted."""
    calls = [call()] * 5
    assert len(call_table(calls, NOW).splitlines()) == 6
    assert len(call_table(calls, NOW, 6).splitlines()) == 6
    *rows, last = call_table(calls, NOW, 5).splitlines()
    assert (len(rows), last) == (4, "... and 2 more")
    assert call_table([], NOW, 5) == "No call is open."


def test_an_event_is_a_line() -> None:
    """With the reason, when a call has ended."""
    ended = call(phase=calls_pb2.PHASE_ENDED, reason="idle")
    at = time.strftime("%H:%M:%S", time.localtime(NOW))
    line = f"{at}  call.ended  {'0' * 32}  voice  6 tokens  $1.2345  idle"
    assert event_line(Event(name="call.ended", at=NOW, call=ended)) == line
