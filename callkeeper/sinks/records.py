"""Charges and events as lines of JSON, for spools. Pure."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from callkeeper.callevents import CallEvent
from callkeeper.model import Call, Charge, Payer, Tokens, Usage


class BadRecordError(Exception):
    """A line that is no record."""

    def __str__(self) -> str:
        return "not a record of this version"


class Record(Protocol):
    """What sinks take."""

    @property
    def kind(self) -> str:
        """What the log calls one."""

    @property
    def at(self) -> float:
        """When it happened, in seconds since 1970."""

    @property
    def cost_microdollars(self) -> int:
        """What is lost with it."""

    @property
    def facts(self) -> dict[str, object]:
        """What the log says of one that is lost."""


R = TypeVar("R", bound=Record)


def to_object(charge: Charge) -> dict[str, Any]:
    """Return a charge with the names of the model's attributes."""
    return asdict(charge)


def encode(charge: Charge) -> bytes:
    """Return one line, its end included."""
    return _line(to_object(charge))


def decode(line: bytes) -> Charge:
    """Return the charge of a line.

    Raises:
        BadRecordError: If it is none.
    """
    try:
        found = json.loads(line)
        usage = found["usage"]
        return Charge(
            _call(found["call"]),
            Usage(**{**usage, "tokens": Tokens(**usage["tokens"])}),
            int(found["cost_microdollars"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError from error


def encode_event(event: CallEvent) -> bytes:
    """Return one line, its end included."""
    return _line(asdict(event))


def decode_event(line: bytes) -> CallEvent:
    """Return the event of a line.

    Raises:
        BadRecordError: If it is none.
    """
    try:
        found = json.loads(line)
        call, tokens = _call(found["call"]), Tokens(**found["tokens"])
        return CallEvent(**{**found, "call": call, "tokens": tokens})
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError from error


@dataclass(frozen=True, slots=True)
class Codec(Generic[R]):
    """How a kind of records is written.

    Attributes:
        encode: Returns a record's line.
        decode: Returns a line's record, or raises `BadRecordError`.
    """

    encode: Callable[[R], bytes]
    decode: Callable[[bytes], R]


CHARGES: Final = Codec(encode, decode)
EVENTS: Final = Codec(encode_event, decode_event)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _call(found: dict[str, Any]) -> Call:
    return Call(**{**found, "payer": Payer(**found["payer"])})
