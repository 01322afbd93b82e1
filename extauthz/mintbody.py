"""Bodies of ``client_secrets``: what callers may send, what goes upstream, what comes back.

OpenAI: POST /v1/realtime/client_secrets of the API reference. Azure takes the same body, with the
name of the deployment as ``session.model``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from extauthz.jsontext import JsonError, parse_object, serialize_object
from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.upstream import UpstreamFailedError

# Providers' limits of expires_after.seconds.
MIN_EXPIRES_S: Final = 10
MAX_EXPIRES_S: Final = 7200
REALTIME: Final = "realtime"
TRANSCRIPTION: Final = "transcription"
_TYPES: Final = (REALTIME, TRANSCRIPTION)
_MEMBERS: Final = frozenset({"model", "session", "expires_after"})
_NESTED: Final = ("audio", "input", "transcription", "model")
_NESTED_PARAM: Final = "session." + ".".join(_NESTED)
# Where the retired API names that model. A dialect that still speaks it would pass it on unseen.
_FLAT: Final = "input_audio_transcription"
_EXPIRES_AFTER: Final = (
    f'must be {{"anchor":"created_at","seconds":<{MIN_EXPIRES_S} to {MAX_EXPIRES_S}>}}.'
)
# A bearer token (RFC 6750 section 2.1), and no word that other text might hold by chance.
_EPHEMERAL_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,4000}={0,8}")


class InvalidBodyError(ApiError):
    """The request body is not what client_secrets takes: 400.

    Args:
        param: Path of the member that is wrong, for example ``session.model``.
        expected: What it should be, and what to do.
    """

    http_status = 400
    type = "invalid_request_error"
    code = "invalid_body"

    def __init__(self, param: str | None, expected: str) -> None:
        self.param = param
        self._expected = expected

    def __str__(self) -> str:
        return f"{self.param or 'The request body'}: {self._expected}"


@dataclass(frozen=True, slots=True)
class MintRequest:
    """What a caller asks for.

    Attributes:
        model: The model group or alias; None if the caller leaves it to us.
        session: The provider's session object without its model.
        expires_after: The provider's object, checked; None if absent.
        page_origin: The only page that may use the token; None for any client.
    """

    model: str | None
    session: Mapping[str, Any]
    expires_after: Mapping[str, Any] | None
    page_origin: str | None = None

    @property
    def session_type(self) -> str:
        """``realtime`` or ``transcription``."""
        session_type: str = self.session.get("type", REALTIME)
        return session_type

    @property
    def transcription_model(self) -> str | None:
        """The model that transcribes what the caller says, by the caller's name for it."""
        value = _at(self.session, _NESTED)
        return value if isinstance(value, str) else None

    @property
    def further_models(self) -> tuple[str, ...]:
        """Names of models beside `model`, which the key must be allowed to use, too."""
        nested = self.transcription_model
        return () if nested is None or nested == self.model else (nested,)

    def expires_within(self, max_lifetime_s: int) -> Mapping[str, Any] | None:
        """Return ``expires_after`` with no more seconds than a token may live, None if absent."""
        if self.expires_after is None or "seconds" not in self.expires_after:
            return self.expires_after
        seconds = min(self.expires_after["seconds"], max_lifetime_s)
        return {**self.expires_after, "seconds": seconds}


@dataclass(frozen=True, slots=True)
class Minted:
    """What a provider answered.

    Attributes:
        ephemeral_key: The ``ek_`` of the provider.
        expires_at: In seconds since the epoch; None if the provider names none.
        fields: The whole answer.
    """

    ephemeral_key: Secret
    expires_at: int | None
    fields: Mapping[str, Any] = field(repr=False)

    def downstream_body(self, token: str, expires_at: int) -> bytes:
        """Return the provider's answer with the sealed token in place of the ephemeral key.

        ``value`` is where the current API has it, ``client_secret.value`` where the retired one
        had it and much client code still looks.

        Args:
            token: The sealed token.
            expires_at: When the token expires, in seconds since the epoch.

        Raises:
            UpstreamFailedError: If the ephemeral key cannot be kept out of it: 502.
        """
        # Wherever else a provider may put the key, it does not leave.
        fields = _replace(self.fields, self.ephemeral_key.reveal(), token)
        if isinstance(session := fields.get("session"), dict):
            # Nor does another one that a provider may put here.
            session.pop("client_secret", None)
        body = serialize_object(
            {
                **fields,
                "value": token,
                "expires_at": expires_at,
                "client_secret": {"value": token, "expires_at": expires_at},
            }
        )
        if self.ephemeral_key.to_bytes() in body:
            raise UpstreamFailedError
        return body


def parse_mint_request(body: bytes) -> MintRequest:
    """Parse the body of a downstream's request; an empty one asks for the defaults.

    Raises:
        InvalidBodyError: If a member is unknown or wrong; then 400 and nothing upstream.
    """
    try:
        content = parse_object(body) if body.strip() else {}
    except JsonError as error:
        raise InvalidBodyError(None, f"{error}.") from error
    unknown = next((name for name in content if name not in _MEMBERS), None)
    if unknown is not None:
        raise InvalidBodyError(
            _printable(unknown),
            "there is no such parameter. Session settings belong into `session`.",
        )
    return parse_content(content)


def parse_session(session: bytes | None, model: str | None) -> MintRequest:
    """Parse what a call with a key says of its session.

    Args:
        session: The form's part ``session``; None if there is none.
        model: The model that the query names; None if it names none.

    Raises:
        InvalidBodyError: If a member is wrong; then 400 and nothing upstream.
    """
    try:
        members = parse_object(session) if session is not None else {}
    except JsonError as error:
        raise InvalidBodyError("session", f"{error}.") from error
    return parse_content({"model": model, "session": members})


def parse_content(content: Mapping[str, Any]) -> MintRequest:
    """Parse a request body that has been read.

    Args:
        content: With ``model``, ``session`` and ``expires_after``, each of which may be absent.

    Raises:
        InvalidBodyError: If a member is wrong; then 400 and nothing upstream.
    """
    session = dict(_object(content, "session"))
    root_model, session_model = _model(content, "model"), _model(session, "session.model")
    if root_model and session_model and root_model != session_model:
        raise InvalidBodyError(
            "session.model", "differs from `model`. Name the model once, in `session.model`."
        )
    session.pop("model", None)
    session_type = session.get("type", REALTIME)
    if session_type not in _TYPES:
        raise InvalidBodyError("session.type", 'must be "realtime" or "transcription".')
    if _FLAT in session:
        raise InvalidBodyError(f"session.{_FLAT}", "write it as `audio.input.transcription`.")
    model = session_model or root_model
    nested = _nested_model(session)
    if session_type == TRANSCRIPTION:
        model = model or nested
        if model is None:
            raise InvalidBodyError(_NESTED_PARAM, "is missing. Name the model that transcribes.")
    return MintRequest(model, session, _expires_after(content))


def parse_minted(body: bytes) -> Minted:
    """Parse the body of a provider's 2xx.

    Raises:
        UpstreamFailedError: If there is no usable ephemeral key in it: 502.
    """
    try:
        fields = parse_object(body)
    except JsonError as error:
        raise UpstreamFailedError from error
    nested = fields.get("client_secret")
    source = fields if "value" in fields or not isinstance(nested, dict) else nested
    value, expires_at = source.get("value"), source.get("expires_at")
    if not isinstance(value, str) or not _EPHEMERAL_KEY.fullmatch(value):
        raise UpstreamFailedError
    if type(expires_at) is not int or expires_at <= 0:
        expires_at = None
    return Minted(Secret(value), expires_at, fields)


def _object(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidBodyError(name, "must be an object.")
    return value


def _model(content: Mapping[str, Any], param: str) -> str | None:
    value = content.get("model")
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 256 or not value.isprintable():
        raise InvalidBodyError(param, "must be the name of a model.")
    return value


def _nested_model(session: Mapping[str, Any]) -> str | None:
    parent = _at(session, _NESTED[:-1])
    return _model(parent, _NESTED_PARAM) if isinstance(parent, Mapping) else None


def _at(value: Any, place: Sequence[str]) -> Any:
    for name in place:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _expires_after(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = content.get("expires_after")
    if value is None:
        return None
    if (
        not isinstance(value, dict)
        or value.keys() - {"anchor", "seconds"}
        or value.get("anchor", "created_at") != "created_at"
    ):
        raise InvalidBodyError("expires_after", _EXPIRES_AFTER)
    # Not isinstance: true is an int too.
    seconds = value.get("seconds", MAX_EXPIRES_S)
    if type(seconds) is not int or not MIN_EXPIRES_S <= seconds <= MAX_EXPIRES_S:
        raise InvalidBodyError("expires_after.seconds", _EXPIRES_AFTER)
    return {"anchor": "created_at", **value}


def _replace(value: Any, old: str, new: str) -> Any:
    """Return a JSON value in which no name and no text holds `old`."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [_replace(item, old, new) for item in value]
    if isinstance(value, dict):
        return {
            name.replace(old, new): _replace(member, old, new) for name, member in value.items()
        }
    return value


def _printable(name: str) -> str:
    return name[:64] if name.isprintable() else "A parameter"
