"""Bodies of ``transcription_sessions``: the retired API's, as the current one has them, and back.

OpenAI: POST /v1/realtime/transcription_sessions of the API reference. Providers answer 404 there by
now; the same session comes from ``client_secrets`` with the type ``transcription``. Sessions of
the retired API are flat; those of the current one are nested.
"""

from collections.abc import Mapping
from typing import Any, Final

from extauthz.jsontext import JsonError, parse_object, serialize_object
from extauthz.mintbody import TRANSCRIPTION, InvalidBodyError, MintRequest, parse_content

# Where the current API has the members of the retired one, below ``audio.input``.
_INPUT: Final[Mapping[str, str]] = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_FORMATS: Final[Mapping[str, Mapping[str, Any]]] = {
    "pcm16": {"type": "audio/pcm", "rate": 24000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
_FORMAT_NAMES: Final = {str(value["type"]): name for name, value in _FORMATS.items()}
# Said by the path, or by what every transcription is.
_IGNORED: Final = frozenset({"type", "modalities"})
_MEMBERS: Final = frozenset({*_INPUT, "include", "model", "expires_after", "client_secret"})
_KEPT: Final = ("id", "include")


def parse_transcription_request(body: bytes) -> MintRequest:
    """Parse the body of a downstream's request.

    Besides what the retired API had, ``model`` and ``expires_after`` may stand at the root, as in
    ``client_secrets``.

    Raises:
        InvalidBodyError: If a member is unknown or wrong, or no model is named; then 400 and
            nothing upstream.
    """
    try:
        content = parse_object(body) if body.strip() else {}
    except JsonError as error:
        raise InvalidBodyError(None, f"{error}.") from error
    unknown = next((name for name in content if name not in _MEMBERS | _IGNORED), None)
    if unknown is not None:
        raise InvalidBodyError(
            unknown[:64] if unknown.isprintable() else None,
            "there is no such parameter. POST /v1/realtime/client_secrets takes sessions of the "
            "current API.",
        )
    given = {new: content[old] for old, new in _INPUT.items() if content.get(old) is not None}
    if "format" in given:
        given["format"] = _format(given["format"])
    session: dict[str, Any] = {"type": TRANSCRIPTION, "audio": {"input": given}}
    if content.get("include") is not None:
        session["include"] = content["include"]
    expires_after = content.get("expires_after", _nested_expiry(content.get("client_secret")))
    return parse_content(
        {"model": content.get("model"), "session": session, "expires_after": expires_after}
    )


def transcription_answer(body: bytes) -> bytes:
    """Return the answer of the retired API: a flat session with the token in ``client_secret``.

    Args:
        body: Our answer to ``client_secrets``, which holds no key of a provider.
    """
    answer = parse_object(body)
    session = answer.get("session")
    session = session if isinstance(session, dict) else {}
    audio = session.get("audio")
    given = audio.get("input") if isinstance(audio, dict) else None
    given = given if isinstance(given, dict) else {}
    flat = {old: given[new] for old, new in _INPUT.items() if new in given}
    if isinstance(form := flat.get("input_audio_format"), dict):
        flat["input_audio_format"] = _FORMAT_NAMES.get(str(form.get("type")), form)
    return serialize_object(
        {
            "object": "realtime.transcription_session",
            **{name: session[name] for name in _KEPT if name in session},
            **flat,
            "client_secret": answer["client_secret"],
        }
    )


def _format(value: Any) -> Any:
    form = _FORMATS.get(value) if isinstance(value, str) else None
    if form is None:
        raise InvalidBodyError("input_audio_format", f"must be one of {', '.join(_FORMATS)}.")
    return dict(form)


def _nested_expiry(secret: Any) -> Any:
    return secret.get("expires_after") if isinstance(secret, Mapping) else None
