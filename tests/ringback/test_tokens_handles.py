import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.secrets import Secret
from ringback.settings import TokenSettings
from ringback.tokens import handle_sealer
from ringback.tokens.errors import TokenError
from ringback.tokens.handles import (
    HANDLE_LIFETIME_S,
    CallHandle,
    open_handle,
    parse_call_id,
    seal_handle,
)

NOW = 1_767_268_800
SEALER = handle_sealer(TokenSettings(secret=Secret("correct horse battery staple")), {})
HANDLE = CallHandle(
    deployment="azure-sweden",
    call_id="rtc_u1_9c6574da8b8a41a18da9308f4ad974ce",
    key_hash="5b6a" * 16,
    token_id="k3VYbGJpS0yTqk0H7D2c9w",
    issued_at=NOW,
)
WIRE: dict[str, object] = {
    "dep": "azure-sweden",
    "cid": "rtc_u1_9c6574da8b8a41a18da9308f4ad974ce",
    "key": "5b6a" * 16,
    "jti": "k3VYbGJpS0yTqk0H7D2c9w",
    "iat": NOW,
    "exp": NOW + HANDLE_LIFETIME_S,
}


def test_a_handle_is_one_path_segment() -> None:
    """A sealed handle is an OpenAI-like call id that needs no escape in any URL or header."""
    text = seal_handle(HANDLE, SEALER, NOW)
    assert re.fullmatch(r"rtc_[A-Za-z0-9_.-]+", text)
    assert len(text) < 500
    assert HANDLE.call_id not in text


def test_a_handle_opens_on_any_replica_for_a_day() -> None:
    """Deployment, call and owner come back until the second of expiry, across midnight."""
    text = seal_handle(HANDLE, SEALER, NOW + 0.7)
    assert open_handle(text, SEALER, NOW) == HANDLE
    assert open_handle(text, SEALER, NOW + HANDLE_LIFETIME_S - 1) == HANDLE
    with pytest.raises(TokenError, match="expired"):
        open_handle(text, SEALER, NOW + HANDLE_LIFETIME_S)


def test_the_wire_format_of_a_handle_stays() -> None:
    """The members are fixed: replicas of two versions read each other's handles."""
    assert SEALER.open(seal_handle(HANDLE, SEALER, NOW), NOW) == WIRE
    assert open_handle(SEALER.seal(WIRE, NOW), SEALER, NOW) == HANDLE


@pytest.mark.parametrize(
    "members",
    [
        # Synthetic
        pytest.param({"x": 1}, id="unknown-member"),
        pytest.param({"exp": NOW + HANDLE_LIFETIME_S + 1}, id="longer-life"),
        pytest.param({"exp": NOW + 1}, id="shorter-life"),
        pytest.param({"dep": None}, id="no-deployment"),
        pytest.param({"dep": ""}, id="empty-deployment"),
        pytest.param({"cid": 7}, id="call-id-number"),
        pytest.param({"key": "a b"}, id="key-hash-with-space"),
        # Pathological: what would become another path or request upstream
        pytest.param({"cid": "../../files"}, id="path-traversal"),
        pytest.param({"cid": "rtc_x/accept"}, id="another-endpoint"),
        pytest.param({"cid": "rtc_x?model=y"}, id="query"),
        pytest.param({"cid": "rtc_x\r\n"}, id="line-break"),
        pytest.param({"iat": -1, "exp": HANDLE_LIFETIME_S - 1}, id="before-1970"),
    ],
)
def test_other_members_under_our_seal_are_refused(members: dict[str, object]) -> None:
    """Opening is strict although the seal is good."""
    now = 0 if members.get("iat") == -1 else NOW
    text = SEALER.seal(WIRE | members, now)
    with pytest.raises(TokenError, match="claims"):
        open_handle(text, SEALER, now)


def test_a_handle_from_another_time_is_not_sealed() -> None:
    """A handle that could not be opened is not made."""
    with pytest.raises(TokenError, match="expired"):
        seal_handle(HANDLE, SEALER, NOW + HANDLE_LIFETIME_S)
    with pytest.raises(TokenError, match="not_yet"):
        seal_handle(HANDLE, SEALER, NOW - 60)


@pytest.mark.parametrize(
    ("location", "call_id"),
    [
        # Realistic
        pytest.param("/v1/realtime/calls/rtc_abc", "rtc_abc", id="openai"),
        pytest.param(
            "https://r.openai.azure.com/openai/v1/realtime/calls/rtc_1", "rtc_1", id="azure"
        ),
        pytest.param("rtc_abc", "rtc_abc", id="bare-id"),
        pytest.param("calls/rtc_abc", "rtc_abc", id="relative"),
        # Synthetic
        pytest.param("/v1/realtime/calls/rtc_abc?api-version=1/2", "rtc_abc", id="query"),
        pytest.param("/v1/realtime/calls/rtc_abc#a/b?c", "rtc_abc", id="fragment"),
        pytest.param("//host/rtc_abc", "rtc_abc", id="without-scheme"),
        pytest.param("HTTPS://host:443/rtc_abc", "rtc_abc", id="capitals-and-port"),
        pytest.param("/x/../calls/rtc_abc", "rtc_abc", id="dot-segments"),
        pytest.param("/calls/" + "a" * 128, "a" * 128, id="longest"),
    ],
)
def test_the_call_id_is_the_last_segment(location: str, call_id: str) -> None:
    """The id is found in a relative or absolute Location, with or without query and fragment."""
    assert parse_call_id(location) == call_id


@pytest.mark.parametrize(
    "location",
    [
        # Realistic
        pytest.param("", id="empty"),
        pytest.param("/v1/realtime/calls/", id="trailing-slash"),
        pytest.param("https://rtc_abc", id="host-only"),
        # Synthetic
        pytest.param("HTTPS://rtc_abc", id="host-only-in-capitals"),
        pytest.param("//rtc_abc", id="host-only-without-scheme"),
        pytest.param("https://rtc_abc?x", id="host-and-query"),
        pytest.param("https:rtc_abc", id="no-authority"),
        pytest.param("?call_id=rtc_abc", id="query-only"),
        pytest.param("#rtc_abc", id="fragment-only"),
        pytest.param("/calls/rtc_abc.json", id="dot"),
        pytest.param("/calls/..", id="dot-segment"),
        pytest.param("/calls/" + "a" * 129, id="too-long"),
        # Pathological
        pytest.param("/calls/rtc%2Fabc", id="escaped-slash"),
        pytest.param("/calls\\rtc_abc", id="backslash"),
        pytest.param("/calls/rtc_abc\r\nx: y", id="line-break"),
        pytest.param("/calls/rtc_abc\n", id="trailing-line-break"),
        pytest.param("/calls/rtc_abc?\n", id="line-break-in-query"),
        pytest.param("/calls/ rtc_abc", id="space"),
        pytest.param("/calls/rtc_\u0661", id="arabic-digit"),
    ],
)
def test_a_location_without_a_call_id_is_refused(location: str) -> None:
    """Whatever could not be put into a path again is no id."""
    with pytest.raises(ValueError, match=r"^the Location of a call must end in its id$"):
        parse_call_id(location)


@given(st.text() | st.text(alphabet=":/?#ab_."))
def test_any_location_gives_an_id_or_a_value_error(location: str) -> None:
    """Whatever the upstream sends, the id is harmless or there is none."""
    try:
        call_id = parse_call_id(location)
    except ValueError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,128}", call_id)
    assert call_id in location


def test_a_long_location_takes_no_long_time() -> None:
    """The largest header that Envoy lets through is refused without backtracking for ages."""
    with pytest.raises(ValueError, match="must end in its id"):
        parse_call_id("/" + "a" * 60_000 + ".")
    with pytest.raises(ValueError, match="must end in its id"):
        parse_call_id("a/" * 30_000 + ".")
