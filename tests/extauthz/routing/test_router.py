from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random

import pytest

from extauthz.catalogue import Catalogue, Group
from extauthz.deployments import Deployment
from extauthz.routersettings import DEFAULT_ROUTER, RouterSettings
from extauthz.routing import Router
from extauthz.routing.errors import DeploymentsCoolingError
from extauthz.routing.failover import Attempt
from helpers.authz import OPENAI, Clock, Config
from ringback.errors import ApiError
from ringback.upstream import UpstreamFailedError, UpstreamTimeoutError, error_of


@dataclass(frozen=True, slots=True)
class Configured:
    """The part of a configuration that routing goes by."""

    catalogue: Catalogue
    router: RouterSettings = DEFAULT_ROUTER


def deployment(name: str, group: str = "voice", team: str | None = None) -> Deployment:
    """Return a deployment of a group."""
    return replace(OPENAI, id=name, model_name=group, team=team)


class House:
    """A router over a group of ``a`` and ``b`` with a fallback ``c``, and what it told."""

    def __init__(
        self, fallbacks: Mapping[str, tuple[str, ...]] | None = None, *more: Deployment
    ) -> None:
        self.clock = Clock()
        self.told: list[tuple[str, float, str]] = []
        self.group = Group("voice", (deployment("a"), deployment("b")))
        served = (*self.group.deployments, deployment("c", "spare"), *more)
        settings = RouterSettings(
            fallbacks=fallbacks or {}, aliases={"other": "spare", "fast": "voice"}
        )
        configured = Configured(Catalogue(Config(served, settings.aliases)), settings)
        self.router = Router(
            lambda: configured,
            on_cooled=lambda *told: self.told.append(told),
            clock=self.clock,
            draw=Random(5),
        )

    def ids(self, team: str | None = None) -> list[str]:
        """Return who would be asked, if everybody failed."""
        return [attempt.deployment.id for attempt in self.attempts(team)]

    def attempts(self, team: str | None = None) -> list[Attempt]:
        """Return all attempts of a plan."""
        plan = self.router.plan(self.group, team)
        return list(iter(plan.next, None))

    def end(self, attempt: Attempt, error: BaseException | None = None, took_s: float = 0) -> None:
        """Let an attempt end."""
        with suppress(BaseException), self.router.watch(attempt):
            self.clock.now += took_s
            if error is not None:
                raise error


@pytest.mark.parametrize(
    ("fallbacks", "team", "tail"),
    [
        # Realistic
        pytest.param({}, None, [], id="none"),
        pytest.param({"voice": ("spare",)}, None, ["c"], id="of-the-group"),
        pytest.param({"*": ("spare",)}, None, ["c"], id="of-any-group"),
        pytest.param({"voice": ("other",)}, None, ["c"], id="by-alias"),
        # Synthetic
        pytest.param({"voice": (), "*": ("spare",)}, None, [], id="own-ones-replace-any"),
        pytest.param({"chat": ("spare",)}, None, [], id="of-another-group"),
        pytest.param({"voice": ("gone", "spare")}, None, ["c"], id="one-is-not-served"),
        pytest.param({"voice": ("voice", "spare")}, None, ["c"], id="itself"),
        pytest.param({"voice": ("theirs",)}, None, [], id="of-a-team"),
        pytest.param({"voice": ("theirs",)}, "t", ["d"], id="of-the-callers-team"),
    ],
)
def test_fallbacks_follow(
    fallbacks: Mapping[str, tuple[str, ...]], team: str | None, tail: list[str]
) -> None:
    """After the deployments of the group come those of its fallbacks that the team sees."""
    ids = House(fallbacks, deployment("d", "theirs", "t")).ids(team)
    assert sorted(ids[:2]) == ["a", "b"]
    assert ids[2:] == tail


def test_an_alias_of_the_group_is_no_fallback() -> None:
    """A key that may use only some deployments of a group gets no others by a detour."""
    house = House({"voice": ("fast", "spare")})
    allowed = Group(house.group.name, house.group.deployments[:1])
    plan = house.router.plan(allowed, None)
    attempts = iter(plan.next, None)
    assert [attempt.deployment.id for attempt in attempts] == ["a", "c"]


def test_who_has_no_money_left_falls_back_to_what_costs_nothing() -> None:
    """Where nothing may be spent, groups that may cost something are passed over as a whole."""
    free = replace(deployment("d", "gratis"), is_free=True)
    mixed = [replace(deployment("e", "mixed"), is_free=True), deployment("f", "mixed")]
    house = House({"voice": ("spare", "mixed", "gratis")}, free, *mixed)
    plan = house.router.plan(house.group, None, may_spend=False)
    ids = [attempt.deployment.id for attempt in iter(plan.next, None)]
    assert (sorted(ids[:2]), ids[2:]) == (["a", "b"], ["d"])


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        pytest.param("b", ["b"], id="one"),
        pytest.param("ac", ["a", "c"], id="a-fallback-too"),
        pytest.param("c", ["c"], id="a-fallback-alone"),
        pytest.param("", ["a", "b", "c"], id="none"),
    ],
)
def test_only_those_are_asked_that_can(able: str, expected: list[str]) -> None:
    """What a deployment has no word for goes to others; if nobody has, somebody says so."""
    house = House({"voice": ("spare",)})
    plan = house.router.plan(house.group, None, lambda deployment: deployment.id in able)
    assert sorted(attempt.deployment.id for attempt in iter(plan.next, None)) == expected


def test_a_cooled_deployment_is_not_asked() -> None:
    """After a 429 the other deployment is asked alone, until the cooldown ends; all are told."""
    house = House()
    (first, second) = house.attempts()
    house.end(first, error_of(429, {"retry-after": "7"}, b""))
    assert house.ids() == [second.deployment.id]
    assert house.told == [(first.deployment.id, 7, "rate_limited")]
    house.clock.now += 7
    assert sorted(house.ids()) == ["a", "b"]


@pytest.mark.parametrize(
    ("errors", "wait_s", "status"),
    [
        pytest.param((429, 429), 4, 429, id="limited"),
        pytest.param((429, 401), 4, 503, id="limited-and-refused"),
        pytest.param((401, 401), 5, 503, id="refused"),
    ],
)
def test_if_all_cool_the_shortest_wait_is_told(
    errors: tuple[int, int], wait_s: int, status: int
) -> None:
    """Nobody is asked while all cool; the caller learns when the first one will be."""
    house = House()
    for attempt, answer, retry_after in zip(house.attempts(), errors, ("4", "60"), strict=True):
        house.end(attempt, error_of(answer, {"retry-after": retry_after}, b""))
    assert house.ids() == []
    error = house.router.nobody(house.group.deployments)
    assert (error.http_status, error.code) == (status, "deployments_cooling")
    assert error.headers == {"retry-after": str(wait_s)}
    assert f"Try again in {wait_s} s" in str(error)


def test_one_model_of_a_wildcard_says_little_about_the_others() -> None:
    """The provider's no to a model that a caller has chosen cools the deployment only with many."""
    wildcard = (deployment("w", "openai/*"), deployment("v", "openai/*"))
    house = House(None, *wildcard)
    group = Group(
        "openai/gpt-odd", tuple(replace(d, model_name="openai/gpt-odd") for d in wildcard)
    )
    plan = house.router.plan(group, None)
    attempt = plan.next()
    assert attempt
    for status in (403, 429, 401, 403):
        house.end(attempt, error_of(status, {}, b""))
    assert house.told == []
    house.end(attempt, error_of(403, {}, b""))
    assert [told[0] for told in house.told] == [attempt.deployment.id]


def test_callers_mistakes_and_leave_say_nothing() -> None:
    """A thousand requests that the provider finds wrong, or that callers give up, cool nothing."""
    house = House()
    for _ in range(500):
        attempt = house.attempts()[0]
        house.end(attempt, error_of(400, {}, b""))
        house.end(attempt, error_of(404, {}, b""))
        house.end(attempt, KeyboardInterrupt())
    assert house.told == []
    assert sorted(house.ids()) == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "known_s"),
    [
        pytest.param(None, 2, id="success"),
        pytest.param(UpstreamTimeoutError(), 2, id="timeout"),
        pytest.param(UpstreamFailedError(), 0, id="failure"),
        pytest.param(error_of(400, {}, b""), 0, id="callers-mistake"),
    ],
)
def test_successes_and_timeouts_tell_how_fast(error: ApiError | None, known_s: float) -> None:
    """The time of a success counts, and of a timeout; a failure may be quick and is not fast."""
    house = House()
    attempt = house.attempts()[0]
    house.end(attempt, error, took_s=2)
    health = house.router._health
    assert health.latency_s(attempt.deployment.id) == known_s
    assert health.busy(attempt.deployment.id) == 0


def test_one_try_goes_to_a_healthy_deployment() -> None:
    """Where nobody will see how it ends, one is chosen that is not left alone."""
    house = House()
    (first, second) = house.attempts()
    house.end(first, error_of(429, {}, b""))
    for _ in range(20):
        assert house.router.choose(house.group.deployments) == second.deployment
    house.end(second, error_of(429, {}, b""))
    with pytest.raises(DeploymentsCoolingError):
        house.router.choose(house.group.deployments)


def test_a_router_without_configuration() -> None:
    """Without a configuration there are no fallbacks, and LiteLLM's defaults hold."""
    plan = Router().plan(Group("voice", (OPENAI,)), None)
    assert (attempt := plan.next()) is not None
    assert attempt.deployment is OPENAI
    assert plan.next() is None
