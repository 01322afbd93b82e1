from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from extauthz.access import Wanted, check_budgets
from extauthz.access.errors import BudgetExceededError, Spender
from extauthz.generalsettings import GeneralSettings
from extauthz.keys import Budget, BudgetWindow, Scope, VirtualKey
from helpers.authz import OPENAI

NOW = datetime(2027, 1, 31, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
KEY = VirtualKey("ab" * 32)
TEAM_KEY = replace(KEY, team="t")
WANTED = Wanted("voice", "voice", frozenset({"voice"}), (OPENAI,))
PLAIN = GeneralSettings()
OVER = Scope("x", budget=Budget(2.0, 1.0))
EVEN = Scope("x", budget=Budget(1.0, 1.0))
UNDER = Scope("x", budget=Budget(0.5, 1.0))


def raised(limit: float, until: datetime | None) -> VirtualKey:
    """Return a key that has spent 1.5 of 1, whose budget is raised for a time."""
    return replace(KEY, budget=Budget(1.5, 1.0, increase=limit, increase_until=until))


@pytest.mark.parametrize(
    ("key", "settings", "spender"),
    [
        # Realistic
        pytest.param(KEY, PLAIN, None, id="no-budget"),
        pytest.param(replace(KEY, budget=Budget(0.9, 1.0)), PLAIN, None, id="key-under"),
        pytest.param(replace(KEY, budget=Budget(1.0, 1.0)), PLAIN, "key", id="key-even"),
        pytest.param(replace(KEY, budget=Budget(2.0, 1.0)), PLAIN, "key", id="key-over"),
        pytest.param(replace(KEY, budget=Budget(0.0, 0.0)), PLAIN, "key", id="key-zero"),
        pytest.param(raised(1.0, NOW + MOMENT), PLAIN, None, id="increase"),
        pytest.param(raised(1.0, NOW), PLAIN, "key", id="increase-is-over"),
        pytest.param(raised(1.0, None), PLAIN, "key", id="increase-without-an-end"),
        pytest.param(raised(0.5, NOW + MOMENT), PLAIN, "key", id="increase-reached"),
        pytest.param(
            replace(KEY, windows=(BudgetWindow("1h", Budget(1.0, 2.0)),)), PLAIN, None, id="window"
        ),
        pytest.param(
            replace(
                KEY,
                windows=(
                    BudgetWindow("1h", Budget(1.0, 2.0)),
                    BudgetWindow("30d", Budget(9.0, 9.0)),
                ),
            ),
            PLAIN,
            "window",
            id="one-of-two-windows",
        ),
        pytest.param(
            replace(TEAM_KEY, windows=(BudgetWindow("1d", Budget(1.0, 1.0), is_of_team=True),)),
            PLAIN,
            "team_window",
            id="window-of-the-team",
        ),
        pytest.param(
            replace(KEY, model_budgets={"voice": Budget(1.0, 1.0)}), PLAIN, "model", id="model"
        ),
        pytest.param(
            replace(KEY, model_budgets={"chat": Budget(9.0, 1.0)}), PLAIN, None, id="another-model"
        ),
        pytest.param(replace(TEAM_KEY, team_scope=EVEN), PLAIN, None, id="team-even"),
        pytest.param(replace(TEAM_KEY, team_scope=OVER), PLAIN, "team", id="team-over"),
        pytest.param(replace(TEAM_KEY, member=UNDER), PLAIN, None, id="member-under"),
        pytest.param(replace(TEAM_KEY, member=EVEN), PLAIN, "member", id="member-even"),
        pytest.param(replace(KEY, user_scope=UNDER), PLAIN, None, id="user-under"),
        pytest.param(replace(KEY, user_scope=EVEN), PLAIN, "user", id="user-even"),
        pytest.param(replace(TEAM_KEY, user_scope=OVER), PLAIN, None, id="user-of-a-team-key"),
        pytest.param(
            replace(TEAM_KEY, user_scope=EVEN),
            GeneralSettings(user_budget_for_team_keys=True),
            "user",
            id="user-of-a-team-key-by-setting",
        ),
        pytest.param(replace(KEY, organization=EVEN), PLAIN, "organization", id="organization"),
        pytest.param(replace(KEY, project=EVEN), PLAIN, "project", id="project"),
        pytest.param(
            replace(KEY, proxy_spend=5.0), GeneralSettings(max_budget=5.0), None, id="proxy-even"
        ),
        pytest.param(
            replace(KEY, proxy_spend=5.1), GeneralSettings(max_budget=5.0), "proxy", id="proxy-over"
        ),
        pytest.param(KEY, GeneralSettings(max_budget=5.0), None, id="proxy-spend-not-known"),
        # Synthetic: the first in LiteLLM's order is told
        pytest.param(
            replace(TEAM_KEY, member=OVER, budget=OVER.budget), PLAIN, "member", id="member-first"
        ),
        pytest.param(
            replace(TEAM_KEY, budget=OVER.budget, team_scope=OVER), PLAIN, "key", id="key-then-team"
        ),
        pytest.param(
            replace(TEAM_KEY, project=OVER, team_scope=OVER), PLAIN, "project", id="then-project"
        ),
        pytest.param(
            replace(TEAM_KEY, organization=OVER, team_scope=OVER), PLAIN, "team", id="then-team"
        ),
        # Pathological
        pytest.param(replace(KEY, is_master=True, budget=OVER.budget), PLAIN, None, id="master"),
        pytest.param(replace(KEY, budget=Budget(float("inf"), 1.0)), PLAIN, "key", id="infinite"),
        pytest.param(replace(KEY, budget=Budget(float("nan"), 1.0)), PLAIN, "key", id="no-number"),
        pytest.param(replace(KEY, budget=Budget(-1.0, 0.0)), PLAIN, None, id="negative-spend"),
    ],
)
def test_a_budget_is_used_up(
    key: VirtualKey, settings: GeneralSettings, spender: Spender | None
) -> None:
    """A budget is used up when it is reached; that of a team and of the proxy, when exceeded."""
    if spender is None:
        assert check_budgets(key, WANTED, (OPENAI,), NOW, settings)
    else:
        with pytest.raises(BudgetExceededError) as refused:
            check_budgets(key, WANTED, (OPENAI,), NOW, settings)
        assert refused.value.spender == spender
        assert refused.value.http_status == 422


def test_models_that_cost_nothing_need_no_budget() -> None:
    """Where each deployment is free, no budget refuses; one that may cost counts."""
    key, free = replace(KEY, budget=OVER.budget), replace(OPENAI, is_free=True)
    assert check_budgets(key, WANTED, (free, free), NOW, PLAIN) is False
    assert check_budgets(KEY, WANTED, (free, free), NOW, PLAIN) is True
    for deployments in ((free, OPENAI), ()):
        with pytest.raises(BudgetExceededError):
            check_budgets(key, WANTED, deployments, NOW, PLAIN)


def test_the_status_is_a_setting() -> None:
    """``budget_exceeded_status_code`` replaces 422."""
    with pytest.raises(BudgetExceededError) as refused:
        check_budgets(
            replace(KEY, budget=OVER.budget), WANTED, (), NOW, GeneralSettings(budget_status=429)
        )
    assert refused.value.http_status == 429
