"""Faults on demand: what an operation does wrong, and how often. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeVar

from emulator.errors import ApiError
from emulator.faultsettings import check_setting
from emulator.usage import BILLED

# The preview's own paths count as client_secrets and calls.
REQUESTS: Final = (
    "client_secrets",
    "calls",
    "hangup",
    "accept",
    "reject",
    "refer",
    "sideband",
    "websocket",
    "entra",
)
# What happens to calls after they are made.
OPERATIONS: Final = (*REQUESTS, "session", "events", "usage")
# Ways to spoil a good answer, and the operations that they make sense for.
MALFORMATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "garbage": REQUESTS,  # neither SDP nor JSON; over a socket a message that is no JSON
    "empty": ("client_secrets", "calls", "entra"),  # no body
    "no_value": ("client_secrets",),  # JSON without the key
    "no_location": ("calls",),  # 200 and an SDP answer, but no Location
}
GARBAGE: Final = "<html>This is neither SDP nor JSON.</html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """What an operation does instead of its work.

    Attributes:
        status: HTTP status; from 400 on with an error body of the provider's shape, below with the
            ordinary body.
        delay_s: Seconds to wait first.
        malformed: One of `MALFORMATIONS`.
        times: How many requests it hits; None for all.
    """

    status: int | None = None
    delay_s: float = 0.0
    malformed: str | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class SidebandFault(Fault):
    """What one who wants to listen in to a call meets.

    Attributes:
        keys: The kind of key that finds the call, ``standard`` or ``ephemeral``; None for both.
        live_after_s: The call is not found until it has been live for so long.
        cut_after_events: The socket is cut after so many events.
        cut_after_s: And after so many seconds.
        cut_code: Close code of the cut; None cuts the connection without a word.
        refuse_s: How long after a cut sidebands of the call are refused.
        refuse_status: With which status; 404 is ``call_id_not_found``.
        lingers: Whether the socket stays open when the call has ended, as has been seen:
            https://github.com/openai/openai-agents-js/issues/684
    """

    keys: str | None = None
    live_after_s: float = 0.0
    cut_after_events: int | None = None
    cut_after_s: float | None = None
    cut_code: int | None = None
    refuse_s: float = 0.0
    refuse_status: int = 503
    lingers: bool = False


@dataclass(frozen=True, slots=True)
class SessionFault:
    """What is wrong with a new call or session over a WebSocket.

    Attributes:
        cap_s: After so many seconds it ends.
        times: How many it hits; None for all.
    """

    cap_s: float | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class EventsFault:
    """How events reach those who listen in; the data channel is spared.

    Attributes:
        kind: The ``type`` of the events; None for those with usage.
        late_s: They come so much later, in front of whoever listens by then, and at the latest when
            the call ends.
        again_s: They come once more, so much later than the first time.
        times: How many events it hits; None for all.
    """

    kind: str | None = None
    late_s: float = 0.0
    again_s: float | None = None
    times: int | None = None


@dataclass(frozen=True, slots=True)
class UsageFault:
    """What events say about usage, instead of what follows from the conversation.

    Attributes:
        response: For ``response.done``: ``zero``, ``null``, ``full`` (every part of it differs from
            0), or the object to say.
        transcription: For transcriptions: ``zero``, ``null``, ``duration`` (seconds instead of
            tokens), or the object to say.
        times: How many events it hits; None for all.
    """

    response: str | dict[str, Any] | None = None
    transcription: str | dict[str, Any] | None = None
    times: int | None = None


AnyFault = Fault | SessionFault | EventsFault | UsageFault
FaultT = TypeVar("FaultT", bound=AnyFault)

_KINDS: Final[Mapping[str, type[AnyFault]]] = {
    "sideband": SidebandFault,
    "session": SessionFault,
    "events": EventsFault,
    "usage": UsageFault,
}


def parse_fault(operation: str, value: object) -> AnyFault:
    """Return the fault in a JSON value such as ``{"status": 503, "times": 2}``.

    Raises:
        ValueError: If it names what there isn't; the text says what there is.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"expected an operation of {', '.join(OPERATIONS)}")
    kind = _KINDS.get(operation, Fault)
    known = [field.name for field in fields(kind)]
    if not isinstance(value, dict) or not value or not set(value) <= set(known):
        raise ValueError(f"{operation}: expected an object with {', '.join(known)}")
    fitting = [name for name, where in MALFORMATIONS.items() if operation in where]
    for name, setting in value.items():
        try:
            check_setting(name, setting, fitting)
        except ValueError as exc:
            raise ValueError(f"{operation}.{name}: {exc}") from exc
    return kind(**value)


def parse_fault_option(text: str) -> tuple[str, AnyFault]:
    """Return the operation and the fault of ``calls:status=503,times=2``.

    Raises:
        ValueError: Like `parse_fault`.
    """
    operation, _, settings = text.partition(":")
    value: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        name, _, given = setting.partition("=")
        value[name] = _constant(given)
    return operation, parse_fault(operation, value)


def _constant(text: str) -> object:
    """Return a number or ``true`` as JSON has them, and everything else as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


class Faults:
    """The faults that are switched on, by operation."""

    def __init__(self, initial: Mapping[str, AnyFault] | None = None) -> None:
        self._faults = dict(initial or {})

    def switch_on(self, faults: Mapping[str, AnyFault]) -> None:
        """Switch faults on, in place of earlier ones of the same operations."""
        self._faults.update(faults)

    def clear(self) -> None:
        """Switch every fault off."""
        self._faults.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault that hits the next request of an operation, and count it."""
        fault = self._faults.get(operation)
        return self._count(operation, fault) if isinstance(fault, Fault) else None

    def take_sideband(self) -> SidebandFault:
        """Return what hits the next sideband, and count it."""
        fault = self.take("sideband")
        return fault if isinstance(fault, SidebandFault) else SidebandFault()

    def take_cap_s(self, usual: float) -> float:
        """Return how many seconds the next call or session may last."""
        fault = self._faults.get("session")
        if not isinstance(fault, SessionFault):
            return usual
        cap_s = self._count("session", fault).cap_s
        return usual if cap_s is None else cap_s

    def take_event(self, kind: str) -> EventsFault:
        """Return how an event of a type reaches those who listen in, and count it."""
        fault = self._faults.get("events")
        if not isinstance(fault, EventsFault):
            return EventsFault()
        is_hit = kind in BILLED if fault.kind is None else kind == fault.kind
        return self._count("events", fault) if is_hit else EventsFault()

    def take_usage(self, part: str) -> str | dict[str, Any] | None:
        """Return what to say about the usage of a ``response`` or ``transcription``; count it."""
        fault = self._faults.get("usage")
        said = getattr(fault, part) if isinstance(fault, UsageFault) else None
        if fault is not None and said is not None:
            self._count("usage", fault)
        return said

    def _count(self, operation: str, fault: FaultT) -> FaultT:
        if fault.times is not None and fault.times > 1:
            self._faults[operation] = replace(fault, times=fault.times - 1)
        elif fault.times is not None:
            del self._faults[operation]
        return fault

    def active(self) -> dict[str, Any]:
        """Return the faults that are on, in the shape that `parse_fault` reads."""
        return {
            operation: {
                field.name: getattr(fault, field.name)
                for field in fields(fault)
                if getattr(fault, field.name) != field.default
            }
            for operation, fault in self._faults.items()
        }


def refusal(status: int) -> ApiError:
    """Return an error of a status in the provider's words."""
    match status:
        case 401:
            return ApiError(status, "Incorrect API key provided.", code="invalid_api_key")
        case 403:
            return ApiError(status, "You are not allowed to use this.", code="forbidden")
        case 404:
            return ApiError(status, "The requested resource was not found.", code="not_found")
        case 429:
            return ApiError(
                status,
                "Rate limit reached. Please try again later.",
                code="rate_limit_exceeded",
                kind="rate_limit_error",
            )
        case _ if status >= 500:
            return ApiError(
                status,
                "The server had an error while processing your request.",
                kind="server_error",
            )
        case _:
            return ApiError(status, "The request is not valid.", code="invalid_request")


def spoil_body(malformed: str, body: bytes) -> bytes:
    """Return what a fault makes of a good body."""
    match malformed:
        case "empty":
            return b""
        case "no_value":
            value = json.loads(body)
            # In the preview it is elsewhere.
            del value["value" if "value" in value else "client_secret"]
            return json.dumps(value).encode()
        case _:
            return GARBAGE.encode()
