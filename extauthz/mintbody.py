"""Bodies of ``client_secrets``: what callers may send, what goes upstream, what comes back.

OpenAI: POST /v1/realtime/client_secrets of the API reference. Azure takes the same body, with the
name of the deployment as ``session.model``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ringback.errors import ApiError
from ringback.secrets import Secret
from ringback.upstream import UpstreamFailedError

# Providers' limits of expires_after.seconds.
MIN_EXPIRES_S: Final = 10
MAX_EXPIRES_S: Final = 7200
_MAX_DEPTH: Final = 32
_MEMBERS: Final = frozenset({"model", "session", "expires_after"})
_SESSION_TYPES: Final = frozenset({"realtime"})


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
    """

    model: str | None
    session: Mapping[str, Any]
    expires_after: Mapping[str, Any] | None

    @property
    def session_type(self) -> str:
        """``realtime``; other types come with their own endpoints."""
        session_type: str = self.session.get("type", "realtime")
        return session_type

    def upstream_body(self, upstream_model: str) -> bytes:
        """Return the body for the provider.

        Args:
            upstream_model: The model's name there.
        """
        session = {"type": self.session_type, **self.session, "model": upstream_model}
        body: dict[str, Any] = {"session": session}
        if self.expires_after is not None:
            body["expires_after"] = self.expires_after
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


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
    fields: Mapping[str, Any]

    def downstream_body(self, token: str, expires_at: int) -> bytes:
        """Return the provider's answer with the sealed token in place of the ephemeral key.

        ``value`` is where the current API has it, ``client_secret.value`` where the retired one
        had it and much client code still looks.

        Args:
            token: The sealed token.
            expires_at: When the token expires, in seconds since the epoch.
        """
        body = {
            **self.fields,
            "value": token,
            "expires_at": expires_at,
            "client_secret": {"value": token, "expires_at": expires_at},
        }
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        # Wherever else a provider may put it: it does not leave.
        return text.replace(self.ephemeral_key.reveal(), token).encode()


def parse_mint_request(body: bytes) -> MintRequest:
    """Parse the body of a downstream's request; an empty one asks for the defaults.

    Raises:
        InvalidBodyError: If a member is unknown or wrong; then 400 and nothing upstream.
    """
    content = _parse_object(body) if body.strip() else {}
    for name in content.keys() - _MEMBERS:
        raise InvalidBodyError(
            _printable(name), "there is no such parameter. Session settings belong into `session`."
        )
    session = dict(_object(content, "session"))
    root_model, session_model = _model(content, "model"), _model(session, "session.model")
    if root_model and session_model and root_model != session_model:
        raise InvalidBodyError(
            "session.model", "differs from `model`. Name the model once, in `session.model`."
        )
    session.pop("model", None)
    if session.get("type", "realtime") not in _SESSION_TYPES:
        raise InvalidBodyError("session.type", 'only "realtime" is served.')
    return MintRequest(session_model or root_model, session, _expires_after(content))


def parse_minted(body: bytes) -> Minted:
    """Parse the body of a provider's 2xx.

    Raises:
        UpstreamFailedError: If there is no usable ephemeral key in it: 502.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise UpstreamFailedError from None
    if not isinstance(fields, dict):
        raise UpstreamFailedError
    nested = fields.get("client_secret")
    source = fields if "value" in fields or not isinstance(nested, dict) else nested
    value, expires_at = source.get("value"), source.get("expires_at")
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or not value.isascii():
        raise UpstreamFailedError
    if not value.isprintable() or " " in value:
        raise UpstreamFailedError
    if type(expires_at) is not int or expires_at <= 0:
        expires_at = None
    return Minted(Secret(value), expires_at, fields)


def _parse_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body, object_pairs_hook=_unique_members)
    except _RepeatedMemberError as error:
        raise InvalidBodyError(None, "a member occurs twice. Send each once.") from error
    except RecursionError:
        raise InvalidBodyError(None, "is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidBodyError(None, "is not UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidBodyError(None, f"is not JSON: {error.msg} at {place}.") from None
    if not isinstance(content, dict):
        raise InvalidBodyError(None, 'is not an object. Send {"session":{"model":"..."}}.')
    if _depth(content) > _MAX_DEPTH:
        raise InvalidBodyError(None, f"is nested deeper than {_MAX_DEPTH} levels.")
    return content


class _RepeatedMemberError(ValueError):
    """A JSON object with two members of one name means different things to different readers."""


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RepeatedMemberError
    return members


def _depth(value: object) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo:
        item, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            todo += [(member, depth + 1) for member in item.values()]
        elif isinstance(item, list):
            todo += [(member, depth + 1) for member in item]
    return deepest


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


def _expires_after(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    value = content.get("expires_after")
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("anchor", "created_at") != "created_at":
        raise InvalidBodyError(
            "expires_after", 'must be {"anchor":"created_at","seconds":<10 to 7200>}.'
        )
    seconds = value.get("seconds")
    if value.keys() - {"anchor", "seconds"} or type(seconds) is not int:
        raise InvalidBodyError(
            "expires_after", 'must be {"anchor":"created_at","seconds":<10 to 7200>}.'
        )
    if not MIN_EXPIRES_S <= seconds <= MAX_EXPIRES_S:
        raise InvalidBodyError(
            "expires_after.seconds", f"must be from {MIN_EXPIRES_S} to {MAX_EXPIRES_S}."
        )
    return {"anchor": "created_at", "seconds": seconds}


def _printable(name: str) -> str:
    return name[:64] if name.isprintable() else "A parameter"
