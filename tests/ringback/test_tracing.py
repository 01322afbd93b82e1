import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from helpers.collector import Collector
from ringback import tracing
from ringback.settings import TracingSettings
from ringback.tracing import TracingMissingError
from ringback.upstream import UpstreamFailedError

ABOVE = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    """Let no test trace what another one does."""
    yield
    tracing.stop()


def test_off_there_is_nothing() -> None:
    """Without an endpoint nothing is loaded, asked or sent."""
    tracing.start(TracingSettings(), "test")
    with tracing.served("a", lambda: pytest.fail("asked for metadata")), tracing.span("b", c="d"):
        assert tracing.headers() == {}
    loaded = "import ringback.tracing, sys; print('opentelemetry' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without the extra ends the start with what to install."""
    monkeypatch.setitem(sys.modules, "ringback.otel", None)
    with pytest.raises(TracingMissingError, match=r"ringback\[otel\]"):
        tracing.start(TracingSettings(endpoint="http://127.0.0.1:4317"), "test")


async def test_spans_stand_below_each_other() -> None:
    """What is done within a request of a trace is sent below it, errors by their codes."""
    async with Collector() as collector:
        tracing.start(TracingSettings(endpoint=collector.url), "test")
        with (
            suppress(UpstreamFailedError),
            tracing.served("outer", lambda: [("x", "y"), ("traceparent", ABOVE)]),
            tracing.span("inner", deployment="voice-1"),
        ):
            (context,) = tracing.headers().values()
            raise UpstreamFailedError
        inner, outer = await collector.trace("1" * 32, "inner", "outer")
    assert context == f"00-{'1' * 32}-{inner.span_id}-01"
    assert (outer.parent_id, inner.parent_id) == ("2" * 16, outer.span_id)
    assert inner.attributes == {"deployment": "voice-1", "error.type": "upstream_failed"}
    assert inner.is_error
    assert inner.service == "test"


@pytest.mark.parametrize("above", [None, "", "nonsense", ABOVE.removesuffix("1") + "0"])
async def test_without_a_trace_nothing_is_sent(above: str | None) -> None:
    """A request that Envoy does not trace makes no span, whatever is done for it."""
    async with Collector() as collector:
        tracing.start(TracingSettings(endpoint=collector.url), "test")
        metadata = [] if above is None else [("traceparent", above)]
        with tracing.served("outer", lambda: metadata), tracing.span("inner"):
            pass
        tracing.stop()
        assert collector.spans() == []


@pytest.mark.parametrize(
    "endpoint",
    ["collector:4317", "http://collector", "ftp://a:1", "http://a:1/v1/traces", "http://u:p@a:1"],
)
def test_an_endpoint_is_an_origin(endpoint: str) -> None:
    """Anything but scheme, host and port is a mistake of the settings."""
    with pytest.raises(ValueError, match="expected http://host:port"):
        TracingSettings(endpoint=endpoint)
