"""``model_info.ringback``: settings of a deployment that LiteLLM has no word for.

LiteLLM keeps what it does not know of ``model_info`` and does nothing with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from extauthz.apibase import parse_base_url
from extauthz.deployments import DialectName, EntraMethod, Origin
from extauthz.fields import Field
from extauthz.jsontext import JsonError, parse_object
from ringback.sessionlock import NO_LOCK, SessionLock, parse_lock
from ringback.sessionrules import SessionLockError

CredentialKind = Literal["api_key"] | EntraMethod
_CREDENTIALS: Final = ("api_key", *get_args(EntraMethod))
_DIALECTS: Final = get_args(DialectName)
_NAMES: Final = (
    "dialect",
    "calls_base",
    "webrtcfilter",
    "credential",
    "session",
    "session_defaults",
    "session_lock",
)
# Members of a session that have their own place, or another one in the current API.
_ELSEWHERE: Final[Mapping[str, str]] = {
    "model": "the model is litellm_params.model; remove it",
    "type": "callers say what they want; remove it",
    "voice": "write it as audio: {output: {voice: NAME}}",
    "speed": "write it as audio: {output: {speed: NUMBER}}",
    "modalities": "write it as output_modalities",
    "max_response_output_tokens": "write it as max_output_tokens",
    "turn_detection": "write it as audio: {input: {turn_detection: ...}}",
    "input_audio_format": "write it as audio: {input: {format: ...}}",
    "output_audio_format": "write it as audio: {output: {format: ...}}",
    "input_audio_transcription": "write it as audio: {input: {transcription: ...}}",
    "input_audio_noise_reduction": "write it as audio: {input: {noise_reduction: ...}}",
}


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What an entry says; `Deployment` explains each.

    Attributes:
        calls_base: Origin and path that offers go to, in the preview dialect of Azure.
        credential: What opens the upstream; None: what the entry holds.
    """

    dialect: DialectName | None = None
    calls_base: tuple[Origin, str] | None = None
    webrtcfilter: bool = False
    credential: CredentialKind | None = None
    session: Mapping[str, Any] = field(default_factory=dict)
    session_defaults: Mapping[str, Any] = field(default_factory=dict)
    session_lock: SessionLock = NO_LOCK


def parse_own_settings(place: Field) -> OwnSettings:
    """Return the settings of an entry, after noting what is wrong with them.

    Args:
        place: ``model_info.ringback``.
    """
    for name, found in place.entries().items():
        if name not in _NAMES:
            found.problem(f"there is no such setting; there are {', '.join(_NAMES)}")
    return OwnSettings(
        dialect=_one_of(place.child("dialect"), _DIALECTS),
        calls_base=_url(place.child("calls_base")),
        webrtcfilter=place.child("webrtcfilter").flag(),
        credential=_one_of(place.child("credential"), _CREDENTIALS),
        session=_session(place.child("session")),
        session_defaults=_session(place.child("session_defaults")),
        session_lock=parse_session_lock(place.child("session_lock")),
    )


def parse_session_lock(place: Field) -> SessionLock:
    """Return a session lock, after noting what is wrong with it."""
    for name in place.entries().keys() & _ELSEWHERE.keys():
        place.child(name).problem(_ELSEWHERE[name])
    try:
        return parse_lock(place.value)
    except SessionLockError as error:
        place.problem(str(error))
        return NO_LOCK


def _one_of(place: Field, values: tuple[str, ...]) -> Any:
    text = place.text()
    if text is None or text in values:
        return text
    place.problem(f"expected one of {', '.join(values)}")
    return None


def _url(place: Field) -> tuple[Origin, str] | None:
    text = place.text()
    if text is None:
        return None
    try:
        return parse_base_url(text)
    except ValueError as error:
        place.problem(str(error))
        return None


def _session(place: Field) -> Mapping[str, Any]:
    for name, found in place.entries().items():
        if name in _ELSEWHERE:
            found.problem(_ELSEWHERE[name])
    if not isinstance(place.value, dict):
        return {}
    try:
        # What YAML knows and JSON does not, dates for example, could not be sent.
        session: dict[str, Any] = parse_object(json.dumps(place.value).encode())
    except (JsonError, TypeError, ValueError):
        place.problem("holds what JSON has no form for, or nests too deep; put dates in quotes")
        return {}
    return session
