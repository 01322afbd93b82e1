import pytest

from callkeeper.calls import Reason
from callkeeper.standing import Budget, Standing, reason_of, unknown, used_up


@pytest.mark.parametrize(
    ("budget", "unread", "is_over"),
    [
        # Realistic
        (Budget("key", "", 4.0, 5.0), 999_999, False),
        (Budget("key", "", 4.0, 5.0), 1_000_000, True),
        (Budget("team", "", 4.0, 5.0, is_inclusive=True), 1_000_000, False),
        (Budget("team", "", 4.0, 5.0, is_inclusive=True), 1_000_001, True),
        # Synthetic: doubles that add up to a little less
        (Budget("key", "", 0.7, 0.8), 100_000, True),
        (Budget("team", "", 0.1, 0.3, is_inclusive=True), 200_000, False),
        # Pathological
        (Budget("key", "", 0.0, 0.0), 0, True),
        (Budget("key", "", -1.0, 1e9), 10**9, False),
        (Budget("key", "", 1.0, float("inf")), 10**9, False),
        (Budget("key", "", float("inf"), float("inf")), 0, True),
        (Budget("key", "", float("nan"), 1.0), 0, True),
    ],
    ids=[
        *("under", "even", "inclusive", "over", "less", "more", "nothing", "negative"),
        *("no-limit", "infinite", "no-number"),
    ],
)
def test_a_budget_is_used_up_with_what_it_does_not_show(
    budget: Budget, unread: int, *, is_over: bool
) -> None:
    """To the microdollar; that of a team and of the proxy when it is exceeded."""
    assert budget.is_used_up(unread) is is_over


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("key", Reason.KEY_BUDGET),
        ("window", Reason.WINDOW_BUDGET),
        ("team_window", Reason.WINDOW_BUDGET),
        ("member", Reason.MEMBER_BUDGET),
        ("proxy", Reason.PROXY_BUDGET),
        ("of_next_year", Reason.NOT_ALLOWED),
    ],
)
def test_the_first_budget_that_is_used_up_is_the_reason(kind: str, reason: Reason) -> None:
    """Those before it have something left."""
    budgets = (Budget("user", "", 0, 9), Budget(kind, "", 3, 3), Budget("team", "", 9, 3))
    assert used_up(budgets, lambda _: 0) is reason
    assert used_up(budgets[:1], lambda _: 0) is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [("", None), ("key_blocked", Reason.KEY_BLOCKED), ("of_next_year", Reason.NOT_ALLOWED)],
)
def test_what_extauthz_calls_a_reason(word: str, reason: Reason | None) -> None:
    """A word that is not known here ends calls all the same."""
    assert reason_of(word) is reason


@pytest.mark.parametrize(
    ("answered_at", "opened_at", "now", "is_over"),
    [
        (None, 100, 129.9, False),
        (None, 100, 130, True),
        (100, 50, 129.9, False),
        (100, 50, 130, True),
        # Another call of the same key was the last to be asked about, long ago.
        (100, 200, 229.9, False),
    ],
    ids=["never-yet", "never", "not-yet", "not-any-more", "opened-later"],
)
def test_nobody_can_tell_for_too_long(
    answered_at: float | None, opened_at: float, now: float, *, is_over: bool
) -> None:
    """Counted from the last answer, and from the beginning of the call."""
    standing = None if answered_at is None else Standing(answered_at, answered_at)
    reason = unknown(standing, opened_at, now, timeout_s=30)
    assert reason is (Reason.UNKNOWN_STANDING if is_over else None)
