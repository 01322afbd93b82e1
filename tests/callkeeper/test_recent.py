from dataclasses import replace

from callkeeper.calls import Limits, ended, opened
from callkeeper.model import Call, Payer
from callkeeper.recent import Ended, RecentCalls

LIMITS = Limits(is_required=True, attach_s=1, unattached_s=1, max_duration_s=30)
ENDED_AT = 1_795_334_400.0


def over(number: int, at: float = ENDED_AT) -> Ended:
    """Return a call that ended."""
    call = Call(
        *(f"{number:032x}", "voice-1", "https://provider.example", f"rtc_{number}", "voice"),
        *(Payer("f" * 64), "token-1", "request-1", at - 10),
    )
    return Ended(call, f"rtc_handle_{number}", ended(opened(LIMITS, 0)), at)


def test_a_call_is_found_for_five_minutes_after_its_end() -> None:
    """By its id and its handle, and not a moment longer."""
    calls, call = RecentCalls(), over(1)
    calls.add(call)
    for name in (call.call.id, call.handle):
        assert calls.find(name, ENDED_AT + 300) is call
        assert calls.find(name, ENDED_AT + 301) is None
    assert calls.find("rtc_other", ENDED_AT) is None


def test_calls_are_told_in_the_order_of_their_ends() -> None:
    """Those that ended too long ago are left out, though no other has ended since."""
    calls, first, second = RecentCalls(), over(1), over(2, ENDED_AT + 200)
    for call in (first, second):
        calls.add(call)
    assert list(calls.since(ENDED_AT + 200)) == [first, second]
    assert list(calls.since(ENDED_AT + 400)) == [second]


def test_what_is_remembered_is_bounded() -> None:
    """Of very many the latest 5,000 stay; what is too old goes when another call ends."""
    calls = RecentCalls()
    for number in range(6_000):
        calls.add(over(number))
    assert len(list(calls.since(ENDED_AT))) == 5_000
    assert calls.find("rtc_handle_999", ENDED_AT) is None
    assert calls.find("rtc_handle_1000", ENDED_AT) is not None
    late = over(6_000, ENDED_AT + 1000)
    calls.add(late)
    # By what it said when all of them were remembered.
    assert list(calls.since(ENDED_AT)) == [late]


def test_a_handle_that_comes_twice_names_the_last() -> None:
    """The call that ended first takes nothing with it when it is forgotten."""
    calls, again = RecentCalls(), replace(over(2, ENDED_AT + 100), handle="rtc_handle_1")
    calls.add(over(1))
    calls.add(again)
    calls.add(over(3, ENDED_AT + 350))
    assert calls.find("rtc_handle_1", ENDED_AT + 350) is again
