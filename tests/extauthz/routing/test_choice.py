from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from extauthz.deployments import Deployment
from extauthz.routing.choice import choose, weights
from extauthz.routing.health import Health
from helpers.authz import OPENAI, Clock


def deployments(*fields: dict[str, Any]) -> list[Deployment]:
    """Return deployments ``d0``, ``d1`` and so on, with these fields."""
    return [replace(OPENAI, id=f"d{index}", **given) for index, given in enumerate(fields)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Realistic
        pytest.param([{}, {}], [1, 1], id="nothing"),
        pytest.param([{"weight": 9}, {"weight": 1}], [9, 1], id="weight"),
        pytest.param([{"rpm": 600}, {"rpm": 300}], [600, 300], id="rpm"),
        pytest.param([{"tpm": 1000}, {"tpm": 3000}], [1000, 3000], id="tpm"),
        # Synthetic
        pytest.param([{"weight": 2}, {"rpm": 99}], [2, 0], id="weight-beats-rpm"),
        pytest.param([{"rpm": 2}, {"tpm": 99}], [2, 0], id="rpm-beats-tpm"),
        pytest.param([{"weight": 1}, {"weight": 0}], [1, 0], id="drained"),
        # Pathological
        pytest.param([{"weight": 0}, {"weight": 0}], [1, 1], id="all-drained"),
        pytest.param([{"weight": 0, "rpm": 3}, {"rpm": 1}], [3, 1], id="drained-by-weight-alone"),
    ],
)
def test_weights(fields: list[dict[str, Any]], expected: list[float]) -> None:
    """Weight, else rpm, else tpm are the weights; whoever lacks the one in use weighs nothing."""
    assert weights(deployments(*fields)) == expected


def test_a_draw_follows_the_weights() -> None:
    """Of 1,000 draws among weights of 9 and 1, about 900 go to the first."""
    candidates, random = deployments({"weight": 9}, {"weight": 1}), Random(1)
    health = Health(Clock())
    drawn = Counter(choose(candidates, "simple-shuffle", health, random).id for _ in range(1000))
    assert 860 < drawn["d0"] < 940


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        # Realistic
        pytest.param([{"order": 1}, {"order": 2}], {"d0"}, id="lowest"),
        pytest.param([{"order": 2}, {"order": 1}, {"order": 1}], {"d1", "d2"}, id="two-lowest"),
        # Synthetic
        pytest.param([{}, {"order": 7}], {"d1"}, id="none-comes-last"),
        pytest.param([{"order": 0}, {"order": 1}], {"d0"}, id="zero"),
        pytest.param([{}, {}], {"d0", "d1"}, id="none-at-all"),
    ],
)
def test_only_the_lowest_order_counts(fields: list[dict[str, Any]], chosen: set[str]) -> None:
    """Deployments of a higher order wait until there is none of a lower one."""
    health, random = Health(Clock()), Random(2)
    candidates = deployments(*fields)
    drawn = {choose(candidates, "simple-shuffle", health, random).id for _ in range(60)}
    assert drawn == chosen


def busy(health: Health) -> None:
    """Let d0 have two requests under way and d1 one; d2 had three."""
    for deployment_id in ("d0", "d0", "d1", "d2", "d2", "d2"):
        health.begin(deployment_id)
    for _ in range(3):
        health.end("d2", None)


def slow(health: Health) -> None:
    """Let d0 take 0.4 s, d1 0.2 s in the mean, and d2 0.9 s."""
    for deployment_id, seconds in (("d0", 0.4), ("d1", 0.1), ("d1", 0.3), ("d2", 0.9)):
        health.begin(deployment_id)
        health.end(deployment_id, seconds)


@pytest.mark.parametrize(
    ("strategy", "learn", "chosen"),
    [
        pytest.param("least-busy", busy, {"d2"}, id="least-busy"),
        pytest.param("latency-based-routing", slow, {"d1"}, id="fastest"),
        pytest.param("least-busy", slow, {"d0", "d1", "d2"}, id="all-idle"),
        pytest.param("latency-based-routing", busy, {"d0", "d1", "d2"}, id="all-unknown"),
    ],
)
def test_other_strategies_take_the_least(
    strategy: Any, learn: Callable[[Health], None], chosen: set[str]
) -> None:
    """The least busy or the fastest deployment comes first; equals are drawn."""
    health, random = Health(Clock()), Random(3)
    learn(health)
    candidates = deployments({}, {}, {})
    assert {choose(candidates, strategy, health, random).id for _ in range(60)} == chosen


def test_what_is_not_known_is_tried() -> None:
    """A deployment that was not measured for ten minutes comes before measured ones."""
    clock = Clock()
    health = Health(clock)
    slow(health)
    candidates = deployments({}, {})
    assert choose(candidates, "latency-based-routing", health, Random(4)).id == "d1"
    clock.now += 601
    health.end("d1", 0.2)
    assert choose(candidates, "latency-based-routing", health, Random(4)).id == "d0"


def test_the_last_ten_requests_count() -> None:
    """A deployment that was slow once is fast again after ten fast requests."""
    health = Health(Clock())
    for seconds in (9.0, *[0.1] * 10):
        health.begin("d0")
        health.end("d0", seconds)
    assert health.latency_s("d0") == pytest.approx(0.1)
    assert health.busy("d0") == 0
