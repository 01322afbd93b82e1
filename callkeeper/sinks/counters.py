"""What sinks count."""

from typing import Final

from prometheus_client import Counter, Gauge

SINK_CHARGES: Final = Counter(
    "ringback_sink_charges", "Charges and events, by what became of them", ["sink", "result"]
)
SINK_FAILURES: Final = Counter(
    "ringback_sink_failures",
    "Batches that a sink could not take; they are tried again",
    ["sink"],
)
SINK_LAG: Final = Gauge(
    "ringback_sink_lag_seconds",
    "Age of the oldest charge or event that a sink has not taken",
    ["sink"],
)
SPOOL_BYTES: Final = Gauge("ringback_spool_bytes", "What waits on disk for a sink", ["sink"])
