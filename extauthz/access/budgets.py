"""Whether there is money left, by LiteLLM's comparisons."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from extauthz.access.errors import BudgetExceededError, Spender
from extauthz.access.models import Wanted
from extauthz.deployments import Deployment
from extauthz.generalsettings import GeneralSettings
from extauthz.keys.model import Budget, Scope, VirtualKey

# Whose budget it is, the budget, and `HeldBudget.name` and `HeldBudget.begin`.
_Found = tuple[Spender, Budget, str, datetime | None]


@dataclass(frozen=True, slots=True)
class HeldBudget:
    """A budget that a key is held to, at a moment. Amounts in US dollars.

    Attributes:
        spender: Whose it is.
        spend: What was spent.
        limit: What may be.
        name: Tells several of a spender apart: the duration of a window, the name of a model.
        begin: When the current window has begun; None for what is no window, or slides.
    """

    spender: Spender
    spend: float
    limit: float
    name: str = ""
    begin: datetime | None = None

    @property
    def is_inclusive(self) -> bool:
        """Whether the limit itself may still be spent."""
        return self.spender in {"team", "proxy"}

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        # What is no number is in no budget.
        is_left = self.spend <= self.limit if self.is_inclusive else self.spend < self.limit
        return not is_left


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
    for held in held_budgets(key, wanted, now, settings):
        if held.is_used_up:
            if are_free(deployments):
                return False
            raise BudgetExceededError(held.spender, settings.budget_status, key.masked)
    return True


def are_free(deployments: Iterable[Deployment]) -> bool:
    """Tell whether there are deployments, and each of them says that it costs nothing."""
    found = tuple(deployments)
    return bool(found) and all(deployment.is_free for deployment in found)


def held_budgets(
    key: VirtualKey, wanted: Wanted, now: datetime, settings: GeneralSettings
) -> Iterator[HeldBudget]:
    """Give all budgets with a limit that hold for a key, in LiteLLM's order.

    Args:
        key: The key; the master key has none.
        wanted: The model.
        now: The current time, with a time zone.
        settings: What an operator can change of the rules.
    """
    if key.is_master:
        return
    for spender, budget, name, begin in _budgets(key, wanted, settings):
        limit = budget.limit
        if limit is None:
            continue
        if budget.increase_until is not None and now < budget.increase_until:
            limit += budget.increase
        yield HeldBudget(spender, budget.spend, limit, name, begin)


def _budgets(key: VirtualKey, wanted: Wanted, settings: GeneralSettings) -> Iterator[_Found]:
    has_team = key.team is not None
    yield from _of("member", key.member)
    yield "key", key.budget, "", None
    for window in key.windows:
        spender: Spender = "team_window" if window.is_of_team else "window"
        yield spender, window.budget, window.duration, window.begin
    for name, budget in key.model_budgets.items():
        if name in wanted.names:
            yield "model", budget, name, None
    yield from _of("project", key.project)
    yield from _of("team", key.team_scope)
    yield from _of("organization", key.organization)
    if not has_team or settings.user_budget_for_team_keys:
        yield from _of("user", key.user_scope)
    yield "proxy", Budget(key.proxy_spend or 0.0, settings.max_budget), "", None


def _of(spender: Spender, scope: Scope | None) -> Iterator[_Found]:
    if scope is not None:
        yield spender, scope.budget, "", None
