"""Whether there is money left, by LiteLLM's comparisons."""

from collections.abc import Iterable
from datetime import datetime

from extauthz.access.errors import BudgetExceededError, Spender
from extauthz.access.models import Wanted
from extauthz.deployments import Deployment
from extauthz.generalsettings import GeneralSettings
from extauthz.keys.model import Budget, Scope, VirtualKey


def check_budgets(
    key: VirtualKey,
    wanted: Wanted,
    deployments: Iterable[Deployment],
    now: datetime,
    settings: GeneralSettings,
) -> bool:
    """Check that no budget of a key and of those it belongs to is used up.

    A budget is used up when the spend reaches it, so that a budget of 0 admits nothing; that of a
    team and that of the proxy, when the spend exceeds it.

    Args:
        key: A key that may use the model.
        wanted: The model.
        deployments: Those that may serve it; if each of them says that it costs nothing, no
            budget refuses.
        now: The current time, with a time zone.
        settings: What an operator can change of the rules.

    Returns:
        Whether all budgets have something left. If not, whatever stands in for these deployments
        must cost nothing, too.

    Raises:
        BudgetExceededError: If one is used up: 422, or 429 by the settings.
    """
    if key.is_master:
        return True
    for spender, budget in _budgets(key, wanted, settings):
        if _is_used_up(budget, now, strictly=spender in {"team", "proxy"}):
            if _are_free(deployments):
                return False
            raise BudgetExceededError(spender, settings.budget_status, key.masked)
    return True


def _are_free(deployments: Iterable[Deployment]) -> bool:
    """Tell whether there are deployments, and each of them says that it costs nothing."""
    found = tuple(deployments)
    return bool(found) and all(deployment.is_free for deployment in found)


def _budgets(
    key: VirtualKey, wanted: Wanted, settings: GeneralSettings
) -> Iterable[tuple[Spender, Budget]]:
    """Give all budgets that hold, in LiteLLM's order."""
    has_team = key.team is not None
    yield from _of("member", key.member)
    yield "key", key.budget
    yield from (
        ("team_window" if window.is_of_team else "window", window.budget) for window in key.windows
    )
    yield from (
        ("model", budget) for name, budget in key.model_budgets.items() if name in wanted.names
    )
    yield from _of("project", key.project)
    yield from _of("team", key.team_scope)
    yield from _of("organization", key.organization)
    if not has_team or settings.user_budget_for_team_keys:
        yield from _of("user", key.user_scope)
    yield "proxy", Budget(key.proxy_spend or 0.0, settings.max_budget)


def _of(spender: Spender, scope: Scope | None) -> Iterable[tuple[Spender, Budget]]:
    if scope is not None:
        yield spender, scope.budget


def _is_used_up(budget: Budget, now: datetime, *, strictly: bool) -> bool:
    if budget.limit is None:
        return False
    limit = budget.limit
    if budget.increase_until is not None and now < budget.increase_until:
        limit += budget.increase
    # What is no number is in no budget.
    is_left = budget.spend <= limit if strictly else budget.spend < limit
    return not is_left
