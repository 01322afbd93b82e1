"""Session objects and the bodies that carry them, in the shape of the GA Realtime API.

Pure: no I/O, no clock. The field lists follow OpenAI's OpenAPI document
(``RealtimeSessionCreateRequestGA`` and ``RealtimeTranscriptionSessionCreateRequestGA``); Azure's GA
API has the same shapes.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emulator import errors

Session = dict[str, Any]

MIN_EXPIRES_S: Final = 10
MAX_EXPIRES_S: Final = 7200
DEFAULT_EXPIRES_S: Final = 600
DEFAULT_MODEL: Final = "gpt-realtime"

_REALTIME_FIELDS: Final = frozenset(
    {
        "audio",
        "include",
        "instructions",
        "max_output_tokens",
        "model",
        "output_modalities",
        "parallel_tool_calls",
        "prompt",
        "reasoning",
        "tool_choice",
        "tools",
        "tracing",
        "truncation",
        "type",
    }
)
_TRANSCRIPTION_FIELDS: Final = frozenset({"audio", "include", "type"})
_INPUT_FIELDS: Final = frozenset({"format", "noise_reduction", "transcription", "turn_detection"})
_OUTPUT_FIELDS: Final = frozenset({"format", "speed", "voice"})
# What session.created shows, and a client may therefore send back; the provider owns these.
_READ_ONLY_FIELDS: Final = frozenset({"id", "object", "expires_at"})

_PCM: Final = {"type": "audio/pcm", "rate": 24000}
_TURN_DETECTION_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "server_vad": {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    },
    "semantic_vad": {
        "type": "semantic_vad",
        "eagerness": "auto",
        "create_response": True,
        "interrupt_response": True,
    },
}


@dataclass(frozen=True, slots=True)
class ClientSecretRequest:
    """A checked body of ``POST client_secrets``: the key's lifetime in seconds and its session."""

    expires_s: int
    session: Session


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        ApiError: 400 if it is no JSON or another JSON type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise errors.invalid_json() from exc
    if not isinstance(value, dict):
        raise errors.invalid_json()
    return value


def parse_client_secret_request(body: bytes, *, model_required: bool) -> ClientSecretRequest:
    """Check the body of ``POST client_secrets``.

    ``{"expires_after": {"anchor": "created_at", "seconds": 10..7200}, "session": {"type": ...}}``;
    both fields and the body itself may be absent.

    Args:
        body: JSON, or nothing.
        model_required: Azure wants ``session.type`` and ``session.model``.

    Raises:
        ApiError: 400 in the provider's words.
    """
    root = parse_json_object(body) if body.strip() else {}
    for name in root:
        if name not in {"expires_after", "session"}:
            raise errors.unknown_parameter(name)
    session = root.get("session")
    if session is None:
        if model_required:
            raise errors.missing_parameter("session")
        session = {"type": "realtime"}
    check_session(session)
    if model_required and session["type"] == "realtime" and not session.get("model"):
        raise errors.missing_parameter("session.model")
    return ClientSecretRequest(_parse_expires_after(root.get("expires_after")), session)


def _parse_expires_after(value: object) -> int:
    if value is None:
        return DEFAULT_EXPIRES_S
    if not isinstance(value, dict):
        raise errors.invalid_type("expires_after", "an object")
    for name in value:
        if name not in {"anchor", "seconds"}:
            raise errors.unknown_parameter(f"expires_after.{name}")
    if value.get("anchor", "created_at") != "created_at":
        raise errors.invalid_value("expires_after.anchor", "'created_at'")
    seconds = value.get("seconds", DEFAULT_EXPIRES_S)
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise errors.invalid_type("expires_after.seconds", "an integer")
    if not MIN_EXPIRES_S <= seconds <= MAX_EXPIRES_S:
        raise errors.invalid_value(
            "expires_after.seconds", f"an integer from {MIN_EXPIRES_S} to {MAX_EXPIRES_S}"
        )
    return seconds


def check_session(session: object) -> None:
    """Check the names and the coarse types of a session's fields, as a client sends them.

    Raises:
        ApiError: 400; ``unknown_parameter`` for the flat fields of the retired beta too.
    """
    if not isinstance(session, dict):
        raise errors.invalid_type("session", "an object")
    kind = session.get("type")
    if kind is None:
        raise errors.missing_parameter("session.type")
    if kind not in ("realtime", "transcription"):
        raise errors.invalid_value("session.type", "'realtime' or 'transcription'")
    allowed = _REALTIME_FIELDS if kind == "realtime" else _TRANSCRIPTION_FIELDS
    _check_names(session, allowed | _READ_ONLY_FIELDS, "session")
    audio = _object(session, "audio", "session")
    directions = {"input", "output"} if kind == "realtime" else {"input"}
    _check_names(audio, directions, "session.audio")
    _check_names(_object(audio, "input", "session.audio"), _INPUT_FIELDS, "session.audio.input")
    _check_names(_object(audio, "output", "session.audio"), _OUTPUT_FIELDS, "session.audio.output")
    _check_turn_detection((audio.get("input") or {}).get("turn_detection"))
    if session.get("output_modalities", ["audio"]) not in (["audio"], ["text"]):
        raise errors.invalid_value("session.output_modalities", "['audio'] or ['text']")
    for name, expected in (("model", str), ("instructions", str), ("tools", list)):
        if session.get(name) is not None and not isinstance(session[name], expected):
            raise errors.invalid_type(
                f"session.{name}", "a string" if expected is str else "an array"
            )


def _check_turn_detection(value: object) -> None:
    path = "session.audio.input.turn_detection"
    if value is None:
        return
    if not isinstance(value, dict):
        raise errors.invalid_type(path, "an object")
    if value.get("type") not in tuple(_TURN_DETECTION_DEFAULTS):
        raise errors.invalid_value(f"{path}.type", "'server_vad' or 'semantic_vad'")
    for name in ("prefix_padding_ms", "silence_duration_ms"):
        if not isinstance(value.get(name, 0), int):
            raise errors.invalid_type(f"{path}.{name}", "an integer")


def _object(parent: Mapping[str, Any], name: str, path: str) -> Mapping[str, Any]:
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise errors.invalid_type(f"{path}.{name}", "an object")
    return value


def _check_names(value: Mapping[str, Any], allowed: set[str] | frozenset[str], path: str) -> None:
    for name in value:
        if name not in allowed:
            raise errors.unknown_parameter(f"{path}.{name}")


def make_session(config: Mapping[str, Any], session_id: str, *, expires_at: int) -> Session:
    """Return the full session object for a client's configuration.

    Args:
        config: A session that passed `check_session`.
        session_id: ``sess_...``.
        expires_at: Unix time in seconds; 0 in the answer to ``client_secrets``, as OpenAI sends.
    """
    if config["type"] == "transcription":
        session: Session = {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": session_id,
            "expires_at": expires_at,
            "audio": {"input": _input_defaults()},
            "include": None,
        }
    else:
        session = {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "expires_at": expires_at,
            "model": DEFAULT_MODEL,
            "output_modalities": ["audio"],
            "instructions": "You are a friendly voice of the Ringback emulator.",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": None,
            "truncation": "auto",
            "prompt": None,
            "audio": {
                "input": _input_defaults(),
                "output": {"format": dict(_PCM), "voice": "alloy", "speed": 1.0},
            },
            "include": None,
        }
    return _merge(session, config)


def _input_defaults() -> dict[str, Any]:
    return {
        "format": dict(_PCM),
        "transcription": None,
        "noise_reduction": None,
        "turn_detection": dict(_TURN_DETECTION_DEFAULTS["server_vad"]),
    }


def update_session(session: Session, update: object) -> Session:
    """Return the session after a ``session.update``: only the fields present change.

    The model stays what the call was made with, whatever the update names.

    Raises:
        ApiError: If `check_session` refuses the update, or it changes the session's type.
    """
    check_session(update)
    assert isinstance(update, dict)  # noqa: S101 - checked above
    if update["type"] != session["type"]:
        raise errors.invalid_value("session.type", f"'{session['type']}'")
    return _merge(session, {name: value for name, value in update.items() if name != "model"})


def _merge(session: Session, update: Mapping[str, Any]) -> Session:
    merged = copy.deepcopy(session)
    for name, value in update.items():
        if name not in _READ_ONLY_FIELDS and name != "audio":
            merged[name] = copy.deepcopy(value)
    for direction, fields in (update.get("audio") or {}).items():
        merged["audio"][direction].update(copy.deepcopy(fields or {}))
    _complete_turn_detection(merged["audio"]["input"])
    return merged


def _complete_turn_detection(audio_input: dict[str, Any]) -> None:
    given = audio_input["turn_detection"]
    if given is not None:
        audio_input["turn_detection"] = {**_TURN_DETECTION_DEFAULTS[given["type"]], **given}
