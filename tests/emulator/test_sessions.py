from dataclasses import dataclass
from typing import Any

import pytest

from emulator.errors import ApiError
from emulator.sessions import (
    Calls,
    Credential,
    Dialect,
    EphemeralKeys,
    check_standard,
    parse_credential,
)

NOW = 1_000_000
STANDARD = Credential("sk-made-up")


@dataclass
class FakeCall:
    """As much of a call as the registry sees."""

    call_id: str = "rtc_u0_1"
    dialect: Dialect = Dialect.OPENAI
    credential: Credential = STANDARD
    is_live: bool = True
    has_ended: bool = False

    def snapshot(self) -> dict[str, Any]:
        """Return its id."""
        return {"call_id": self.call_id}

    def record(self) -> dict[str, Any]:
        """Return its id."""
        return self.snapshot()


@pytest.mark.parametrize(
    ("headers", "dialect", "value"),
    [
        # Realistic
        pytest.param({"Authorization": "Bearer sk-1"}, Dialect.OPENAI, "sk-1", id="openai-bearer"),
        pytest.param({"Authorization": "Bearer e.y.J"}, Dialect.AZURE, "e.y.J", id="azure-entra"),
        pytest.param({"api-key": "abc"}, Dialect.AZURE, "abc", id="azure-api-key"),
        # Synthetic
        pytest.param({"Authorization": "bearer sk-1"}, Dialect.OPENAI, "sk-1", id="lower-case"),
        pytest.param({"Authorization": "Bearer  sk-1 "}, Dialect.OPENAI, "sk-1", id="spaces"),
    ],
)
def test_credentials_are_found(headers: dict[str, str], dialect: Dialect, value: str) -> None:
    """A bearer token serves both dialects, an api-key header Azure's."""
    assert parse_credential(headers, dialect).value == value


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        pytest.param({}, Dialect.OPENAI, id="none"),
        pytest.param({"api-key": "abc"}, Dialect.OPENAI, id="api-key-at-openai"),
        pytest.param({"Authorization": "Basic c2s6"}, Dialect.OPENAI, id="basic"),
        pytest.param({"Authorization": "Bearer "}, Dialect.AZURE, id="empty-bearer"),
        pytest.param({"api-key": " "}, Dialect.AZURE, id="empty-api-key"),
    ],
)
def test_requests_without_a_credential_are_refused(
    headers: dict[str, str], dialect: Dialect
) -> None:
    """No credential is a 401."""
    with pytest.raises(ApiError) as refused:
        parse_credential(headers, dialect)
    assert refused.value.status == 401


def test_an_ephemeral_key_is_not_a_standard_one() -> None:
    """It can't mint another, and the message shows only its ends."""
    with pytest.raises(ApiError) as refused:
        check_standard(Credential("ek_0123456789abcdef"))
    assert refused.value.code == "invalid_api_key"
    assert "456789" not in str(refused.value)


def test_credentials_do_not_show_in_a_repr() -> None:
    """Neither a credential nor a minted key prints its value."""
    keys = EphemeralKeys()
    key = keys.mint(Dialect.OPENAI, {}, now=NOW, expires_s=60)
    assert key.value not in repr(key)
    assert "sk-made-up" not in repr(STANDARD)


@pytest.mark.parametrize(
    ("dialect", "now", "is_found"),
    [
        pytest.param(Dialect.OPENAI, NOW, True, id="at-once"),
        pytest.param(Dialect.OPENAI, NOW + 59, True, id="last-second"),
        pytest.param(Dialect.OPENAI, NOW + 60, False, id="expired"),
        pytest.param(Dialect.AZURE, NOW, False, id="other-dialect"),
    ],
)
def test_minted_keys_open_calls_until_they_expire(
    dialect: Dialect, now: int, is_found: bool
) -> None:
    """A key is good any number of times, in its dialect, before its expiry."""
    keys = EphemeralKeys()
    key = keys.mint(Dialect.OPENAI, {"type": "realtime"}, now=NOW, expires_s=60)
    for _ in range(2):
        if is_found:
            assert keys.find(Credential(key.value), dialect, now=now) is key
        else:
            with pytest.raises(ApiError) as refused:
                keys.find(Credential(key.value), dialect, now=now)
            assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def test_expired_keys_are_forgotten() -> None:
    """Minting drops the keys that have expired, so an emulator may run for months."""
    keys = EphemeralKeys()
    keys.mint(Dialect.OPENAI, {}, now=NOW, expires_s=60)
    keys.mint(Dialect.OPENAI, {}, now=NOW + 61, expires_s=60)
    assert len(keys._keys) == 1


@pytest.mark.parametrize(
    ("call", "credential", "is_found"),
    [
        pytest.param(FakeCall(), STANDARD, True, id="standard-key"),
        pytest.param(
            FakeCall(credential=Credential("ek_1")), Credential("ek_1"), True, id="own-key"
        ),
        pytest.param(
            FakeCall(credential=Credential("ek_1")), Credential("ek_2"), False, id="other-key"
        ),
        pytest.param(FakeCall(dialect=Dialect.AZURE), STANDARD, False, id="other-dialect"),
        pytest.param(FakeCall(is_live=False), STANDARD, False, id="not-live"),
        pytest.param(FakeCall(has_ended=True), STANDARD, False, id="ended"),
        pytest.param(FakeCall(call_id="rtc_u0_2"), STANDARD, False, id="other-id"),
    ],
)
def test_calls_are_found_by_who_may_control_them(
    call: FakeCall, credential: Credential, is_found: bool
) -> None:
    """Everything else is 404 call_id_not_found."""
    calls: Calls[FakeCall] = Calls()
    calls.add(call)
    if is_found:
        assert calls.find_live("rtc_u0_1", Dialect.OPENAI, credential) is call
    else:
        with pytest.raises(ApiError) as refused:
            calls.find_live("rtc_u0_1", Dialect.OPENAI, credential)
        assert (refused.value.status, refused.value.param) == (404, "")


def test_ended_calls_leave_a_snapshot() -> None:
    """A call that has ended is not found but listed: a hundred, and far more in brief."""
    calls: Calls[FakeCall] = Calls()
    for number in range(101):
        call = FakeCall(call_id=f"rtc_u0_{number}")
        calls.add(call)
        calls.end(call)
    assert calls.running() == []
    assert len(calls.snapshots()) == 100
    assert calls.snapshots()[-1] == {"call_id": "rtc_u0_100"}
    assert len(calls.records()) == 101
