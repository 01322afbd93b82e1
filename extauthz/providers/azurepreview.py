"""Azure OpenAI's preview of WebRTC: sessions at the resource, offers at a regional host.

Deprecated by Microsoft from 2026-04-30 on, and spoken by resources that have not moved. Sessions
are flat, as in OpenAI's retired beta, and refuse the names of the current API.

https://learn.microsoft.com/azure/ai-services/openai/how-to/realtime-audio-webrtc
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from extauthz.deployments import Deployment, Origin
from extauthz.providers import azure, azuredated
from extauthz.providers.base import UpstreamRequest, Verb, json_post, with_query
from ringback.secrets import Secret

CALLS_AUTH_SCHEME: Literal["bearer"] = "bearer"
HAS_WEBRTCFILTER: bool = False
TRANSCRIBES: bool = False
_SESSIONS: Final = "/openai/realtimeapi/sessions"
_CALLS: Final = "/v1/realtimertc"

# The flat name of each member of the current API's session, by its place there.
_FLAT: Final[Mapping[tuple[str, ...], str]] = {
    ("output_modalities",): "modalities",
    ("max_output_tokens",): "max_response_output_tokens",
    ("audio", "input", "format"): "input_audio_format",
    ("audio", "input", "transcription"): "input_audio_transcription",
    ("audio", "input", "noise_reduction"): "input_audio_noise_reduction",
    ("audio", "input", "turn_detection"): "turn_detection",
    ("audio", "output", "format"): "output_audio_format",
    ("audio", "output", "voice"): "voice",
    ("audio", "output", "speed"): "speed",
}
_FORMATS: Final[Mapping[str, str]] = {
    "audio/pcm": "pcm16",
    "audio/pcmu": "g711_ulaw",
    "audio/pcma": "g711_alaw",
}

key_headers = azure.key_headers
websocket_path = azuredated.websocket_path


def mint_request(deployment: Deployment, entra_token: Secret | None = None) -> UpstreamRequest:
    """Return the request for a session; its answer has the key in ``client_secret``."""
    path = with_query(f"{deployment.base_path}{_SESSIONS}", api_version=deployment.api_version)
    return json_post(deployment, path, key_headers(deployment, entra_token))


def mint_body(
    session: Mapping[str, Any], _expires_after: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the session, flat; its key lives for a minute, whatever is asked for."""
    body = {name: value for name, value in session.items() if name not in {"type", "audio"}}
    for place, name in _FLAT.items():
        body.pop(place[0], None)
        value = _at(session, place)
        if value is not None:
            body[name] = _flat_value(name, value)
    return body


def calls_origin(deployment: Deployment) -> Origin:
    """Return the regional host."""
    return deployment.calls_origin or deployment.origin


def calls_path(deployment: Deployment) -> str:
    """Return the path that takes an offer."""
    path = f"{deployment.calls_base_path}{_CALLS}"
    return with_query(path, model=deployment.upstream_model)


def control_path(_deployment: Deployment, _call_id: str, _verb: Verb) -> None:
    """Return None: calls of the preview can be commanded over the data channel alone."""


def sideband_path(_deployment: Deployment, _call_id: str) -> None:
    """Return None: nothing joins a call of the preview."""


def _at(value: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _flat_value(name: str, value: Any) -> Any:
    if name.endswith("_audio_format") and isinstance(value, dict):
        return _FORMATS.get(str(value.get("type")), value)
    if name == "modalities" and value == ["audio"]:
        # The preview speaks only where it may write, too.
        return ["text", "audio"]
    return value
