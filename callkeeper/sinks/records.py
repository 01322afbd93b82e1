"""Charges as lines of JSON, for spools and webhooks. Pure."""

import json
from dataclasses import asdict
from typing import Any

from callkeeper.model import Call, Charge, Payer, Tokens, Usage


class BadRecordError(Exception):
    """A line that is no charge."""

    def __str__(self) -> str:
        return "not a charge of this version"


def to_object(charge: Charge) -> dict[str, Any]:
    """Return a charge with the names of the model's attributes."""
    return asdict(charge)


def encode(charge: Charge) -> bytes:
    """Return one line, its end included."""
    return json.dumps(to_object(charge), separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Charge:
    """Return the charge of a line.

    Raises:
        BadRecordError: If it is none.
    """
    try:
        found = json.loads(line)
        call, usage = found["call"], found["usage"]
        return Charge(
            Call(**{**call, "payer": Payer(**call["payer"])}),
            Usage(**{**usage, "tokens": Tokens(**usage["tokens"])}),
            int(found["cost_microdollars"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError from error
