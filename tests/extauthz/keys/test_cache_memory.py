import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extauthz.keys import Budget, Limits, Scope, VirtualKey
from extauthz.keys.memory import MAX_UNKNOWN, KeyMemory, Lifetimes, Remembered, size_of

KEY = VirtualKey("h", alias="web", models=("voice",), team="t", budget=Budget(1.0, 2.0))
TIMES = Lifetimes(ttl_s=60, unknown_ttl_s=5, stale_s=300)


def full_key(key_hash: str) -> VirtualKey:
    """Return a key with everything that a key of a team has."""
    scope = Scope("an-id-of-some-length", models=("one", "two"), budget=Budget(3.5, 10.0))
    return VirtualKey(
        key_hash,
        alias=f"alias of {key_hash}",
        models=tuple(f"model-{number}-{key_hash}" for number in range(5)),
        team=f"team-{key_hash}",
        limits=Limits(rpm=10, model_rpm={f"a-{key_hash}": 1}),
        team_scope=scope,
        user_scope=replace(scope, id=f"user-{key_hash}"),
    )


@pytest.mark.parametrize(
    ("answer", "now", "max_age_s", "is_fresh"),
    [
        pytest.param(KEY, 159.9, None, True, id="known"),
        pytest.param(KEY, 160.0, None, False, id="known-boundary"),
        pytest.param(None, 104.9, None, True, id="unknown"),
        pytest.param(None, 105.0, None, False, id="unknown-boundary"),
        pytest.param(KEY, 104.9, 5.0, True, id="known-for-a-token"),
        pytest.param(KEY, 105.0, 5.0, False, id="known-for-a-token-boundary"),
        pytest.param(None, 101.0, 60.0, True, id="unknown-for-a-token"),
        pytest.param(None, 106.0, 60.0, False, id="age-never-lengthens"),
        pytest.param(KEY, 100.0, 0.0, False, id="no-age-at-all"),
    ],
)
def test_an_answer_is_fresh_for_its_time(
    answer: VirtualKey | None, now: float, max_age_s: float | None, is_fresh: bool
) -> None:
    """Known and unknown keys have a time each, which the question may shorten."""
    assert TIMES.is_fresh(Remembered(answer, 100.0), now, max_age_s) is is_fresh


@pytest.mark.parametrize(
    ("answer", "now", "is_usable"),
    [
        pytest.param(KEY, 459.9, True, id="known"),
        pytest.param(KEY, 460.0, False, id="known-boundary"),
        pytest.param(None, 100.1, False, id="unknown"),
    ],
)
def test_only_known_keys_outlast_their_time(
    answer: VirtualKey | None, now: float, is_usable: bool
) -> None:
    """While the source is down a known key works for a bounded time; nobody is called unknown."""
    assert TIMES.is_usable(Remembered(answer, 100.0), now) is is_usable


def test_the_least_recently_used_key_goes_first() -> None:
    """At the limit of entries the key that was used longest ago makes room."""
    memory = KeyMemory(2, 10**6)
    for name in ("a", "b"):
        memory.put(name, Remembered(replace(KEY, hash=name), 0))
    memory.get("a")
    memory.put("c", Remembered(replace(KEY, hash="c"), 0))
    assert [name for name in "abc" if memory.get(name)] == ["a", "c"]
    assert len(memory) == 2


def test_bytes_are_bounded() -> None:
    """At the limit of bytes keys go until the rest fits; one that never fits is not kept."""
    one = KeyMemory(100, 10**9)
    one.put("a", Remembered(full_key("a"), 0))
    memory = KeyMemory(100, one.size_bytes * 3 + 50)
    for name in "abcdef":
        memory.put(name, Remembered(full_key(name), 0))
    assert (len(memory), memory.get("a")) == (3, None)
    assert memory.size_bytes <= one.size_bytes * 3 + 50
    memory.put("big", Remembered(replace(KEY, hash="big", models=("m" * 10**6,)), 0))
    assert memory.get("big") is None
    assert (len(memory), memory.size_bytes) == (0, 0)


def test_an_answer_takes_the_place_of_the_one_before() -> None:
    """A key that becomes unknown is known no more, and the other way round."""
    memory = KeyMemory(10, 10**6)
    memory.put("h", Remembered(KEY, 0))
    memory.put("h", Remembered(None, 1))
    assert memory.get("h") == Remembered(None, 1)
    assert (len(memory), memory.unknown, memory.size_bytes) == (0, 1, 0)
    memory.put("h", Remembered(KEY, 2))
    assert memory.get("h") == Remembered(KEY, 2)
    assert (len(memory), memory.unknown) == (1, 0)


@pytest.mark.parametrize("later", [replace(KEY, blocked=True), None], ids=["blocked", "unknown"])
def test_a_slow_answer_takes_no_newer_ones_place(later: VirtualKey | None) -> None:
    """Of two lookups that overlap the one counts that began later, whichever ends first."""
    memory = KeyMemory(10, 10**6)
    memory.put("h", Remembered(later, 1))
    memory.put("h", Remembered(KEY, 0))
    assert memory.get("h") == Remembered(later, 1)


def test_sizes_are_estimated_from_above() -> None:
    """What the estimate says is at least what Python takes, and no more than three times it."""
    memory = KeyMemory(10**6, 10**9)
    tracemalloc.start()
    try:
        for number in range(2000):
            name = f"{number:064x}"
            memory.put(name, Remembered(full_key(name), 0))
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken <= memory.size_bytes <= 3 * taken


def test_a_flood_of_unknown_keys_takes_no_memory() -> None:
    """100,000 random keys leave memory flat, and every known key in its place."""
    memory = KeyMemory(10, 10**6)
    memory.put("h", Remembered(KEY, 0))
    tracemalloc.start()
    try:
        for number in range(100_000):
            memory.put(f"{number:064x}", Remembered(None, 0.0))
            if number == 2 * MAX_UNKNOWN:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    assert memory.unknown == MAX_UNKNOWN
    assert memory.get("h") == Remembered(KEY, 0)


@pytest.mark.parametrize("key", [KEY, None], ids=["known", "unknown"])
def test_what_is_forgotten_does_not_come_back(key: VirtualKey | None) -> None:
    """An answer to a question of before is dropped; one to a later question is kept."""
    memory = KeyMemory(10, 10**6)
    memory.put("h", Remembered(key, 1))
    memory.forget("h", 2)
    assert memory.get("h") is None
    memory.put("h", Remembered(key, 2))
    assert memory.get("h") is None
    memory.put("h", Remembered(key, 2.1))
    assert memory.get("h") == Remembered(key, 2.1)


def test_a_rotated_key_is_forgotten_under_both_hashes() -> None:
    """Who forgets a key by its own hash forgets what its old hash found, under way or not."""
    memory = KeyMemory(10, 10**6)
    memory.put("old", Remembered(KEY, 0))
    memory.put("older", Remembered(KEY, 0))
    memory.put("h", Remembered(KEY, 0))
    memory.forget("h", 1)
    assert [memory.get(name) for name in ("old", "older", "h")] == [None] * 3
    memory.put("old", Remembered(KEY, 0.5))
    assert memory.get("old") is None
    assert memory._other_hashes == {}


def test_everything_is_forgotten_at_once() -> None:
    """Nothing is left, and no answer that is under way comes back."""
    memory = KeyMemory(10, 10**6)
    memory.put("h", Remembered(KEY, 0))
    memory.put("old", Remembered(KEY, 0))
    memory.put("u", Remembered(None, 0))
    memory.forget_all(1)
    memory.put("x", Remembered(None, 0.5))
    assert (len(memory), memory.unknown, memory.size_bytes) == (0, 0, 0)
    memory.put("h", Remembered(KEY, 1.5))
    assert memory.get("h") is not None


def test_forgetting_takes_no_memory() -> None:
    """After thousands of forgotten keys an outdated answer is still dropped."""
    memory = KeyMemory(10, 10**6)
    for number in range(5000):
        memory.forget(str(number), 10 + number)
    assert len(memory._forgotten) <= 1000
    memory.put("0", Remembered(KEY, 5))
    assert memory.get("0") is None
    memory.put("0", Remembered(KEY, 10_000))
    assert memory.get("0") is not None


_NAMES = st.sampled_from("abcdef")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _NAMES, st.one_of(st.none(), _NAMES), st.integers(0, 40)),
        st.tuples(st.just("get"), _NAMES),
        st.tuples(st.just("forget"), _NAMES),
        st.tuples(st.just("postpone"), _NAMES),
        st.tuples(st.just("forget_all")),
    ),
    max_size=60,
)


@given(_STEPS)
def test_bounds_hold_whatever_happens(steps: list[tuple[Any, ...]]) -> None:
    """Entries and bytes stay within their bounds, and what is counted is what is there."""
    memory = KeyMemory(4, 6000)
    for now, step in enumerate(steps):
        match step:
            case ("put", name, None, _):
                memory.put(name, Remembered(None, now))
            case ("put", name, other, size):
                key = VirtualKey(other, models=("m" * 100,) * size)
                memory.put(name, Remembered(key, now))
            case ("get", name):
                memory.get(name)
            case ("forget", name):
                memory.forget(name, now)
                assert memory.get(name) is None
            case ("postpone", name):
                memory.postpone(name, now)
            case _:
                memory.forget_all(now)
        assert len(memory) <= 4
        assert memory.size_bytes == sum(size for _, size in memory._known.values()) <= 6000
        known = {name: answer.key for name, (answer, _) in memory._known.items()}
        assert not known.keys() & memory._unknown.keys()
        rotated = {n: k.hash for n, k in known.items() if k is not None and k.hash != n}
        assert {(h, n) for n, h in rotated.items()} == {
            (h, n) for h, names in memory._other_hashes.items() for n in names
        }


def test_a_size_counts_all_that_is_held() -> None:
    """Longer names, lists and mappings make a key larger."""
    size = size_of(KEY)
    assert size_of(replace(KEY, alias="web" * 100)) >= size + 297
    assert size_of(replace(KEY, aliases={"a" * 100: "b" * 100})) >= size + 200
    assert size_of(replace(KEY, team_scope=Scope("t", models=("m" * 100,)))) >= size + 100
