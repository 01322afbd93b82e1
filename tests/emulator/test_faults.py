import json
from typing import Any

import pytest

from emulator.faults import (
    GARBAGE,
    AnyFault,
    EventsFault,
    Fault,
    Faults,
    SessionFault,
    SidebandFault,
    UsageFault,
    parse_fault,
    parse_fault_option,
    refusal,
    spoil_body,
)


@pytest.mark.parametrize(
    ("text", "operation", "fault"),
    [
        # Realistic
        pytest.param("calls:status=503,times=2", "calls", Fault(503, times=2), id="twice-503"),
        pytest.param("hangup:delay_s=0.5", "hangup", Fault(delay_s=0.5), id="slow"),
        pytest.param("websocket:status=503", "websocket", Fault(503), id="socket"),
        pytest.param(
            "client_secrets:malformed=no_value",
            "client_secrets",
            Fault(malformed="no_value"),
            id="m",
        ),
        pytest.param(
            "sideband:keys=ephemeral,cut_after_s=1.5,cut_code=1011,times=1",
            "sideband",
            SidebandFault(keys="ephemeral", cut_after_s=1.5, cut_code=1011, times=1),
            id="sideband",
        ),
        pytest.param("sideband:lingers=true", "sideband", SidebandFault(lingers=True), id="true"),
        pytest.param("session:cap_s=5", "session", SessionFault(5), id="session"),
        pytest.param("events:again_s=0", "events", EventsFault(again_s=0), id="events"),
        pytest.param("usage:response=full", "usage", UsageFault("full"), id="usage"),
    ],
)
def test_fault_options_are_read(text: str, operation: str, fault: AnyFault) -> None:
    """The command line says the same as the JSON endpoint."""
    assert parse_fault_option(text) == (operation, fault)


@pytest.mark.parametrize(
    ("operation", "value", "message"),
    [
        pytest.param("mint", {"status": 500}, "operation of client_secrets", id="operation"),
        pytest.param("calls", {}, "expected an object", id="empty"),
        pytest.param("calls", {"stauts": 500}, "expected an object", id="unknown-setting"),
        pytest.param("calls", {"status": 99}, "200 to 599", id="status-too-low"),
        pytest.param("calls", {"status": "500"}, "200 to 599", id="status-text"),
        pytest.param("calls", {"status": True}, "200 to 599", id="status-true"),
        pytest.param("calls", {"delay_s": -1}, "seconds", id="negative-delay"),
        pytest.param("calls", {"times": 0}, "count", id="zero-times"),
        pytest.param("calls", {"malformed": "no_value"}, "no_location", id="wrong-malformation"),
        pytest.param("calls", {"malformed": []}, "no_location", id="malformation-array"),
        pytest.param("calls", {"keys": "standard"}, "expected an object", id="of-sidebands"),
        pytest.param("sideband", {"keys": "both"}, "standard, ephemeral", id="keys"),
        pytest.param("sideband", {"cut_code": 1006}, "close code", id="reserved-close-code"),
        pytest.param("sideband", {"cut_after_events": True}, "count", id="true-events"),
        pytest.param("sideband", {"lingers": 1}, "true or false", id="lingers-1"),
        pytest.param("sideband", {"cut_after_s": None}, "seconds", id="null-seconds"),
        pytest.param("session", {"cap_s": 601}, "seconds", id="cap-too-long"),
        pytest.param("events", {"kind": 1}, "type of an event", id="event-type"),
        pytest.param("usage", {"response": "duration"}, "zero, null, full", id="usage-response"),
        pytest.param("usage", {"transcription": []}, "or an object", id="usage-array"),
    ],
)
def test_wrong_faults_are_refused(operation: str, value: Any, message: str) -> None:
    """The message says what is possible."""
    with pytest.raises(ValueError, match=message):
        parse_fault(operation, value)


@pytest.mark.parametrize("text", ["", "calls", "calls:status", "calls:status=x", "calls:=1"])
def test_wrong_fault_options_are_refused(text: str) -> None:
    """Nothing is guessed from half an option."""
    with pytest.raises(ValueError, match="expected"):
        parse_fault_option(text)


def test_a_fault_hits_as_often_as_it_says() -> None:
    """Then the operation works again; a fault without a count goes on."""
    faults = Faults({"calls": Fault(500, times=2), "hangup": Fault(503)})
    assert [fault.status if (fault := faults.take("calls")) else None for _ in range(3)] == [
        500,
        500,
        None,
    ]
    assert [faults.take("hangup") for _ in range(3)] == [Fault(503)] * 3
    assert faults.take("sideband") is None
    assert faults.active() == {"hangup": {"status": 503}}
    faults.clear()
    assert faults.take("hangup") is None


def test_what_does_not_fit_is_not_hit() -> None:
    """A fault of events or of usage counts only those that it is about."""
    faults = Faults(
        {"events": EventsFault(late_s=1, times=1), "usage": UsageFault("zero", times=1)}
    )
    assert faults.take_event("response.created") == EventsFault()
    assert faults.take_event("response.done").late_s == 1
    assert faults.take_event("response.done") == EventsFault()
    assert faults.take_usage("transcription") is None
    assert [faults.take_usage("response") for _ in range(2)] == ["zero", None]
    assert faults.active() == {}


def test_without_faults_all_is_as_usual() -> None:
    """What takes a fault gets one that changes nothing."""
    faults = Faults()
    assert faults.take_sideband() == SidebandFault()
    assert faults.take_cap_s(3600) == 3600
    faults.switch_on({"session": SessionFault(2, times=1)})
    assert [faults.take_cap_s(3600) for _ in range(2)] == [2, 3600]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 503])
def test_refusals_have_the_providers_shape(status: int) -> None:
    """Every status has a message and a type."""
    error = refusal(status)
    assert error.status == status
    assert error.error().keys() == {"message", "type", "param", "code"}
    assert error.error()["message"]


@pytest.mark.parametrize(("malformed", "expected"), [("garbage", GARBAGE.encode()), ("empty", b"")])
def test_bodies_are_spoiled(malformed: str, expected: bytes) -> None:
    """Nothing of the good body remains."""
    assert spoil_body(malformed, b'{"value": "ek_1", "a": 1}') == expected


def test_a_value_can_go_missing() -> None:
    """What remains is JSON."""
    assert json.loads(spoil_body("no_value", b'{"value": "ek_1", "a": 1}')) == {"a": 1}
