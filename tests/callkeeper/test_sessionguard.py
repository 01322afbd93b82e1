from typing import Any

import pytest

from callkeeper.calls import Reason
from callkeeper.sessionguard import SessionGuard
from ringback.sessionlock import parse_lock

LOCK = parse_lock(
    {
        "instructions": "Help.",
        "tools": [{"type": "function", "name": "lookup"}],
        "max_output_tokens": {"max": 100},
        "audio": {"output": {"voice": "marin"}},
    }
)
GOOD: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Help.",
    "tools": [{"type": "function", "name": "lookup"}],
    "max_output_tokens": 100,
    "audio": {"output": {"voice": "marin", "speed": 1.0}},
}
MAX_VIOLATIONS = 3
# Longer than a guard waits for an answer.
LONG = 5.0


def updated(**members: Any) -> dict[str, Any]:
    """Return the event that shows a session; good but for what is given."""
    return {"type": "session.updated", "session": {**GOOD, **members}}


def speaking(voice: object) -> dict[str, Any]:
    """Return the audio of a session with a voice."""
    return {"output": {"voice": voice}}


def refusal(asked: dict[str, Any], code: str = "invalid_value") -> dict[str, Any]:
    """Return how a provider refuses an event."""
    error = {"type": "invalid_request_error", "code": code, "event_id": asked["event_id"]}
    return {"type": "error", "error": error}


class Wire:
    """A guard, and what it has said."""

    def __init__(self, *, settled: bool = True) -> None:
        self.guard = SessionGuard(LOCK, MAX_VIOLATIONS)
        self.now = 100.0
        self.said = self.guard.attached(self.now)
        if settled:
            assert self.hear(updated()) is None

    def hear(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """Give it an event; return what it says to that."""
        return self._say(self.guard.read(event, self.now))

    def wait(self, seconds: float = LONG) -> dict[str, Any] | None:
        """Let time pass; return what it says then."""
        self.now += seconds
        return self._say(self.guard.due(self.now))

    def _say(self, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        self.said += events
        assert len(events) <= 1
        return events[0] if events else None


def test_it_begins_with_a_question() -> None:
    """An update without anything in it shows how the session is; if it is right, all is said."""
    wire = Wire(settled=False)
    (question,) = wire.said
    assert question == {
        "event_id": question["event_id"],
        "type": "session.update",
        "session": {"type": "realtime"},
    }
    assert wire.hear(updated()) is None
    assert (wire.guard.due_at, wire.guard.violations) == (None, 0)
    assert wire.wait() is None


def test_what_was_changed_before_it_came_is_put_back() -> None:
    """That is no violation: the provider may have written it so."""
    wire = Wire(settled=False)
    told = wire.hear(updated(instructions="Do as I say."))
    assert told is not None
    assert told["session"] == {"type": "realtime", "instructions": "Help."}
    assert wire.hear(updated()) is None
    assert wire.guard.violations == 0


def test_a_change_is_a_violation_and_put_back() -> None:
    """Only what differs is sent; a change of what is free is none."""
    wire = Wire()
    assert wire.hear(updated(temperature=0.9)) is None
    told = wire.hear(updated(instructions="Do as I say.", audio=speaking("alloy")))
    assert told is not None
    assert told["session"] == {
        "type": "realtime",
        "instructions": "Help.",
        "audio": {"output": {"voice": "marin"}},
    }
    assert wire.guard.violations == 1
    assert wire.hear(updated()) is None
    assert wire.guard.due_at is None


def test_too_many_violations_end_the_call() -> None:
    """The last one is not put back any more."""
    wire = Wire()
    for number in range(1, MAX_VIOLATIONS + 1):
        assert wire.guard.reason is None
        told = wire.hear(updated(tools=[]))
        assert wire.guard.violations == number
        assert (told is None) is (number == MAX_VIOLATIONS)
        wire.hear(updated())
    assert wire.guard.reason is Reason.POLICY_VIOLATION


def test_one_correction_is_under_way_at_a_time() -> None:
    """Changes that come meanwhile wait for the answer, which may have put them back."""
    wire = Wire()
    assert wire.hear(updated(tools=[])) is not None
    for _ in range(50):
        assert wire.hear(updated(instructions="Do as I say.")) is None
    assert wire.hear(updated()) is None
    assert (wire.guard.violations, len(wire.said)) == (1, 2)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param({"instructions": "HELP."}, id="a-text"),
        pytest.param({"instructions": None}, id="not-shown"),
        pytest.param({"audio": speaking({"id": "voice_1"})}, id="a-voice-as-an-object"),
        pytest.param({"max_output_tokens": "100"}, id="a-number-as-a-text"),
        pytest.param(
            {"tools": [{"type": "function", "name": "lookup", "strict": True}]}, id="a-default"
        ),
    ],
)
def test_a_provider_may_write_a_value_in_its_own_way(written: dict[str, Any]) -> None:
    """It is corrected once; then that is right, and everything else is still a violation."""
    wire = Wire(settled=False)
    assert wire.hear(updated(**written)) is not None
    assert wire.hear(updated(**written)) is None
    assert wire.wait() is None
    assert (wire.guard.due_at, wire.guard.violations) == (None, 0)
    for _ in range(50):
        assert wire.hear(updated(**written)) is None
    assert wire.guard.violations == 0
    told = wire.hear(updated(**{**written, "tools": []}))
    assert told is not None
    assert wire.guard.violations == 1
    assert told["session"] == {"type": "realtime", "tools": GOOD["tools"]}
    assert wire.hear(updated(**written)) is None
    assert wire.guard.due_at is None


def test_a_response_teaches_nothing_about_a_session() -> None:
    """It may show in one way what the session shows in another."""
    wire = Wire(settled=False)
    written = updated(audio=speaking({"id": "voice_1"}))
    assert wire.hear(written) is not None
    assert wire.hear(written) is None
    assert wire.wait() is None
    assert wire.hear({"type": "response.created", "response": response()}) is None
    assert wire.hear(written) is None
    assert wire.guard.violations == 0


def test_a_caller_cannot_pass_its_change_off_as_the_providers_way() -> None:
    """Two answers to one correction: one is the caller's. Another in the place of it: likewise."""
    wire = Wire()
    assert wire.hear(updated(instructions="Do as I say.")) is not None
    assert wire.hear(updated(instructions="Do as I say!")) is None
    assert wire.hear(updated(instructions="Do as I say!")) is None
    assert wire.wait() is not None
    assert wire.guard.violations == 2
    assert wire.hear(updated(tools=[])) is None
    assert wire.wait() is None
    assert wire.guard.reason is Reason.POLICY_VIOLATION


def test_what_was_taken_for_the_providers_way_is_forgotten_when_it_was_not() -> None:
    """A slow provider shows the lock's own value at last: then nothing else means the same."""
    wire = Wire()
    bad = updated(instructions="Do as I say.")
    assert wire.hear(bad) is not None
    assert wire.hear(bad) is None
    assert wire.wait() is None
    assert wire.hear(bad) is None
    assert wire.hear(updated()) is None
    assert wire.hear(bad) is not None


def test_who_does_not_answer_is_asked_so_often_and_no_more() -> None:
    """A provider that does nothing with it cannot keep the session: the call ends."""
    wire = Wire(settled=False)
    told = [wire.wait() for _ in range(4)]
    assert [bool(each) for each in told] == [True, True, True, False]
    assert told[0] is not None
    assert told[0]["session"] == {
        "type": "realtime",
        "instructions": "Help.",
        "tools": GOOD["tools"],
        "max_output_tokens": 100,
        "audio": {"output": {"voice": "marin"}},
    }
    assert wire.guard.reason is Reason.SESSION_NOT_LOCKED
    assert wire.wait() is None


def test_what_is_refused_is_asked_so_often_and_no_more() -> None:
    """Refusals of what others sent are nothing to us."""
    wire = Wire()
    told = wire.hear(updated(tools=[]))
    tries = 0
    while told is not None:
        assert wire.hear(refusal({"event_id": "of another"})) is None
        told, tries = wire.hear(refusal(told)), tries + 1
    assert (tries, wire.guard.reason) == (4, Reason.SESSION_NOT_LOCKED)


def test_a_voice_that_was_heard_cannot_be_put_back() -> None:
    """Nor changed again: the rest is put back, and nobody asks for the voice any more."""
    wire = Wire()
    told = wire.hear(updated(tools=[], audio=speaking("alloy")))
    assert told is not None
    told = wire.hear(refusal(told, "cannot_update_voice"))
    assert told is not None
    assert told["session"] == {"type": "realtime", "tools": GOOD["tools"]}
    assert wire.hear(updated(audio=speaking("alloy"))) is None
    assert (wire.guard.due_at, wire.guard.violations) == (None, 1)

    wire = Wire()
    told = wire.hear(updated(audio=speaking("alloy")))
    assert told is not None
    assert wire.hear(refusal(told, "cannot_update_voice")) is None
    assert wire.guard.due_at is None


def response(**members: Any) -> dict[str, Any]:
    """Return the resource of a response."""
    audio = {"output": {"format": {"type": "audio/pcm"}, "voice": "marin"}}
    return {"id": "resp_1", "max_output_tokens": 100, "audio": audio, **members}


@pytest.mark.parametrize(
    ("members", "is_cancelled"),
    [
        pytest.param({}, False, id="as-the-session"),
        pytest.param({"max_output_tokens": 10}, False, id="fewer"),
        pytest.param({"max_output_tokens": None, "audio": None}, False, id="not-shown"),
        pytest.param({"audio": speaking({"id": "voice_1"})}, False, id="written-otherwise"),
        pytest.param({"max_output_tokens": "inf"}, True, id="endless"),
        pytest.param({"max_output_tokens": 4096}, True, id="more"),
        pytest.param({"audio": speaking("alloy")}, True, id="another-voice"),
    ],
)
def test_a_response_with_more_than_the_session_may_have_is_cancelled(
    members: dict[str, Any], *, is_cancelled: bool
) -> None:
    """It is a violation, too."""
    wire = Wire()
    told = wire.hear({"type": "response.created", "response": response(**members)})
    cancelled = {"type": "response.cancel", "response_id": "resp_1"}
    assert told == (cancelled if is_cancelled else None)
    assert wire.guard.violations == int(is_cancelled)


@pytest.mark.parametrize(
    ("item", "violations"),
    [
        pytest.param({"type": "function_call", "name": "lookup"}, 0, id="known"),
        pytest.param({"type": "message", "name": "another"}, 0, id="no-call"),
        pytest.param({"type": "function_call", "name": "another"}, 1, id="unknown"),
        pytest.param({"type": "mcp_call", "server_label": "another"}, 1, id="mcp"),
        pytest.param("no item", 0, id="nonsense"),
    ],
)
def test_calls_of_tools_that_nobody_allowed_are_violations(item: object, violations: int) -> None:
    """A response may bring tools of its own, which no event shows but their call."""
    wire = Wire()
    assert wire.hear({"type": "response.done", "response": response(output=[item])}) is None
    assert wire.guard.violations == violations


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.updated"},
        {"type": "session.updated", "session": []},
        {"type": "error", "error": "none"},
        {"type": "response.created", "response": 1},
        {"type": "response.done", "response": {"output": 1}},
        {},
    ],
)
def test_nonsense_is_survived(event: dict[str, Any]) -> None:
    """A session that is not shown is not right; nothing else is said."""
    wire = Wire()
    told = wire.hear(event)
    assert (told is not None) is (event.get("type") == "session.updated")


def test_attached_again_it_asks_again() -> None:
    """Whatever was under way is forgotten; violations are not."""
    wire = Wire()
    assert wire.hear(updated(tools=[])) is not None
    (question,) = wire.guard.attached(wire.now)
    assert question["session"] == {"type": "realtime"}
    assert wire.guard.violations == 1
