from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from extauthz.catalogue import Catalogue, Group
from extauthz.deployments import Deployment
from extauthz.routersettings import RouterSettings, Strategy
from extauthz.routing import Router
from extauthz.routing.cooldown import Cooldowns
from helpers.authz import OPENAI, Clock, Config

MANY = 10_000
STRATEGIES: tuple[Strategy, ...] = ("simple-shuffle", "least-busy", "latency-based-routing")


def group(count: int, **fields: Any) -> Group:
    """Return a group of deployments ``0``, ``1`` and so on."""
    members = (replace(OPENAI, id=str(number), **fields) for number in range(count))
    return Group("voice", tuple(members))


@dataclass(frozen=True, slots=True)
class Configured:
    """The part of a configuration that routing goes by."""

    router: RouterSettings
    catalogue: Catalogue


class House:
    """A router, of which some deployments can be cooled."""

    def __init__(self, strategy: Strategy = "simple-shuffle") -> None:
        clock = Clock()
        self.cooldowns = Cooldowns(clock)
        configured = Configured(RouterSettings(strategy=strategy), Catalogue(Config((OPENAI,))))
        self.router = Router(
            lambda: configured, cooldowns=self.cooldowns, clock=clock, draw=Random(7)
        )

    def cool(self, *names: str) -> None:
        """Leave deployments alone."""
        for name in names:
            self.cooldowns.impose(name, 60, "failed")

    def first(self, of: Group) -> str | None:
        """Return who would be asked first."""
        attempt = self.router.plan(of, None).next()
        return None if attempt is None else attempt.deployment.id


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_of_many_only_a_few_are_looked_at(strategy: Strategy) -> None:
    """A plan for 10,000 deployments takes no more than one for a hundred."""
    looked_at: Counter[str] = Counter()

    def suits(deployment: Deployment) -> bool:
        looked_at[deployment.id] += 1
        return True

    plan = House(strategy).router.plan(group(MANY), None, suits)
    asked = [plan.next() for _ in range(3)]

    assert len({attempt.deployment.id for attempt in asked if attempt}) == 3
    assert looked_at.total() < 30


def test_many_are_drawn_by_their_weights() -> None:
    """The heavy half of a hundred gets nine of ten, whether some of it cool or not."""
    members = group(100).deployments
    weighted = Group("voice", tuple(replace(m, weight=9 if int(m.id) % 2 else 1) for m in members))
    house = House()
    house.cool("0", "1", "2", "3")
    drawn = Counter(house.first(weighted) for _ in range(4000))

    heavy = sum(count for name, count in drawn.items() if name and int(name) % 2)
    assert 0.88 < heavy / drawn.total() < 0.92
    assert drawn.keys() <= {str(number) for number in range(4, 100)}
    assert len(drawn) > 90


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_last_healthy_one_of_many_is_found(strategy: Strategy) -> None:
    """Where nearly all are left alone, the others are asked all the same; where all are, nobody."""
    house, many = House(strategy), group(100)
    house.cool(*(str(number) for number in range(99)))
    assert house.first(many) == "99"
    house.cool("99")
    assert house.first(many) is None


def test_a_higher_order_waits() -> None:
    """Of many, those of the lowest order are asked until all of them are left alone."""
    house = House()
    members = group(100).deployments
    ordered = Group("voice", tuple(replace(m, order=1 if int(m.id) < 3 else 2) for m in members))
    assert {house.first(ordered) for _ in range(50)} == {"0", "1", "2"}
    house.cool("0", "1", "2")
    assert {house.first(ordered) for _ in range(50)}.isdisjoint({None, "0", "1", "2"})


def test_what_weighs_nothing_is_asked_when_nothing_else_is_left() -> None:
    """Weights are those of who may be asked: without any weight among them, all weigh the same."""
    house = House()
    members = group(100).deployments
    drained = Group("voice", tuple(replace(m, weight=1 if int(m.id) < 2 else 0) for m in members))
    assert {house.first(drained) for _ in range(50)} == {"0", "1"}
    house.cool("0", "1")
    assert len({house.first(drained) for _ in range(50)}) > 20


def test_the_idle_come_before_the_busy() -> None:
    """Of many the least busy is found, also when none is idle."""
    house, many = House("least-busy"), group(64)
    for member in many.deployments:
        for _ in range(1 if member.id == "5" else 2):
            house.router._health.begin(member.id)
    assert {house.first(many) for _ in range(20)} == {"5"}
    house.router._health.end("7", None)
    house.router._health.end("7", None)
    assert {house.first(many) for _ in range(20)} == {"7"}


def test_a_new_configuration_has_a_lottery_of_its_own() -> None:
    """What was known of an earlier group of the same name is not used for a later one."""
    house = House()
    for number in range(600):
        one = Group(
            "voice", tuple(replace(m, id=f"{number}-{m.id}") for m in group(40).deployments)
        )
        first = house.first(one)
        assert first
        assert first.startswith(f"{number}-")
