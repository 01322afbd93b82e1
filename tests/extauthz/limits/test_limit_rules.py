from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.keys import Limits, Scope, VirtualKey
from extauthz.limits.rules import (
    Counter,
    deployment_counter,
    open_call_counters,
    parallel_counters,
    rate_counters,
)
from ringback.settings.supervision import OpenCallSettings

KEY = VirtualKey("0123abcd", team="web", user="ada")
TEN = Limits(rpm=10)


def scope(name: str, limits: Limits = TEN) -> Scope:
    """Return a scope with an id and limits."""
    return Scope(name, limits=limits)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Realistic
        pytest.param({}, [], id="no-limits"),
        pytest.param(
            {"limits": Limits(rpm=60)}, [Counter("key", "key:0123abcd", 60)], id="limit-of-the-key"
        ),
        pytest.param(
            {"limits": Limits(model_rpm={"voice": 5, "other": 1})},
            [Counter("key", "key_model:0123abcd:voice", 5, is_of_model=True)],
            id="limit-of-the-key-for-the-model",
        ),
        pytest.param(
            {"team_scope": scope("web")}, [Counter("team", "team:web", 10)], id="limit-of-the-team"
        ),
        pytest.param(
            {"member": scope("ada:web")},
            [Counter("member", "member:ada:web", 10)],
            id="limit-of-the-member",
        ),
        pytest.param(
            {"user_scope": scope("ada")}, [Counter("user", "user:ada", 10)], id="limit-of-the-user"
        ),
        pytest.param(
            {"organization": scope("acme")},
            [Counter("organization", "organization:acme", 10)],
            id="limit-of-the-organization",
        ),
        pytest.param(
            {"project": scope("p1")},
            [Counter("project", "project:p1", 10)],
            id="limit-of-the-project",
        ),
        # Synthetic
        pytest.param({"team_scope": scope("web", Limits())}, [], id="team-without-a-limit"),
        pytest.param(
            {"limits": Limits(rpm=0)}, [Counter("key", "key:0123abcd", 0)], id="zero-is-a-limit"
        ),
        pytest.param(
            {"limits": Limits(model_rpm={"voice": 5, "alias": 3})},
            [Counter("key", "key_model:0123abcd:voice", 3, is_of_model=True)],
            id="lowest-of-the-names-of-a-model",
        ),
        pytest.param(
            {"team_scope": scope("web", Limits(rpm=9, model_rpm={"voice": 5}))},
            [
                Counter("team", "team:web", 9),
                Counter("team", "team_model:web:voice", 5, is_of_model=True),
            ],
            id="limits-of-the-team-for-all-and-the-model",
        ),
        pytest.param(
            {"limits": TEN, "team_scope": scope("web"), "user_scope": scope("ada")},
            [
                Counter("key", "key:0123abcd", 10),
                Counter("team", "team:web", 10),
                Counter("user", "user:ada", 10),
            ],
            id="all-that-there-are",
        ),
        pytest.param({"limits": TEN, "is_master": True}, [], id="master-key"),
        # Pathological
        pytest.param(
            {"team_scope": scope("a:b c\n{x}")},
            [Counter("team", "team:a%3Ab%20c%0A%7Bx%7D", 10)],
            id="id-with-colons-and-braces",
        ),
        pytest.param(
            {"limits": Limits(rpm=-1)}, [Counter("key", "key:0123abcd", -1)], id="negative"
        ),
    ],
)
def test_counters(changes: dict[str, Any], expected: list[Counter]) -> None:
    """A request counts for its key and for everyone the key belongs to who has a limit."""
    assert list(rate_counters(replace(KEY, **changes), "voice", "alias")) == expected


def test_members_are_told_apart() -> None:
    """A user and a team never make the name that another user and team make."""
    (one,) = rate_counters(VirtualKey("h", user="a:b", team="c", member=scope("a:b:c")), "voice")
    (two,) = rate_counters(VirtualKey("h", user="a", team="b:c", member=scope("a:b:c")), "voice")
    assert one.name != two.name


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=2))
def test_names_are_unique(pairs: list[tuple[str, str]]) -> None:
    """Two counters have one name only if they are the same."""
    names = [
        rate_counters(VirtualKey(key, limits=Limits(model_rpm={group: 1})), group)[0].name
        for key, group in pairs
    ]
    assert (names[0] == names[1]) == (pairs[0] == pairs[1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Realistic
        pytest.param({}, [], id="no-limit"),
        pytest.param(
            {"limits": Limits(parallel=2, rpm=9)}, [Counter("key", "key:0123abcd", 2)], id="key"
        ),
        pytest.param(
            {"team_scope": scope("web", Limits(parallel=3))},
            [Counter("team", "team:web", 3)],
            id="team",
        ),
        # Synthetic
        pytest.param({"limits": Limits(parallel=0)}, [Counter("key", "key:0123abcd", 0)], id="0"),
        pytest.param({"limits": Limits(parallel=0), "is_master": True}, [], id="master-key"),
    ],
)
def test_parallel_counters(changes: dict[str, Any], expected: list[Counter]) -> None:
    """A request counts, while it lasts, for all that have a limit of requests at once."""
    assert list(parallel_counters(replace(KEY, **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "settings", "expected"),
    [
        # Realistic
        pytest.param({}, {}, [], id="no-limit"),
        pytest.param({}, {"key": 5}, [Counter("key", "key:0123abcd", 5)], id="of-every-key"),
        pytest.param(
            {"max_open_calls": 9},
            {"key": 5},
            [Counter("key", "key:0123abcd", 9)],
            id="of-the-key-itself",
        ),
        pytest.param(
            {"limits": Limits(parallel=2, rpm=1)},
            {"key": 5},
            [Counter("key", "key:0123abcd", 2)],
            id="requests-at-once-are-fewer",
        ),
        pytest.param(
            {"limits": Limits(parallel=7), "max_open_calls": 5},
            {},
            [Counter("key", "key:0123abcd", 5)],
            id="requests-at-once-are-more",
        ),
        pytest.param(
            {"team_scope": scope("web", Limits(parallel=3))},
            {"team": 20, "user": 4, "deployment": 1},
            [Counter("team", "team:web", 3), Counter("user", "user:ada", 4)],
            id="team-and-user",
        ),
        # Synthetic
        pytest.param({"team": None, "user": None}, {"team": 1, "user": 1}, [], id="of-nobody"),
        pytest.param(
            {"max_open_calls": 0}, {"key": 5}, [Counter("key", "key:0123abcd", 0)], id="none"
        ),
        pytest.param({"is_master": True, "max_open_calls": 1}, {"key": 1}, [], id="master-key"),
    ],
)
def test_open_call_counters(
    changes: dict[str, Any], settings: dict[str, int], expected: list[Counter]
) -> None:
    """A call counts for its key, team and user; of two limits of one of them for the lower one."""
    found = open_call_counters(replace(KEY, **changes), OpenCallSettings(**settings))
    assert list(found) == expected


def test_the_counter_of_a_deployment() -> None:
    """It is no other one's, whatever the id of the deployment is."""
    assert deployment_counter("a:b", 3) == Counter("deployment", "deployment:a%3Ab", 3)
