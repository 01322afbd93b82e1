from dataclasses import replace
from typing import Any

import pytest

from extauthz.routersettings import DEFAULT_ROUTER, RouterSettings
from extauthz.routing.cooldown import Cooldowns
from extauthz.routing.failures import FailureKind
from helpers.authz import OPENAI, Clock

# What one letter stands for in the stories below: a success, a failure, a 429, a 401.
KINDS: dict[str, FailureKind] = {"f": "failed", "l": "rate_limited", "r": "refused"}


def play(
    story: str,
    settings: RouterSettings = DEFAULT_ROUTER,
    *,
    is_alone: bool = False,
    pause_s: float = 0.0,
    **kwargs: Any,
) -> tuple[Cooldowns, Clock, float]:
    """Let requests end as a story says, and return how long the last one cools the deployment."""
    clock = Clock()
    cooldowns = Cooldowns(clock)
    cooled_s = 0.0
    deployment = replace(OPENAI, **kwargs.pop("fields", {}))
    for letter in story:
        clock.now += pause_s
        if letter == "s":
            cooldowns.succeed(deployment.id)
        else:
            retry_after_s = kwargs.get("retry_after_s")
            cooled_s = cooldowns.fail(
                deployment, KINDS[letter], retry_after_s, settings, is_alone=is_alone
            )
    return cooldowns, clock, cooled_s


ALLOWED_TWO = RouterSettings(allowed_fails=2)
ALLOWED_NONE = RouterSettings(allowed_fails=0)
NEVER = RouterSettings(cools=False)


@pytest.mark.parametrize(
    ("story", "settings", "is_alone", "cools"),
    [
        # Realistic
        pytest.param("l", DEFAULT_ROUTER, False, True, id="429-at-once"),
        pytest.param("r", DEFAULT_ROUTER, False, True, id="refused-key-at-once"),
        pytest.param("f", DEFAULT_ROUTER, False, False, id="one-failure"),
        pytest.param("fffff", DEFAULT_ROUTER, False, True, id="five-failures"),
        pytest.param("ffff", DEFAULT_ROUTER, False, False, id="four-failures"),
        pytest.param("ssfff", DEFAULT_ROUTER, False, True, id="three-of-five"),
        pytest.param("sssfff", DEFAULT_ROUTER, False, False, id="half-is-not-more-than-half"),
        pytest.param("sssffff", DEFAULT_ROUTER, False, True, id="four-of-seven"),
        # Synthetic
        pytest.param("ff", ALLOWED_TWO, False, False, id="as-many-as-allowed"),
        pytest.param("fff", ALLOWED_TWO, False, True, id="more-than-allowed"),
        pytest.param("sssssssfff", ALLOWED_TWO, False, True, id="allowed-counts-no-successes"),
        pytest.param("l", ALLOWED_TWO, False, False, id="allowed-429"),
        pytest.param("rrr", ALLOWED_TWO, False, True, id="not-allowed-401"),
        pytest.param("f", ALLOWED_NONE, False, True, id="none-allowed"),
        pytest.param("lrfffff", NEVER, False, False, id="disabled"),
        # Alone in its group
        pytest.param("l", DEFAULT_ROUTER, True, False, id="alone-429"),
        pytest.param("r", DEFAULT_ROUTER, True, False, id="alone-401"),
        pytest.param("f" * 999, DEFAULT_ROUTER, True, False, id="alone-999-failures"),
        pytest.param("f" * 1000, DEFAULT_ROUTER, True, True, id="alone-1000-failures"),
        pytest.param("s" + "f" * 1999, DEFAULT_ROUTER, True, False, id="alone-with-a-success"),
        pytest.param("fff", ALLOWED_TWO, True, True, id="alone-more-than-allowed"),
    ],
)
def test_what_cools(story: str, settings: RouterSettings, is_alone: bool, cools: bool) -> None:
    """A deployment cools by LiteLLM's rules; one that is alone nearly never does."""
    cooldowns, _, cooled_s = play(story, settings, is_alone=is_alone)
    assert cooled_s == (5.0 if cools else 0.0)
    assert cooldowns.left_s(OPENAI.id) == cooled_s
    assert cooldowns.kind(OPENAI.id) == (KINDS[story[-1]] if cools else None)


@pytest.mark.parametrize(
    ("settings", "fields", "retry_after_s", "expected"),
    [
        # Realistic
        pytest.param({}, {}, None, 5, id="default"),
        pytest.param({"cooldown_s": 30.0}, {}, None, 30, id="router"),
        pytest.param({"cooldown_s": 30.0}, {"cooldown_s": 9.0}, None, 9, id="deployment"),
        pytest.param({"cooldown_s": 30.0}, {"cooldown_s": 9.0}, 2, 2, id="retry-after"),
        # Pathological
        pytest.param({}, {}, 3600, 300, id="long-retry-after"),
        pytest.param({}, {}, 0, 5, id="retry-after-zero"),
        pytest.param({}, {"cooldown_s": 0.0}, None, 0, id="no-time-at-all"),
    ],
)
def test_how_long(
    settings: dict[str, Any], fields: dict[str, Any], retry_after_s: float | None, expected: float
) -> None:
    """A provider's retry-after counts, up to five minutes; else the entry's time or the rule's."""
    router = replace(DEFAULT_ROUTER, **settings)
    _, _, cooled_s = play("l", router, fields=fields, retry_after_s=retry_after_s)
    assert cooled_s == expected


def test_a_cooldown_ends() -> None:
    """After its time a deployment is healthy, and judged anew."""
    cooldowns, clock, _ = play("fffff")
    clock.now += 4.99
    assert cooldowns.left_s(OPENAI.id) == pytest.approx(0.01)
    clock.now += 0.02
    assert cooldowns.left_s(OPENAI.id) == 0
    assert cooldowns.kind(OPENAI.id) is None
    assert not cooldowns.fail(OPENAI, "failed", None, DEFAULT_ROUTER, is_alone=False)


def test_a_minute_is_forgotten() -> None:
    """Failures of different minutes do not add up."""
    *_, cooled_s = play("fffff", pause_s=21)
    assert cooled_s == 0
    *_, cooled_s = play("fffff", pause_s=10)
    assert cooled_s == 5


def test_the_longer_cooldown_holds() -> None:
    """What another worker found out does not shorten a cooldown, and may lengthen it."""
    cooldowns, _, _ = play("l", retry_after_s=60)
    cooldowns.impose(OPENAI.id, 5, "failed")
    assert (cooldowns.left_s(OPENAI.id), cooldowns.kind(OPENAI.id)) == (60, "rate_limited")
    cooldowns.impose(OPENAI.id, 90, "failed")
    assert (cooldowns.left_s(OPENAI.id), cooldowns.kind(OPENAI.id)) == (90, "failed")


def test_deployments_cool_apart() -> None:
    """One deployment's failures say nothing about another."""
    cooldowns, _, _ = play("l")
    assert cooldowns.left_s("another") == 0
