"""Tells a webhook what happens to calls, signed as Standard Webhooks has it."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from callkeeper.callevents import CallEvent, to_data, to_time
from callkeeper.sinks.posting import Poster
from callkeeper.sinks.signing import signed_headers


class WebhookSink:
    """Posts events one by one: those of a call in their order, those of several calls at once.

    Args:
        poster: Sends.
        keys: What messages are signed with.
    """

    name: Final = "webhook"

    def __init__(self, poster: Poster, keys: Sequence[bytes]) -> None:
        self._poster, self._keys = poster, tuple(keys)

    async def write(self, records: Sequence[CallEvent]) -> None:
        """See `Sink`; what was taken before something failed is sent again, under the same id."""
        of_calls: dict[str, list[CallEvent]] = defaultdict(list)
        for event in records:
            of_calls[event.call.id].append(event)
        done = await asyncio.gather(*map(self._send, of_calls.values()), return_exceptions=True)
        for error in done:
            if error is not None:
                raise error

    async def close(self) -> None:
        """See `Sink`."""
        await self._poster.close()

    async def _send(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            body = to_body(event)
            headers = signed_headers(self._keys, event.id, int(time.time()), body)
            await self._poster.post(body, headers)


def to_body(event: CallEvent) -> bytes:
    """Return what is posted of an event."""
    content = {"type": event.name, "timestamp": to_time(event.at), "data": to_data(event)}
    return json.dumps(content, separators=(",", ":")).encode()
