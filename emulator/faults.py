"""Faults on demand: what an operation does wrong, and how often. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from emulator.errors import ApiError

# The preview's own paths count as client_secrets and calls.
OPERATIONS: Final = (
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
# Ways to spoil a good answer, and the operations that they make sense for.
MALFORMATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "garbage": OPERATIONS,  # neither SDP nor JSON; over a socket a message that is no JSON
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


def parse_fault(operation: str, value: object) -> Fault:
    """Return the fault in a JSON value such as ``{"status": 503, "times": 2}``.

    Raises:
        ValueError: If it names what there isn't; the text says what there is.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"expected an operation of {', '.join(OPERATIONS)}")
    known = [field.name for field in fields(Fault)]
    if not isinstance(value, dict) or not value or not set(value) <= set(known):
        raise ValueError(f"{operation}: expected an object with {', '.join(known)}")
    fault = Fault(**value)
    if fault.status is not None and not _is_number(fault.status, int, 200, 599):
        raise ValueError(f"{operation}.status: expected a status from 200 to 599")
    if not _is_number(fault.delay_s, (int, float), 0, 600):
        raise ValueError(f"{operation}.delay_s: expected seconds from 0 to 600")
    if fault.times is not None and not _is_number(fault.times, int, 1, 1_000_000):
        raise ValueError(f"{operation}.times: expected a count from 1")
    fitting = [name for name, where in MALFORMATIONS.items() if operation in where]
    if fault.malformed is not None and fault.malformed not in fitting:
        raise ValueError(f"{operation}.malformed: expected one of {', '.join(fitting)}")
    return fault


def _is_number(
    value: object, kinds: type | tuple[type, ...], lowest: float, highest: float
) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    assert isinstance(value, int | float)  # noqa: S101 - `kinds` are numbers
    return lowest <= value <= highest


def parse_fault_option(text: str) -> tuple[str, Fault]:
    """Return the operation and the fault of ``calls:status=503,times=2``.

    Raises:
        ValueError: Like `parse_fault`.
    """
    operation, _, settings = text.partition(":")
    value: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        name, _, given = setting.partition("=")
        value[name] = given if name == "malformed" else _number(name, given)
    return operation, parse_fault(operation, value)


def _number(name: str, text: str) -> float:
    try:
        return float(text) if name == "delay_s" else int(text)
    except ValueError as exc:
        raise ValueError(f"{name}: expected a number") from exc


class Faults:
    """The faults that are switched on, by operation."""

    def __init__(self, initial: Mapping[str, Fault] | None = None) -> None:
        self._faults = dict(initial or {})

    def switch_on(self, faults: Mapping[str, Fault]) -> None:
        """Switch faults on, in place of earlier ones of the same operations."""
        self._faults.update(faults)

    def clear(self) -> None:
        """Switch every fault off."""
        self._faults.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault that hits the next request of an operation, and count it."""
        fault = self._faults.get(operation)
        if fault is not None and fault.times is not None:
            if fault.times <= 1:
                del self._faults[operation]
            else:
                self._faults[operation] = Fault(
                    fault.status, fault.delay_s, fault.malformed, fault.times - 1
                )
        return fault

    def active(self) -> dict[str, Any]:
        """Return the faults that are on, in the shape that `parse_fault` reads."""
        return {
            operation: {
                field.name: getattr(fault, field.name)
                for field in fields(Fault)
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
