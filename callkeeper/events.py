"""Reads the events of a sideband that matter here. Pure."""

import json
import re
from typing import Any, Final

from callkeeper.meter import HEEDED
from callkeeper.sessionguard import ERROR

# Cheaper than to parse what is not heeded; json.dumps and JSON.stringify agree but for the space.
_MARK: Final = re.compile(
    r'"type":\s?"(' + "|".join(map(re.escape, sorted(HEEDED | {ERROR}))) + '")'
)


def read_event(text: str) -> dict[str, Any] | None:
    """Return an event that may be heeded; None for others, and for what is no event."""
    if not _MARK.search(text):
        return None
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None
