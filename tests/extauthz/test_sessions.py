import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.deployments import Deployment, Origin
from extauthz.mintbody import parse_mint_request
from extauthz.sessions import merge, session_for
from helpers.authz import AZURE, OPENAI
from ringback.sessionlock import parse_lock

VOICE = replace(OPENAI, upstream_model="gpt-realtime-up")
SCRIBE = replace(OPENAI, id="d-scribe", model_name="scribe", upstream_model="gpt-transcribe-up")
AZURE_SCRIBE = replace(AZURE, id="d-a1", model_name="scribe", upstream_model="scribe-dep")
ELSEWHERE = replace(
    AZURE_SCRIBE, upstream_model="far-dep", origin=Origin("https", "far.openai.azure.com", 443)
)


def session_of(
    session: dict[str, Any],
    deployment: Deployment = VOICE,
    *serving: Deployment,
) -> dict[str, Any]:
    """Return the session that a deployment receives; ``scribe`` is served by `serving`."""
    wanted = parse_mint_request(json.dumps({"session": session}).encode())
    further = {"scribe": serving} if serving else {}
    return session_for(wanted, deployment, further)


def nested(model: str, **members: Any) -> dict[str, Any]:
    """Return the part of a session that names what transcribes."""
    return {"audio": {"input": {"transcription": {"model": model, **members}}}}


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        # Realistic
        pytest.param({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, id="apart"),
        pytest.param({"a": 1}, {"a": 2}, {"a": 2}, id="second-wins"),
        pytest.param(
            {"audio": {"output": {"voice": "alloy", "speed": 1}}},
            {"audio": {"output": {"voice": "marin"}, "input": {}}},
            {"audio": {"output": {"voice": "marin", "speed": 1}, "input": {}}},
            id="member-by-member",
        ),
        pytest.param({"tools": [1, 2]}, {"tools": [3]}, {"tools": [3]}, id="lists-whole"),
        pytest.param({"tools": [1]}, {"tools": []}, {"tools": []}, id="no-tools"),
        pytest.param(
            {"td": {"type": "server_vad", "threshold": 0.5}},
            {"td": {"type": "semantic_vad"}},
            {"td": {"type": "semantic_vad"}},
            id="another-type",
        ),
        pytest.param(
            {"td": {"type": "server_vad", "threshold": 0.5}},
            {"td": {"type": "server_vad", "silence_duration_ms": 1}},
            {"td": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 1}},
            id="same-type",
        ),
        pytest.param(
            {"td": {"type": "server_vad"}},
            {"td": {"threshold": 0.5}},
            {"td": {"type": "server_vad", "threshold": 0.5}},
            id="no-type",
        ),
        # Synthetic
        pytest.param({"a": {"b": 1}}, {"a": None}, {"a": None}, id="null-wins"),
        pytest.param({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}, id="object-over-number"),
        pytest.param({}, {}, {}, id="nothing"),
    ],
)
def test_objects_merge(
    below: dict[str, Any], above: dict[str, Any], merged: dict[str, Any]
) -> None:
    """Objects become one, member by member; all else is replaced; types do not mix."""
    before = json.dumps([below, above])
    assert merge(below, above) == merged
    assert json.dumps([below, above]) == before


OBJECTS = st.dictionaries(
    st.sampled_from(["type", "a", "b"]),
    st.recursive(
        st.integers() | st.none(),
        lambda inner: st.dictionaries(st.sampled_from(["type", "a", "b"]), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


@given(OBJECTS, OBJECTS)
def test_what_wins_is_all_there(below: dict[str, Any], above: dict[str, Any]) -> None:
    """Merging twice changes nothing more, and nothing with itself changes."""
    assert merge(merge(below, above), above) == merge(below, above)
    assert merge(above, above) == above
    assert merge({}, above) == merge(above, {}) == above


def test_an_operator_fixes_and_suggests() -> None:
    """Defaults give way to the caller's wishes, and those to what the operator fixes."""
    deployment = replace(
        VOICE,
        session_defaults={"instructions": "default", "tool_choice": "none"},
        session={"max_output_tokens": 200, "audio": {"output": {"voice": "marin"}}},
    )
    session = session_of(
        {"instructions": "caller", "max_output_tokens": 4096, "audio": {"output": {"speed": 1.2}}},
        deployment,
    )
    assert session == {
        "type": "realtime",
        "model": "gpt-realtime-up",
        "instructions": "caller",
        "tool_choice": "none",
        "max_output_tokens": 200,
        "audio": {"output": {"speed": 1.2, "voice": "marin"}},
    }


def test_a_lock_beats_everybody() -> None:
    """What the operator fixes besides is no exception; a transcription has nothing to lock."""
    lock = parse_lock({"instructions": "lock", "max_output_tokens": {"max": 100}})
    deployment = replace(VOICE, session={"instructions": "operator"})
    wanted = parse_mint_request(b'{"session": {"instructions": "caller", "tools": []}}')
    assert session_for(wanted, deployment, {}, lock) == {
        "type": "realtime",
        "model": "gpt-realtime-up",
        "instructions": "lock",
        "max_output_tokens": 100,
        "tools": [],
    }
    wanted = parse_mint_request(b'{"session": {"type": "transcription"}, "model": "scribe"}')
    assert "instructions" not in session_for(wanted, SCRIBE, {}, lock)


def test_an_operator_changes_neither_model_nor_type() -> None:
    """The model of the deployment and the caller's type stand, whatever the operator writes."""
    session = session_of({}, replace(VOICE, session={"model": "other", "type": "other"}))
    assert session == {"type": "realtime", "model": "gpt-realtime-up"}


@pytest.mark.parametrize(
    ("deployment", "serving", "name"),
    [
        # Realistic
        pytest.param(VOICE, [SCRIBE], "gpt-transcribe-up", id="openai"),
        pytest.param(VOICE, [AZURE_SCRIBE, SCRIBE], "gpt-transcribe-up", id="same-provider"),
        pytest.param(AZURE, [SCRIBE, ELSEWHERE, AZURE_SCRIBE], "scribe-dep", id="same-resource"),
        pytest.param(AZURE, [SCRIBE, ELSEWHERE], "far-dep", id="another-resource"),
        pytest.param(VOICE, [], "scribe", id="served-by-nobody"),
        # Synthetic
        pytest.param(VOICE, [AZURE_SCRIBE], "scribe", id="another-provider-only"),
    ],
)
def test_who_transcribes_is_resolved(
    deployment: Deployment, serving: list[Deployment], name: str
) -> None:
    """A group's name becomes the upstream's at the same provider; any other name stays."""
    session = session_of(nested("scribe", language="de"), deployment, *serving)
    assert session == {
        "type": "realtime",
        "model": deployment.upstream_model,
        **nested(name, language="de"),
    }


@pytest.mark.parametrize(
    ("session", "transcription"),
    [
        # Realistic
        pytest.param(nested("voice"), {"model": "gpt-realtime-up"}, id="nested"),
        pytest.param({"model": "voice"}, {"model": "gpt-realtime-up"}, id="at-the-session"),
        pytest.param(
            {"model": "voice", **nested("voice", prompt="Names: Ada.")},
            {"model": "gpt-realtime-up", "prompt": "Names: Ada."},
            id="both-the-same",
        ),
        pytest.param(
            {"model": "voice", **nested("scribe")}, {"model": "gpt-transcribe-up"}, id="both"
        ),
    ],
)
def test_transcription_sessions_name_their_model_inside(
    session: dict[str, Any], transcription: dict[str, Any]
) -> None:
    """The model stands where transcription sessions have it, resolved, and nowhere else."""
    made = session_of({"type": "transcription", **session}, VOICE, SCRIBE)
    assert made == {
        "type": "transcription",
        "audio": {"input": {"transcription": transcription}},
    }


def test_transcription_sessions_get_what_they_have() -> None:
    """Of what the operator says only members that such sessions have are used."""
    operator = {
        "instructions": "x",
        "include": ["item.input_audio_transcription.logprobs"],
        "audio": {"input": {"noise_reduction": None}, "output": {"voice": "marin"}},
    }
    deployment = replace(VOICE, session=operator)
    made = session_of({"type": "transcription", "model": "voice"}, deployment)
    assert made == {
        "type": "transcription",
        "include": ["item.input_audio_transcription.logprobs"],
        "audio": {
            "input": {"transcription": {"model": "gpt-realtime-up"}, "noise_reduction": None}
        },
    }
