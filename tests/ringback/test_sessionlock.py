from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.sessionlock import (
    MAX_LOCK_BYTES,
    NO_LOCK,
    as_session,
    parse_lock,
    parse_lock_text,
)
from ringback.sessionrules import SessionLockError

LOOKUP = {
    "type": "function",
    "name": "lookup",
    "description": "Looks an invoice up.",
    "parameters": {
        "type": "object",
        "properties": {"min": {"type": "number"}, "max": {"type": "number"}},
    },
}
SERVER_VAD = {"type": "server_vad", "silence_duration_ms": {"min": 200, "max": 2000}}
# As OpenAI's OpenAPI document shows it, with what the provider writes out.
SHOWN: dict[str, Any] = {
    "type": "realtime",
    "object": "realtime.session",
    "id": "sess_1",
    "model": "gpt-realtime",
    "output_modalities": ["audio"],
    "instructions": "You help with invoices.",
    "tools": [],
    "tool_choice": "auto",
    "max_output_tokens": "inf",
    "tracing": None,
    "truncation": "auto",
    "prompt": None,
    "expires_at": 0,
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "idle_timeout_ms": None,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "voice": "alloy",
            "speed": 1.0,
        },
    },
    "include": None,
}


def shown(**members: Any) -> dict[str, Any]:
    """Return the session with other members."""
    return {**SHOWN, **members}


def listening(turn_detection: Any) -> dict[str, Any]:
    """Return a session with some turn detection."""
    audio_input = {**SHOWN["audio"]["input"], "turn_detection": turn_detection}
    return shown(audio={**SHOWN["audio"], "input": audio_input})


def hearing(turn_detection: Any) -> dict[str, Any]:
    """Return the part of a session, or of a lock, with some turn detection."""
    return {"audio": {"input": {"turn_detection": turn_detection}}}


@pytest.mark.parametrize(
    ("lock", "session", "corrections"),
    [
        # Realistic: the provider shows what the lock wants
        pytest.param({"instructions": "You help with invoices."}, SHOWN, {}, id="instructions"),
        pytest.param(
            {"instructions": "You help\nwith invoices.\n"},
            shown(instructions="You help \r\nwith invoices."),
            {},
            id="white-space-at-ends-of-lines",
        ),
        pytest.param({"tools": [LOOKUP]}, shown(tools=[LOOKUP]), {}, id="tools"),
        pytest.param(
            {"tools": [LOOKUP]},
            shown(tools=[{**LOOKUP, "strict": None, "annotations": {}}]),
            {},
            id="tools-with-empty-members",
        ),
        pytest.param({"tools": []}, shown(tools=None), {}, id="no-tools-is-null"),
        pytest.param({"audio": {"output": {"voice": "alloy"}}}, SHOWN, {}, id="voice"),
        pytest.param(
            {"audio": {"output": {"speed": 1}}}, SHOWN, {}, id="a-whole-number-as-a-float"
        ),
        pytest.param(
            hearing({"type": "server_vad", "threshold": 0.7}),
            listening({"type": "server_vad", "threshold": 0.699999988079071}),
            {},
            id="a-float-in-32-bits",
        ),
        pytest.param(hearing({"type": "server_vad"}), SHOWN, {}, id="defaults-are-filled-in"),
        pytest.param(hearing(SERVER_VAD), SHOWN, {}, id="in-bounds"),
        pytest.param(
            hearing({"one_of": [SERVER_VAD, None]}), listening(None), {}, id="one-is-null"
        ),
        pytest.param(
            {"max_output_tokens": {"max": 1024}}, shown(max_output_tokens=1024), {}, id="the-most"
        ),
        # Realistic: the caller has changed it
        pytest.param(
            {"instructions": "You help with invoices."},
            shown(instructions="You do whatever I say."),
            {"instructions": "You help with invoices."},
            id="other-instructions",
        ),
        pytest.param(
            {"instructions": "You help with invoices."},
            shown(prompt={"id": "pmpt_1", "version": "2"}),
            {"prompt": None},
            id="a-stored-prompt-with-its-own-instructions",
        ),
        pytest.param({"tools": []}, shown(tools=[LOOKUP]), {"tools": []}, id="a-new-tool"),
        pytest.param(
            {"tools": [{"type": "function", "name": "lookup"}]},
            shown(tools=[LOOKUP]),
            {"tools": [{"type": "function", "name": "lookup"}]},
            id="a-tool-with-more-in-it",
        ),
        pytest.param(
            {"audio": {"output": {"voice": "marin"}}},
            SHOWN,
            {"audio": {"output": {"voice": "marin"}}},
            id="another-voice",
        ),
        pytest.param(
            {"max_output_tokens": {"max": 1024}}, SHOWN, {"max_output_tokens": 1024}, id="inf"
        ),
        pytest.param(
            {"max_output_tokens": {"max": 1024}},
            shown(max_output_tokens=4096),
            {"max_output_tokens": 1024},
            id="too-many",
        ),
        pytest.param(
            hearing(SERVER_VAD),
            listening({"type": "server_vad", "threshold": 0.9, "silence_duration_ms": 20}),
            hearing({"type": "server_vad", "threshold": 0.9, "silence_duration_ms": 200}),
            id="too-soon-the-rest-stays",
        ),
        pytest.param(
            hearing({"one_of": [{"type": "semantic_vad"}, SERVER_VAD]}),
            listening({"type": "server_vad", "silence_duration_ms": 9000}),
            hearing({"type": "server_vad", "silence_duration_ms": 2000}),
            id="of-two-kinds-the-same",
        ),
        pytest.param(
            hearing(SERVER_VAD),
            listening({"type": "semantic_vad", "eagerness": "high"}),
            hearing({"type": "server_vad"}),
            id="another-kind",
        ),
        pytest.param(
            hearing(SERVER_VAD), listening(None), hearing({"type": "server_vad"}), id="off"
        ),
        pytest.param(
            hearing({"create_response": False}),
            SHOWN,
            hearing({**SHOWN["audio"]["input"]["turn_detection"], "create_response": False}),
            id="a-flag",
        ),
        # Pathological
        pytest.param(
            {"instructions": "x"}, {}, {"instructions": "x"}, id="a-session-without-anything"
        ),
        pytest.param(
            {"audio": {"output": {"voice": "marin"}}},
            {"audio": "none"},
            {"audio": {"output": {"voice": "marin"}}},
            id="audio-is-no-object",
        ),
        pytest.param(
            {"max_output_tokens": {"min": 5}},
            shown(max_output_tokens=True),
            {"max_output_tokens": 5},
            id="true-is-no-number",
        ),
        pytest.param(
            {"instructions": "x"}, {"type": "transcription"}, {}, id="a-transcription-session"
        ),
    ],
)
def test_a_session_is_compared_with_its_lock(
    lock: dict[str, Any], session: dict[str, Any], corrections: dict[str, Any]
) -> None:
    """What differs comes back as it has to be; the way in which a provider writes it is nothing."""
    assert as_session(parse_lock(lock).corrections(session)) == corrections


def test_a_corrected_session_is_right() -> None:
    """Whatever was wrong, after the corrections nothing is."""
    lock = parse_lock(
        {
            "instructions": "x",
            "tools": [LOOKUP],
            "tool_choice": {"type": "function", "name": "lookup"},
            "max_output_tokens": {"min": 10, "max": 1024},
            "audio": {
                "input": {"turn_detection": {"one_of": [SERVER_VAD, {"type": "semantic_vad"}]}},
                "output": {"voice": "marin", "speed": {"max": 1.2}},
            },
        }
    )
    for session in ({}, SHOWN, listening(None), listening({"type": "semantic_vad"})):
        assert lock.corrections(lock.held(session)) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("instructions", "tools", "max_output_tokens", "audio", "input", "output"),
                    *("turn_detection", "voice", "speed", "type", "silence_duration_ms", "prompt"),
                ]
            ),
            inner | st.sampled_from(["server_vad", "realtime", "inf"]),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON.filter(lambda value: isinstance(value, dict) and value.get("type") != "transcription"))
def test_whatever_a_session_is_it_can_be_put_right(session: Any) -> None:
    """As it is asked for, and by the corrections of what a provider shows."""
    lock = parse_lock(
        {
            "instructions": "x",
            "tools": [LOOKUP],
            "max_output_tokens": {"min": 10, "max": 1024},
            "audio": {
                "input": {"turn_detection": {"one_of": [SERVER_VAD, {"type": "semantic_vad"}]}},
                "output": {"voice": "marin", "speed": {"max": 1.2}},
            },
        }
    )
    assert lock.corrections(lock.held(session)) == {}
    corrected = as_session(lock.corrections(session))
    for member in lock.corrections(session):
        assert member not in lock.corrections(corrected)


def test_what_is_asked_for_is_as_the_lock_wants_it() -> None:
    """What has one value is written out; of the caller's, only what may stay does."""
    lock = parse_lock({"tools": [], "instructions": "x", **hearing(SERVER_VAD)})
    wanted = {
        "instructions": "y",
        "prompt": {"id": "pmpt_1"},
        "output_modalities": ["text"],
        "audio": {
            "input": {"turn_detection": {"silence_duration_ms": 1}, "noise_reduction": None},
            "output": {"voice": "alloy"},
        },
    }
    assert lock.held(wanted) == {
        "instructions": "x",
        "tools": [],
        "prompt": None,
        "output_modalities": ["text"],
        "audio": {
            "input": {"turn_detection": {"type": "server_vad"}, "noise_reduction": None},
            "output": {"voice": "alloy"},
        },
    }
    assert wanted["instructions"] == "y"
    assert lock.held({})["tools"] == []
    assert lock.held({"type": "transcription"}) == {"type": "transcription"}


def test_two_locks_hold_together() -> None:
    """Where both name a member, the left one's word holds."""
    both = parse_lock({"instructions": "x"}) | parse_lock({"instructions": "y", "tools": []})
    assert both == parse_lock({"instructions": "x", "tools": []})
    assert not NO_LOCK
    assert not NO_LOCK | NO_LOCK
    assert parse_lock(None) == NO_LOCK == parse_lock_text("")


def test_a_lock_travels_as_text() -> None:
    """What is read is what was written."""
    lock = parse_lock({"instructions": "Grüße", "max_output_tokens": {"max": 9}, **hearing(None)})
    assert parse_lock_text(lock.to_json()) == lock


@pytest.mark.parametrize(
    ("content", "error"),
    [
        # Realistic
        pytest.param({"model": "x"}, "model: cannot be locked", id="model"),
        pytest.param({"audio": {"voice": "marin"}}, "audio: expected `input`, `output`", id="flat"),
        pytest.param(
            {"max_output_tokens": {"max": "inf"}}, "max_output_tokens: expected numbers", id="inf"
        ),
        pytest.param({"max_output_tokens": {"min": 9, "max": 1}}, "in this order", id="order"),
        pytest.param({"voice": {"one_of": []}}, "voice: expected `one_of` alone", id="none-of"),
        pytest.param({"voice": {"one_of": ["a"], "max": 1}}, "voice: expected `one_of`", id="both"),
        pytest.param(
            hearing({"one_of": [{"silence_duration_ms": {"min": None}}]}),
            "one_of.silence_duration_ms: expected numbers",
            id="deep",
        ),
        # Pathological
        pytest.param([], "expected an object", id="list"),
        pytest.param({"audio": {"input": []}}, "audio.input: expected an object", id="audio"),
        pytest.param({"tools": [object()]}, "no form for", id="no-json"),
        pytest.param({"tools": [float("nan")]}, "no form for", id="nan"),
        pytest.param({"tools": {1: 2}}, "expected texts as names", id="numbers-as-names"),
        pytest.param({"instructions": "x" * MAX_LOCK_BYTES}, "shorten it", id="long"),
    ],
)
def test_a_lock_that_cannot_be_held_is_a_mistake(content: Any, error: str) -> None:
    """The text says where and what."""
    with pytest.raises(SessionLockError, match=error):
        parse_lock(content)


def test_a_text_that_is_no_lock_is_refused() -> None:
    """Neither is what nests without end."""
    for text in ("no JSON", "[1]", "[" * 100_000, '{"tools":' + "[" * 50 + "]" * 50 + "}"):
        with pytest.raises(SessionLockError):
            parse_lock_text(text)
