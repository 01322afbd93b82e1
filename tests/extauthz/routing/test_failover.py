from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.catalogue import Group
from extauthz.deployments import Deployment
from extauthz.routersettings import DEFAULT_ROUTER, RouterSettings
from extauthz.routing.failover import Attempt, Plan
from helpers.authz import OPENAI


def first(candidates: Sequence[Deployment]) -> Deployment:
    """Choose the first."""
    return candidates[0]


def group(ids: str, **fields: Any) -> Group:
    """Return a group of deployments, one for each letter."""
    return Group(ids, tuple(replace(OPENAI, id=letter, **fields) for letter in ids))


def attempts(
    *groups: Group, settings: RouterSettings = DEFAULT_ROUTER, cooled: str = ""
) -> list[Attempt]:
    """Return all attempts of a plan whose every attempt fails."""
    plan = Plan(groups, settings, lambda name: name not in cooled, first)
    found = []
    while (attempt := plan.next()) is not None:
        found.append(attempt)
    return found


@pytest.mark.parametrize(
    ("groups", "cooled", "asked"),
    [
        # Realistic
        pytest.param(["a"], "", "a", id="one"),
        pytest.param(["abc"], "", "abc", id="one-after-another"),
        pytest.param(["ab", "cd"], "", "abcd", id="then-the-fallback"),
        pytest.param(["ab", "cd"], "ac", "bd", id="without-cooled-ones"),
        pytest.param(["ab", "cd"], "ab", "cd", id="cooled-group"),
        pytest.param(["a", "b", "c"], "b", "ac", id="two-fallbacks"),
        # Pathological
        pytest.param(["ab"], "ab", "", id="all-cooled"),
        pytest.param(["ab", "ba", "ac"], "", "abc", id="nobody-twice"),
        pytest.param([], "", "", id="nothing"),
    ],
)
def test_who_is_asked(groups: list[str], cooled: str, asked: str) -> None:
    """Healthy deployments are asked once each, the fallbacks' after those of the group."""
    found = attempts(*map(group, groups), cooled=cooled)
    assert "".join(attempt.deployment.id for attempt in found) == asked
    assert [attempt.is_last for attempt in found] == [False] * (len(found) - 1) + [True] * bool(
        found
    )


@pytest.mark.parametrize(
    ("groups", "num_retries", "asked"),
    [
        # Realistic
        pytest.param([group("abc")], 1, "ab", id="one-retry"),
        pytest.param([group("abc")], 0, "a", id="none"),
        pytest.param([group("abc"), group("de")], 1, "abde", id="each-group-for-itself"),
        pytest.param([group("abc"), group("de")], 0, "ad", id="none-and-a-fallback"),
        pytest.param([group("abc"), group("acd")], 0, "ac", id="in-both-groups"),
        # Synthetic
        pytest.param([group("abc", num_retries=0)], 2, "a", id="the-entrys-own"),
        pytest.param([group("abc", num_retries=1)], None, "ab", id="the-entrys-alone"),
        pytest.param([group("ab")], 9, "ab", id="more-than-there-are"),
    ],
)
def test_retries_are_other_deployments(
    groups: list[Group], num_retries: int | None, asked: str
) -> None:
    """``num_retries`` bounds how many further deployments of a group are asked."""
    found = attempts(*groups, settings=RouterSettings(num_retries=num_retries))
    assert "".join(attempt.deployment.id for attempt in found) == asked
    assert [attempt.is_last for attempt in found] == [False] * (len(found) - 1) + [True]


def test_who_is_alone() -> None:
    """A deployment is alone if its group has no other, healthy or not, and no fallback follows."""
    found = attempts(group("ab"), group("c"), cooled="a")
    assert [(a.deployment.id, a.is_alone) for a in found] == [("b", False), ("c", True)]
    found = attempts(group("a"), group("b"))
    assert [(a.deployment.id, a.is_alone) for a in found] == [("a", False), ("b", True)]


def test_a_plan_knows_all_of_its_deployments() -> None:
    """Those that may not be asked count where the shortest wait is told."""
    plan = Plan([group("ab"), group("c")], DEFAULT_ROUTER, lambda _: False, first)
    assert plan.next() is None
    assert [deployment.id for deployment in plan.deployments] == ["a", "b", "c"]


def test_a_deployment_that_cools_meanwhile_is_left_out() -> None:
    """What another request finds out in the meantime counts."""
    cooled: set[str] = set()
    plan = Plan([group("abc")], DEFAULT_ROUTER, lambda name: name not in cooled, first)
    assert (attempt := plan.next()) is not None
    assert attempt.deployment.id == "a"
    cooled.add("b")
    assert (attempt := plan.next()) is not None
    assert attempt.deployment.id == "c"


@pytest.mark.parametrize(
    ("is_last", "own_s", "router_s", "left_s", "expected"),
    [
        # Realistic
        pytest.param(True, None, None, 10, 10, id="all-there-is"),
        pytest.param(False, None, None, 10, 5, id="half-for-the-others"),
        pytest.param(True, 3, None, 10, 3, id="its-own"),
        pytest.param(True, None, 4, 10, 4, id="the-routers"),
        pytest.param(False, 600, None, 10, 5, id="its-own-is-longer"),
        # Synthetic
        pytest.param(True, 3, 4, 10, 3, id="its-own-first"),
        pytest.param(False, None, None, 1.2, 1, id="at-least-a-second"),
        pytest.param(False, None, None, 0.4, 0.4, id="not-beyond-the-deadline"),
    ],
)
def test_time_of_an_attempt(
    is_last: bool, own_s: float | None, router_s: float | None, left_s: float, expected: float
) -> None:
    """An attempt leaves time for the next one, if there is one, and keeps within its own limit."""
    attempt = Attempt(replace(OPENAI, timeout_s=own_s), is_alone=False, is_last=is_last)
    assert attempt.timeout_s(left_s, RouterSettings(timeout_s=router_s)) == expected


IDS = st.text(alphabet="abcdef", min_size=1, max_size=6)


@given(
    st.lists(IDS, max_size=4),
    st.frozensets(st.sampled_from("abcdef")),
    st.none() | st.integers(0, 3),
)
def test_any_plan_ends(groups: list[str], cooled: frozenset[str], num_retries: int | None) -> None:
    """Nobody is asked twice, no cooled deployment at all, and only the last attempt says so."""
    settings = RouterSettings(num_retries=num_retries)
    found = attempts(*map(group, groups), settings=settings, cooled="".join(cooled))
    asked = [attempt.deployment.id for attempt in found]
    assert len(asked) == len(set(asked))
    assert cooled.isdisjoint(asked)
    assert [a.is_last for a in found] == [False] * (len(found) - 1) + [True] * bool(found)
    if num_retries is None:
        assert set(asked) == set("".join(groups)) - cooled
