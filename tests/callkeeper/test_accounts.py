from dataclasses import replace

import pytest

from callkeeper.accounts import Accounts, holder_of
from callkeeper.model import Charge, Payer
from callkeeper.standing import Budget
from helpers.charges import some_charges

MEMBER = Payer("a" * 64, team_id="team", user_id="user", organization_id="org", project_id="p")
ALONE = Payer("b" * 64)
COLLEAGUE = Payer("c" * 64, team_id="team", user_id="another")
KEY = Budget("key", "", 1.0, 5.0)
TEAM = replace(KEY, kind="team")
WINDOW = replace(KEY, kind="window", name="1d", begin=100.0)


def costing(payer: Payer, *microdollars: int) -> list[Charge]:
    """Return charges of a payer."""
    made = some_charges([payer], calls=len(microdollars))
    return [replace(each, cost_microdollars=cost) for each, cost in zip(made, microdollars)]  # noqa: B905


@pytest.mark.parametrize(
    ("payer", "kind", "holder"),
    [
        (MEMBER, "key", "a" * 64),
        (MEMBER, "window", "a" * 64),
        (MEMBER, "team", "team"),
        (MEMBER, "team_window", "team"),
        (MEMBER, "member", "team\nuser"),
        (MEMBER, "organization", "org"),
        (MEMBER, "project", "p"),
        (MEMBER, "user", "user"),
        (MEMBER, "proxy", ""),
        (ALONE, "team", None),
        (ALONE, "member", None),
        (ALONE, "proxy", ""),
    ],
)
def test_whose_a_budget_is(payer: Payer, kind: str, holder: str | None) -> None:
    """Windows are those of key and team; nobody has a budget of what he does not belong to."""
    found = holder_of(payer, kind)
    assert (found and found[1]) == holder


def test_what_is_not_written_yet_counts() -> None:
    """For all who pay, and for nobody else, until it is written and read."""
    accounts = Accounts(is_written=True)
    mine, other = costing(MEMBER, 30), costing(COLLEAGUE, 7)
    for each in (*mine, *other):
        accounts.charge(each, 10)
    assert accounts.unread(MEMBER, KEY, read_at=9) == 30
    assert accounts.unread(MEMBER, TEAM, read_at=9) == 37
    assert accounts.unread(ALONE, KEY, read_at=9) == 0

    accounts.settle(mine, 11)
    assert accounts.unread(MEMBER, TEAM, read_at=10.9) == 37
    assert accounts.unread(MEMBER, TEAM, read_at=11) == 7
    assert accounts.unread(MEMBER, KEY, read_at=11) == 0


def test_what_was_charged_elsewhere_changes_nothing() -> None:
    """An earlier process has left it in the spool; nor does it when a batch is told of twice."""
    accounts = Accounts(is_written=True)
    mine, left = costing(MEMBER, 30, 40)
    accounts.charge(mine, 10)
    accounts.settle([left], 11)
    assert accounts.unread(MEMBER, KEY, read_at=12) == 30
    accounts.settle([mine], 13)
    accounts.settle([mine], 14)
    assert accounts.unread(MEMBER, KEY, read_at=14) == 0


def test_what_will_never_be_written_stays() -> None:
    """What a sink has lost or refused was used all the same."""
    accounts = Accounts(is_written=True)
    (lost,) = costing(MEMBER, 30)
    accounts.charge(lost, 10)
    accounts.settle([lost], None)
    accounts.sweep(10_000)
    assert accounts.unread(MEMBER, KEY, read_at=10_000) == 30


def test_without_a_sink_all_that_was_used_counts() -> None:
    """Since this process began, as nobody else knows of it."""
    accounts = Accounts(is_written=False)
    for each in costing(MEMBER, 30, 12):
        accounts.charge(each, 10)
        accounts.settle([each], 11)
    accounts.sweep(10_000)
    assert accounts.unread(MEMBER, KEY, read_at=10_000) == 42


@pytest.mark.parametrize(
    ("before", "after", "unread"),
    [
        (KEY, replace(KEY, spend=1.5), 30),
        (KEY, replace(KEY, spend=0.0), 0),
        (WINDOW, replace(WINDOW, spend=2.0), 30),
        (WINDOW, replace(WINDOW, begin=200.0, spend=2.0), 0),
    ],
    ids=["goes-on", "reset", "window-goes-on", "next-window"],
)
def test_a_budget_that_starts_anew_forgets(before: Budget, after: Budget, unread: int) -> None:
    """What was used before its reset is not held against it; other budgets keep it."""
    accounts = Accounts(is_written=False)
    accounts.note(MEMBER, before, 9)
    accounts.note(MEMBER, TEAM, 9)
    for each in costing(MEMBER, 30):
        accounts.charge(each, 10)
    accounts.note(MEMBER, after, 11)
    accounts.note(MEMBER, TEAM, 11)
    assert accounts.unread(MEMBER, after, 11) == unread
    assert accounts.unread(MEMBER, TEAM, 11) == 30


def test_an_older_reading_is_no_reset() -> None:
    """Another worker of extauthz remembers the key as it was a moment ago."""
    accounts = Accounts(is_written=False)
    accounts.note(MEMBER, replace(KEY, spend=2.0), 10)
    for each in costing(MEMBER, 30):
        accounts.charge(each, 11)
    accounts.note(MEMBER, replace(KEY, spend=1.0), 9)
    accounts.note(MEMBER, replace(KEY, spend=2.0), 12)
    assert accounts.unread(MEMBER, KEY, 12) == 30


def test_memory_is_bounded() -> None:
    """Of many batches only the latest are known one by one; who is long settled is forgotten."""
    accounts = Accounts(is_written=True)
    charges = costing(MEMBER, *[1] * 500)
    for at, each in enumerate(charges):
        accounts.charge(each, at)
        accounts.settle([each], at)
    assert accounts.unread(MEMBER, KEY, 499) == 0
    # A reading from before the oldest batch that is known: too little, never too much.
    assert 0 < accounts.unread(MEMBER, KEY, 0) < 100
    accounts.sweep(600)
    assert accounts._accounts
    accounts.sweep(1200)
    assert not accounts._accounts
    assert not accounts._unwritten
