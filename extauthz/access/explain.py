"""What a key may do for a model and why not: every rule that a request passes, one by one.

The rules are those of the service; here each of them is asked, also behind one that refuses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from extauthz.access.budgets import check_budgets
from extauthz.access.errors import BudgetExceededError, ModelDeniedError
from extauthz.access.identity import check_key, check_owners
from extauthz.access.models import Wanted, check_model, resolve
from extauthz.access.routes import check_route
from extauthz.catalogue import Catalogue
from extauthz.deployments import Deployment
from extauthz.errors import ModelRequiredError, UnknownModelError
from extauthz.generalsettings import GeneralSettings
from extauthz.keys.model import Budget, Scope, VirtualKey
from extauthz.limits.errors import RateLimitedError, TooManyAtOnceError
from extauthz.limits.rules import WINDOW_S, parallel_counters, rate_counters
from ringback.calllimits import dollars
from ringback.contract import CALLS_PATHS, CLIENT_SECRETS_PATHS
from ringback.errors import ApiError

_MAX_NAMES: Final = 12


@dataclass(frozen=True, slots=True)
class Step:
    """One rule, and what it says.

    Attributes:
        name: A stable word.
        outcome: ``ok``, ``refused``, or ``skipped`` if another refusal leaves nothing to ask.
        text: Why, for an operator; it names lists and sums that no caller is told.
        status: The status of the answer to a request that this rule refuses.
        code: Its ``error.code``.
    """

    name: str
    outcome: Literal["ok", "refused", "skipped"]
    text: str
    status: int | None = None
    code: str | None = None


def refused(name: str, error: ApiError, *details: str) -> Step:
    """Return the step of a rule that has raised its error."""
    text = " ".join((str(error), *details))
    return Step(name, "refused", text, error.http_status, error.code)


def explain(
    key: VirtualKey,
    model: str | None,
    catalogue: Catalogue,
    now: datetime,
    settings: GeneralSettings,
) -> tuple[Step, ...]:
    """Return what every rule says about a request; it would be refused if any of them refuses.

    Nothing is counted, so what is left of a limit is not told.

    Args:
        key: What a key source has found.
        model: What the request would name; None to name none.
        catalogue: What is served.
        now: The current time, with a time zone.
        settings: What an operator can change of the rules.
    """
    name = model or catalogue.only_realtime_group(key.team)
    wanted = None if name is None else resolve(key, name, catalogue)
    return (
        _ask("key", lambda: check_key(key, now), _validity(key)),
        _route(key),
        _ask("owners", lambda: check_owners(key), _owners(key)),
        *_about_model(key, wanted, now, settings),
    )


def _ask(name: str, check: Callable[[], object], text: str) -> Step:
    try:
        check()
    except ApiError as error:
        return refused(name, error)
    return Step(name, "ok", text)


def _validity(key: VirtualKey) -> str:
    if key.expires is None:
        return "not blocked; never expires"
    return f"not blocked; expires at {key.expires:%Y-%m-%dT%H:%M:%SZ}"


def _owners(key: VirtualKey) -> str:
    known = [
        f"{word} {scope.id}"
        for word, scope in (
            ("team", key.team_scope),
            ("user", key.user_scope),
            ("organization", key.organization),
            ("project", key.project),
        )
        if scope is not None
    ]
    unknown = [
        f"{word} {name}, of which nothing else is known"
        for word, name, scope in (
            ("team", key.team, key.team_scope),
            ("user", key.user, key.user_scope),
        )
        if name is not None and scope is None
    ]
    return "; ".join([*known, *unknown]) or "belongs to nobody"


def _route(key: VirtualKey) -> Step:
    paths = sorted(CLIENT_SECRETS_PATHS | CALLS_PATHS)
    admitted = [path for path in paths if _is_open(key, path)]
    if admitted == paths:
        return Step("route", "ok", "every path")
    if admitted:
        return Step("route", "ok", f"only {_list(admitted)}")
    return _ask("route", lambda: check_route(key, *paths), "")


def _is_open(key: VirtualKey, path: str) -> bool:
    return _ask("route", lambda: check_route(key, path), "").outcome == "ok"


def _about_model(
    key: VirtualKey, wanted: Wanted | None, now: datetime, settings: GeneralSettings
) -> Iterator[Step]:
    if wanted is None:
        yield refused("model", ModelRequiredError())
        return
    deployments: tuple[Deployment, ...] = ()
    try:
        deployments = check_model(key, wanted)
        yield Step("model", "ok", _admitting(key, wanted))
    except ModelDeniedError as error:
        yield refused("model", error, f"Refused by the list of the {error.refuser}:", _lists(key))
    yield _budgets(key, wanted, deployments, now, settings)
    if wanted.group is None:
        yield refused("deployments", UnknownModelError())
    elif deployments:
        yield Step("deployments", "ok", _list([f"{d.id} at {d.origin}" for d in deployments]))
    else:
        yield Step("deployments", "skipped", "none for this key")
    yield _limits(key, wanted)


def _admitting(key: VirtualKey, wanted: Wanted) -> str:
    group = "nothing that is served" if wanted.group is None else f"group {wanted.group}"
    alias = ", by an alias of the team" if wanted.is_team_alias else ""
    return f"{wanted.asked} is {group}{alias}; lists: {_lists(key)}"


def _lists(key: VirtualKey) -> str:
    found: list[tuple[str, tuple[str, ...]]] = [("key", key.models)]
    found += [(word, scope.models) for word, scope in _scopes(key) if word != "organization"]
    shown = [f"{word} {_list(models) if models else 'all'}" for word, models in found]
    groups = [group.id for group in key.access_groups]
    return "; ".join([*shown, *([f"access groups {_list(groups)}"] if groups else [])])


def _budgets(
    key: VirtualKey,
    wanted: Wanted,
    deployments: tuple[Deployment, ...],
    now: datetime,
    settings: GeneralSettings,
) -> Step:
    found = [("key", key.budget)]
    found += [
        (f"{'team' if window.is_of_team else 'key'} for {window.duration}", window.budget)
        for window in key.windows
    ]
    found += [(f"key for {name}", budget) for name, budget in key.model_budgets.items()]
    found += [(word, scope.budget) for word, scope in _scopes(key)]
    found.append(("proxy", Budget(key.proxy_spend or 0.0, settings.max_budget)))
    shown = "; ".join(
        f"{word} {budget.spend:g} of {budget.limit:g} USD"
        for word, budget in found
        if budget.limit is not None
    )
    try:
        check_budgets(key, wanted, deployments, now, settings)
    except BudgetExceededError as error:
        return refused("budgets", error, f"Spent: {shown}.")
    return Step("budgets", "ok", shown or "none")


def _limits(key: VirtualKey, wanted: Wanted) -> Step:
    group = wanted.group or wanted.asked
    shown = []
    for counter in rate_counters(key, group, wanted.asked, *wanted.names):
        if counter.limit <= 0:
            return refused("limits", RateLimitedError(counter, WINDOW_S))
        scope = " for the model" if counter.is_of_model else ""
        shown.append(f"{counter.holder} {counter.limit} per minute{scope}")
    for counter in parallel_counters(key):
        if counter.limit <= 0:
            return refused("limits", TooManyAtOnceError(counter))
        shown.append(f"{counter.holder} {counter.limit} at once")
    if key.max_open_calls is not None:
        shown.append(f"key {key.max_open_calls} open calls, where they are supervised")
    shown += _call_limits(key)
    return Step("limits", "ok", "; ".join(shown) or "none")


def _call_limits(key: VirtualKey) -> Iterator[str]:
    """Give what each call of a key is held to, where calls are supervised."""
    limits = key.call_limits
    if limits.max_duration_s is not None:
        yield f"each call {limits.max_duration_s:g} s"
    if limits.idle_s is not None:
        yield f"each call {limits.idle_s:g} s of silence"
    if (cost := dollars(limits.max_cost_microdollars)) is not None:
        yield f"each call {cost:g} USD"


def _scopes(key: VirtualKey) -> Iterator[tuple[str, Scope]]:
    for word, scope in (
        ("team", key.team_scope),
        ("member", key.member),
        ("user", key.user_scope),
        ("organization", key.organization),
        ("project", key.project),
    ):
        if scope is not None:
            yield word, scope


def _list(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
