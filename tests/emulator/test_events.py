import base64
import itertools
import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import BaseModel
from openai.types.realtime import RealtimeServerEvent

from emulator.events import Conversation
from emulator.script import ANSWERS, GREETING
from emulator.shapes import make_session

# RealtimeServerEvent is Annotated[Union[...], ...].
MODELS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(RealtimeServerEvent)[0])
}
PCM_SECOND = base64.b64encode(bytes(48_000)).decode()


def counting() -> Callable[[str], str]:
    """Return a maker of ids that can be foretold."""
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(numbers)}"


class Talk:
    """A conversation under test: every event that it returns is checked and kept."""

    def __init__(self, *, greet: bool = False, answer_turns: bool = True, **session: Any) -> None:
        config = {"type": "realtime", "model": "gpt-realtime"} | session
        self.conversation = Conversation(
            make_session(config, "sess_1", expires_at=3600),
            greet=greet,
            answer_turns=answer_turns,
            make_id=counting(),
        )
        self.events: list[dict[str, Any]] = []

    def keep(self, events: list[dict[str, Any]]) -> list[str]:
        """Check events against the SDK's models; return their types."""
        for event in events:
            MODELS[event["type"]].model_validate(event)
        self.events += events
        return [event["type"] for event in events]

    def send(self, kind: str, **fields: Any) -> list[str]:
        """Send an event."""
        return self.keep(self.conversation.receive(json.dumps({"type": kind, **fields})))

    def wait(self, seconds: float) -> list[str]:
        """Let time pass in steps of 20 ms."""
        types: list[str] = []
        for _ in range(int(seconds * 50)):
            types += self.keep(self.conversation.advance(20))
        return types

    def hear(self, seconds: float, *, loudness: float = 0.1) -> list[str]:
        """Let the microphone hear something."""
        types: list[str] = []
        for _ in range(int(seconds * 50)):
            types += self.keep(self.conversation.hear(loudness, 20))
        return types

    def last(self, kind: str) -> dict[str, Any]:
        """Return the latest event of a type."""
        return next(event for event in reversed(self.events) if event["type"] == kind)


SPOKEN = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
BEGUN = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "output_audio_buffer.started",
]


def test_a_response_is_generated_faster_than_it_is_heard() -> None:
    """The events come in the provider's order; response.done long before the audio has stopped."""
    talk = Talk()
    assert talk.keep(talk.conversation.open()) == ["session.created"]
    assert talk.send("response.create") == BEGUN
    words = ANSWERS[0].words
    early = talk.wait(2)
    assert early == ["response.output_audio_transcript.delta"] * len(words) + SPOKEN
    assert talk.conversation.playback is not None
    assert talk.wait(10) == ["output_audio_buffer.stopped"]
    assert talk.conversation.playback is None
    deltas = [event["delta"] for event in talk.events if event["type"].endswith("delta")]
    assert "".join(deltas) == ANSWERS[0].text
    response = talk.last("response.done")["response"]
    assert response["status"] == "completed"
    assert response["output"][0]["content"] == [
        {"type": "output_audio", "transcript": ANSWERS[0].text}
    ]
    assert response["usage"]["output_token_details"]["audio_tokens"] == 98


def test_text_responses_come_at_once() -> None:
    """With output_modalities ["text"] there is no audio."""
    talk = Talk()
    types = talk.send(
        "response.create", response={"output_modalities": ["text"], "metadata": {"a": "b"}}
    )
    assert types[-1] == "response.done"
    assert "response.output_text.delta" in types
    assert not [kind for kind in types if "audio" in kind]
    response = talk.last("response.done")["response"]
    assert response["metadata"] == {"a": "b"}
    assert response["usage"]["output_token_details"]["audio_tokens"] == 0


def test_answers_follow_each_other() -> None:
    """Each response says the next sentence, and the first again after the last."""
    talk = Talk(output_modalities=["text"])
    for _ in range(len(ANSWERS) + 1):
        talk.send("response.create")
    said = [event["text"] for event in talk.events if event["type"] == "response.output_text.done"]
    assert said == [*(answer.text for answer in ANSWERS), ANSWERS[0].text]


def test_the_greeting_comes_once_after_the_channel_opened() -> None:
    """Not before, and not again."""
    talk = Talk(greet=True)
    assert talk.wait(2) == []
    talk.keep(talk.conversation.open())
    assert talk.wait(0.5) == []
    assert talk.wait(10)[: len(BEGUN)] == BEGUN
    assert talk.last("response.output_audio_transcript.done")["transcript"] == GREETING.text
    assert talk.wait(10) == []


def test_the_greeting_gives_way_to_the_client() -> None:
    """A response.create before it replaces it; one during it cuts it off."""
    eager = Talk(greet=True)
    eager.keep(eager.conversation.open())
    assert eager.send("response.create") == BEGUN
    eager.wait(10)
    assert sum(event["type"] == "response.created" for event in eager.events) == 1
    late = Talk(greet=True)
    late.keep(late.conversation.open())
    late.wait(1)
    types = late.send("response.create")
    assert late.last("response.done")["response"]["status"] == "cancelled"
    assert types[-len(BEGUN) :] == BEGUN


def test_a_second_response_waits_for_its_turn() -> None:
    """While one is generated another is refused; while one is only played, it queues up."""
    talk = Talk()
    talk.send("response.create")
    assert talk.send("response.create", event_id="mine") == ["error"]
    error = talk.last("error")["error"]
    assert error["code"] == "conversation_already_has_active_response"
    assert error["event_id"] == "mine"
    talk.wait(2)
    assert talk.send("response.create") == BEGUN[:-1]
    types = talk.wait(20)
    audio = [kind for kind in types if kind.startswith("output_audio_buffer")]
    assert audio == [
        "output_audio_buffer.stopped",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
    ]


def test_a_turn_of_speech_is_committed_and_answered() -> None:
    """Speech, then silence: started, stopped, committed, the item, and the answer."""
    talk = Talk()
    talk.hear(0.5, loudness=0.0)
    assert talk.hear(1.0) == ["input_audio_buffer.speech_started"]
    assert talk.last("input_audio_buffer.speech_started")["audio_start_ms"] == 200
    assert talk.hear(1.0, loudness=0.0) == [
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        *BEGUN,
    ]
    talk.wait(2)
    usage = talk.last("response.done")["response"]["usage"]
    assert usage["input_token_details"]["audio_tokens"] == 10


@pytest.mark.parametrize(
    ("settings", "answers"),
    [
        pytest.param({"answer_turns": False}, False, id="echo-mode"),
        pytest.param(
            {
                "audio": {
                    "input": {"turn_detection": {"type": "server_vad", "create_response": False}}
                }
            },
            False,
            id="create_response-off",
        ),
        pytest.param({"audio": {"input": {"turn_detection": None}}}, False, id="no-detection"),
        pytest.param(
            {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}, True, id="semantic"
        ),
    ],
)
def test_turns_are_answered_as_the_session_says(settings: dict[str, Any], answers: bool) -> None:
    """Turn detection decides whether there are turns, and whether they get an answer."""
    talk = Talk(**settings)
    types = talk.hear(1.0) + talk.hear(1.0, loudness=0.0)
    assert ("response.created" in types) == answers


def test_speaking_interrupts_the_emulator() -> None:
    """What is generated is cancelled, what is played is cleared and truncated."""
    talk = Talk()
    talk.send("response.create")
    talk.wait(0.5)
    types = talk.hear(0.2)
    assert types[0] == "input_audio_buffer.speech_started"
    assert types[-3:] == [
        "response.done",
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    response = talk.last("response.done")["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    assert talk.last("conversation.item.truncated")["audio_end_ms"] == 500
    assert 0 < response["usage"]["output_token_details"]["audio_tokens"] < 98


def test_interruptions_can_be_switched_off() -> None:
    """Without interrupt_response the emulator goes on, and gives no second answer meanwhile."""
    detection = {"type": "server_vad", "interrupt_response": False}
    talk = Talk(audio={"input": {"turn_detection": detection}})
    talk.send("response.create")
    types = talk.hear(1.0) + talk.hear(1.0, loudness=0.0)
    assert "response.done" not in types
    assert "response.created" not in types


@pytest.mark.parametrize(
    ("seconds", "types"),
    [
        pytest.param(
            0.5,
            [*SPOKEN, "output_audio_buffer.cleared", "conversation.item.truncated"],
            id="generating",
        ),
        pytest.param(2, ["error"], id="only-playing"),
        pytest.param(9, ["error"], id="over"),
    ],
)
def test_a_response_can_be_cancelled_while_it_is_generated(
    seconds: float, types: list[str]
) -> None:
    """Afterwards there is nothing to cancel."""
    talk = Talk()
    talk.send("response.create")
    talk.wait(seconds)
    assert talk.send("response.cancel") == types


def test_output_audio_can_be_cleared_while_it_is_played() -> None:
    """output_audio_buffer.clear silences at once, and is no error when all is silent."""
    talk = Talk()
    talk.send("response.create")
    talk.wait(2)
    assert talk.send("output_audio_buffer.clear") == [
        "output_audio_buffer.cleared",
        "conversation.item.truncated",
    ]
    assert talk.send("output_audio_buffer.clear") == []


def test_audio_is_transcribed_if_the_session_wants_it() -> None:
    """The transcription has a usage of its own."""
    talk = Talk(audio={"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}})
    talk.hear(1.0)
    talk.hear(1.0, loudness=0.0)
    completed = talk.last("conversation.item.input_audio_transcription.completed")
    assert completed["usage"]["input_tokens"] == 10


def test_a_transcription_session_only_listens() -> None:
    """It has no greeting, no answers, and refuses response.create."""
    conversation = Conversation(make_session({"type": "transcription"}, "sess_1", expires_at=0))
    assert [event["type"] for event in conversation.open()] == ["session.created"]
    events = conversation.advance(5000)
    for loudness in [0.1] * 50 + [0.0] * 50:
        events += conversation.hear(loudness, 20)
    assert events[-1]["type"] == "conversation.item.done"
    assert conversation.receive('{"type": "response.create"}')[0]["type"] == "error"


def test_the_input_buffer_is_the_clients_without_detection() -> None:
    """Audio is buffered, committed or cleared; too little of it can't be committed."""
    talk = Talk(audio={"input": {"turn_detection": None}})
    assert talk.send("input_audio_buffer.commit") == ["error"]
    talk.hear(1.0)
    assert talk.send("input_audio_buffer.clear") == ["input_audio_buffer.cleared"]
    assert talk.send("input_audio_buffer.commit") == ["error"]
    assert talk.send("input_audio_buffer.append", audio=PCM_SECOND) == []
    assert talk.send("input_audio_buffer.commit") == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]


def test_items_can_be_created_read_and_deleted() -> None:
    """Each is known by its id, the client's or ours, and counts as input."""
    talk = Talk(output_modalities=["text"])
    content = [{"type": "input_text", "text": "Four letters a token."}]
    item = {"type": "message", "role": "user", "content": content}
    assert talk.send("conversation.item.create", item=item | {"id": "item_mine"}) == [
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert talk.send("conversation.item.retrieve", item_id="item_mine") == [
        "conversation.item.retrieved"
    ]
    talk.send("conversation.item.create", item=item)
    assert talk.last("conversation.item.added")["previous_item_id"] == "item_mine"
    assert talk.send("conversation.item.delete", item_id="item_mine") == [
        "conversation.item.deleted"
    ]
    assert talk.send("conversation.item.delete", item_id="item_mine") == ["error"]
    output = {"type": "function_call_output", "call_id": "c", "output": "x" * 400}
    talk.send("conversation.item.create", item=output)
    talk.send("response.create", response={"instructions": "1234"})
    usage = talk.last("response.done")["response"]["usage"]
    assert usage["input_token_details"]["text_tokens"] == 6 + 6 + 100 + 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Realistic
        pytest.param('{"type": "session.update"}', "missing_required_parameter", id="no-session"),
        pytest.param(
            '{"type": "session.update", "session": {"modalities": ["audio"]}}',
            "missing_required_parameter",
            id="beta-session",
        ),
        pytest.param(
            '{"type": "session.update", "session": {"type": "realtime", "voice": "x"}}',
            "unknown_parameter",
            id="beta-voice",
        ),
        pytest.param(
            '{"type": "response.create", "response": {"modalities": []}}',
            "unknown_parameter",
            id="beta-response",
        ),
        pytest.param('{"type": "no.such"}', "invalid_value", id="unknown-type"),
        pytest.param(
            '{"type": "conversation.item.create"}', "missing_required_parameter", id="no-item"
        ),
        # Pathological
        pytest.param("{", "invalid_json", id="cut"),
        pytest.param("[]", "invalid_json", id="array"),
        pytest.param("{}", "missing_required_parameter", id="no-type"),
        pytest.param('{"type": {}}', "invalid_value", id="type-object"),
        pytest.param(
            '{"type": "input_audio_buffer.append", "audio": "ä"}',
            "invalid_value",
            id="audio-not-ascii",
        ),
    ],
)
def test_bad_events_are_answered_with_an_error(text: str, code: str) -> None:
    """The session goes on; the error has OpenAI's shape."""
    talk = Talk()
    assert talk.keep(talk.conversation.receive(text)) == ["error"]
    assert talk.events[0]["error"]["type"] == "invalid_request_error"
    assert talk.events[0]["error"]["code"] == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("message"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "item", "session", "audio", "input", "content", "role", "id"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(Talk().conversation._handlers)),
    fields=st.dictionaries(
        st.sampled_from(
            ["session", "item", "response", "audio", "item_id", "response_id", "previous_item_id"]
        ),
        JSON,
        max_size=3,
    ),
)
def test_whatever_a_client_sends_is_answered(kind: str, fields: dict[str, Any]) -> None:
    """No event of a known type, whatever its fields, breaks the conversation."""
    talk = Talk()
    talk.send("response.create")
    events = talk.conversation.receive(json.dumps({"type": kind, **fields}))
    assert all(isinstance(event["type"], str) for event in events)
    talk.conversation.hear(0.1, 200)
    talk.conversation.hear(0.0, 900)
    talk.conversation.advance(20)


def test_a_voice_that_was_heard_stays() -> None:
    """Until then it can be changed; afterwards the whole update is refused."""

    def update(voice: str) -> list[str]:
        session = {"type": "realtime", "instructions": voice, "audio": {"output": {"voice": voice}}}
        return talk.send("session.update", session=session)

    talk = Talk()
    assert update("marin") == ["session.updated"]
    talk.send("response.create", response={"output_modalities": ["text"]})
    talk.wait(1)
    assert update("cedar") == ["session.updated"]
    talk.send("response.create")
    talk.wait(1)
    assert update("cedar") == ["session.updated"]
    assert update("marin") == ["error"]
    assert talk.events[-1]["error"]["code"] == "cannot_update_voice"
    assert talk.conversation.session["instructions"] == "cedar"


def test_the_session_cap_is_an_error_event() -> None:
    """It names the minutes."""
    talk = Talk()
    talk.keep(talk.conversation.expire(3600))
    error = talk.last("error")["error"]
    assert error["code"] == "session_expired"
    assert "60 minutes" in error["message"]
