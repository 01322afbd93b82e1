"""What a call is billed: the usage in its events, as faults want it. Pure."""

from collections import deque
from typing import Any, Final

from emulator.faults import Faults
from emulator.responses import Event
from emulator.usage import BILLED, spoil_usage

_BILLS_KEPT: Final = 1000


class Meter:
    """Alters the usage in events as faults say, and keeps the last thousand of what they said.

    Args:
        faults: Of the emulator.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._bills: deque[dict[str, Any]] = deque(maxlen=_BILLS_KEPT)

    def settle(self, event: Event) -> Event:
        """Return an event with the usage that it shall have."""
        part = BILLED.get(event["type"])
        if part is None:
            return event
        is_response = part == "response"
        holder = event["response"] if is_response else event
        said = self._faults.take_usage(part)
        if said is not None:
            holder = {**holder, "usage": spoil_usage(said, holder["usage"])}
            event = {**event, "response": holder} if is_response else holder
        billed = holder["id"] if is_response else event["item_id"]
        self._bills.append({"kind": part, "id": billed, "usage": holder["usage"]})
        return event

    def bills(self) -> list[dict[str, Any]]:
        """Return what has been billed: ``kind``, the id of the response or item, ``usage``."""
        return list(self._bills)
