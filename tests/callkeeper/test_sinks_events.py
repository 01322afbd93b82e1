"""What a webhook and a collector are told of calls."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from callkeeper import calls
from callkeeper.callevents import CallEvent, event_of_charge, event_of_state, to_data
from callkeeper.calls import Limits, Reason
from callkeeper.model import Payer, Tokens
from callkeeper.sinks.records import EVENTS, BadRecordError
from callkeeper.sinks.writer import Writer
from callkeeper.sinks.writers import SinkUnusableError, open_event_writers
from helpers.charges import charge
from helpers.waiting import until
from helpers.webhooks import SECRET, Receiver, receiver
from ringback.secrets import Secret
from ringback.settings import Settings, SupervisionSettings

PAYER = Payer("ab" * 32, "voice", "red", "user")
LIMITS = Limits(is_required=False, attach_s=20, unattached_s=20, max_duration_s=60)
USED = Tokens(text_in=3, audio_out=40)


def call_id(number: int) -> str:
    """Return the id of a call."""
    return f"{number:032x}"


def usage_of(number: int, usage: str = "resp_1") -> CallEvent:
    """Return what a call has used."""
    return event_of_charge(charge(PAYER, usage, USED, call_id(number)))


def end_of(number: int, reason: Reason = Reason.MAX_DURATION) -> CallEvent:
    """Return the end of a call."""
    one = charge(PAYER, "resp_1", USED, call_id(number))
    state = calls.opened(LIMITS, 0.0)
    state = calls.charged(state, one.usage.tokens, one.cost_microdollars)
    state = calls.ended(calls.ending(state, reason))
    return event_of_state("call.ended", one.call, state, one.call.opened_at + 61.5)


def settings(**supervision: Any) -> Settings:
    """Return settings with these of supervision."""
    return Settings(supervision=SupervisionSettings(mode="required", **supervision))


def webhook(url: str, secret: str | None = SECRET) -> dict[str, Any]:
    """Return the settings of a webhook."""
    return {"url": url, "secret": Secret(secret) if secret is not None else None}


def open_writer(found: Receiver, **more: Any) -> Writer[CallEvent]:
    """Return the one writer for a webhook."""
    (writer,) = open_event_writers(settings(webhook=webhook(f"{found.url}/hook"), **more))
    return writer


@pytest.fixture
async def told() -> AsyncIterator[Receiver]:
    """Somebody who is told."""
    async with receiver() as found:
        yield found


async def put(writer: Writer[CallEvent], *events: CallEvent) -> None:
    """Tell events, and let the writer end."""
    writer.start()
    for event in events:
        assert writer.put(event)
    await until(lambda: writer.counts.written + writer.counts.refused == len(events))
    await writer.stop()


async def test_a_webhook_is_told_in_the_order_of_a_call(told: Receiver) -> None:
    """Who pays, what was used, why it ended, under signatures that the receiver checks."""
    await put(open_writer(told), usage_of(1), usage_of(1, "resp_2"), end_of(1), end_of(2))
    of_first = [event["type"] for event in told.events if event["data"]["call"] == call_id(1)]
    assert of_first == ["call.usage", "call.usage", "call.ended"]
    used, _ = told.named("call.usage")
    assert used["usage_id"] == "resp_1"
    assert (used["team_id"], used["audio_out"], used["text_in"]) == ("red", 40, 3)
    assert used["cost_microdollars"] > 0
    ended = told.named("call.ended")[0]
    assert (ended["reason"], ended["duration_s"]) == ("max_duration", 61.5)
    assert ended["cost_microdollars"] == used["cost_microdollars"]
    assert len(set(told.attempts)) == len(told.attempts) == 4


@pytest.mark.parametrize("status", [503, 401, 302])
async def test_what_is_not_taken_comes_again_under_the_same_id(told: Receiver, status: int) -> None:
    """A receiver that is away for a time gets everything, and knows again what it had."""
    told.statuses.extend([status, status])
    await put(open_writer(told), usage_of(1), end_of(1))
    assert len(told.events) == 2
    assert len(set(told.attempts)) == 2 < len(told.attempts)


async def test_what_is_refused_holds_up_nobody(told: Receiver) -> None:
    """One event that the receiver cannot make sense of is logged, and the others come."""
    told.refused.add(call_id(1))
    with capture_logs() as log:
        writer = open_writer(told)
        await put(writer, end_of(1), end_of(2), end_of(3))
    assert writer.counts.refused == 1
    assert {event["data"]["call"] for event in told.events} == {call_id(2), call_id(3)}
    (line,) = [line for line in log if line["event"] == "event_refused"]
    assert (line["call"], line["name"]) == (call_id(1), "call.ended")


async def test_events_outlive_the_process(told: Receiver, tmp_path: Path) -> None:
    """What a webhook did not take is on disk, and the next process brings it."""
    told.statuses.extend([503] * 1000)
    writer = open_writer(told, spool_folder=tmp_path)
    writer.start()
    writer.put(usage_of(1))
    writer.put(end_of(1))
    await until(lambda: writer.state == "behind")
    await writer.stop()
    assert writer.counts.lost == 0
    told.statuses.clear()
    writer = open_writer(told, spool_folder=tmp_path)
    writer.start()
    await until(lambda: len(told.events) == 2)
    await writer.stop()
    assert writer.spooled_bytes == 0


async def test_a_webhook_that_hangs_is_given_up_on() -> None:
    """It has its time, and calls wait for nobody: to tell one takes no time here."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # To the end of the connection.
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    (writer,) = open_event_writers(settings(webhook={**webhook(url), "timeout_s": 0.2}))
    writer.start()
    began = time.monotonic()
    writer.put(end_of(1))
    assert time.monotonic() - began < 0.05
    await until(lambda: writer.state == "behind")
    await writer.stop()
    server.close()
    await server.wait_closed()


async def test_a_collector_gets_log_records(told: Receiver) -> None:
    """Each with its name, its time, and who pays; what was not taken comes again."""
    told.statuses.append(503)
    (writer,) = open_event_writers(settings(collector={"url": f"{told.url}/"}))
    event = end_of(1)
    await put(writer, usage_of(1), event)
    assert [record.event_name for record in told.records] == [
        "ringback.call.usage",
        "ringback.call.ended",
    ]
    record = told.records[1]
    assert (record.severity_text, record.body.string_value) == ("INFO", "call.ended")
    assert abs(record.time_unix_nano / 1e9 - event.at) < 0.001
    found = {item.key: item.value for item in record.attributes}
    assert found["log.record.uid"].string_value == event.id
    assert found["ringback.reason"].string_value == "max_duration"
    assert found["ringback.cost_microdollars"].int_value == event.cost_microdollars
    assert found["ringback.duration_s"].double_value == 61.5
    assert found["ringback.team_id"].string_value == "red"


def test_two_observers_tell_the_same_under_one_id() -> None:
    """The id is made of the call and what happened, so that a receiver counts it once."""
    one, other = usage_of(1), usage_of(1)
    assert one.id == other.id
    assert len({usage_of(1).id, usage_of(2).id, usage_of(1, "resp_2").id, end_of(1).id}) == 4


@pytest.mark.parametrize("event", [usage_of(1), end_of(1)], ids=["usage", "end"])
def test_events_survive_the_spool(event: CallEvent) -> None:
    """A line of the spool is the event again; what is no event is said to be none."""
    assert EVENTS.decode(EVENTS.encode(event)) == event
    assert to_data(event)["call"] == call_id(1)
    for line in (b"{}", b"[]", b"\xff", EVENTS.encode(event)[:-20]):
        with pytest.raises(BadRecordError):
            EVENTS.decode(line)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda _: {"secret": None}, "webhook.secret: expected whsec_", id="none"),
        pytest.param(lambda _: {"secret": Secret("hunter2")}, "webhook.secret", id="weak"),
    ],
)
def test_a_webhook_without_a_good_secret_is_not_started(
    change: Callable[[object], dict[str, Any]], said: str
) -> None:
    """The start stops and says what to do, without the secret."""
    given = {**webhook("https://hooks.example.com/ringback"), **change(None)}
    with pytest.raises(SinkUnusableError, match=said) as caught:
        open_event_writers(settings(webhook=given))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://h/x", "https://", "http://u:p@h/", "h:80", "http://h/#x"])
def test_a_url_is_one(url: str) -> None:
    """Anything else is a mistake when the settings are read."""
    with pytest.raises(ValueError, match="expected http"):
        settings(webhook={"url": url})
