"""Tells an OpenTelemetry collector what happens to calls: log records, OTLP over HTTP in JSON.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from callkeeper.callevents import CallEvent, to_data
from callkeeper.sinks.posting import Poster
from ringback import __version__

PATH: Final = "/v1/logs"

# SEVERITY_NUMBER_INFO
_INFO: Final = 9
_PREFIX: Final = "ringback."


class OtlpSink:
    """Sends events as log records.

    Args:
        poster: Sends.
    """

    name: Final = "otlp"

    def __init__(self, poster: Poster) -> None:
        self._poster = poster

    async def write(self, records: Sequence[CallEvent]) -> None:
        """See `Sink`; ``log.record.uid`` is the same when one comes again."""
        await self._poster.post(to_request(records, time.time()), {})

    async def close(self) -> None:
        """See `Sink`."""
        await self._poster.close()


def to_request(events: Sequence[CallEvent], now: float) -> bytes:
    """Return an ``ExportLogsServiceRequest``.

    Args:
        events: In the order in which they happened.
        now: In seconds since 1970.
    """
    scope = {"name": "ringback.callkeeper", "version": __version__}
    records = [_record(event, now) for event in events]
    resource = {"attributes": _attributes({"service.name": "callkeeper"})}
    logs = {"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": records}]}
    return json.dumps({"resourceLogs": [logs]}, separators=(",", ":")).encode()


def _record(event: CallEvent, now: float) -> dict[str, Any]:
    own = {f"{_PREFIX}{name}": value for name, value in to_data(event).items()}
    return {
        "timeUnixNano": _nanoseconds(event.at),
        "observedTimeUnixNano": _nanoseconds(now),
        "severityNumber": _INFO,
        "severityText": "INFO",
        "eventName": f"{_PREFIX}{event.name}",
        "body": {"stringValue": event.name},
        "attributes": _attributes({"log.record.uid": event.id, **own}),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case int():
            # 64 bits are a string in the JSON form of protobuf.
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": str(value)}


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)
