"""A row of the query for a key, as a virtual key. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from extauthz.keys.budgetwindows import parse_windows
from extauthz.keys.model import AccessGroup, Budget, BudgetWindow, Limits, Scope, VirtualKey
from extauthz.keys.ownmetadata import (
    join_policies,
    parse_call_limits,
    parse_own_count,
    parse_sdp_policy,
    parse_session_lock,
)
from extauthz.keys.rowvalues import (
    BadRowError,
    RowValues,
    parse_count,
    parse_iso_time,
    parse_limit,
    parse_mapping,
    parse_money,
    parse_names,
    parse_text,
)
from ringback.calllimits import NO_LIMITS, CallLimits, strictest
from ringback.sessionlock import NO_LOCK, SessionLock

_T = TypeVar("_T")

_MASKED: Final = re.compile(r"sk-\.\.\.\S{4}")


@dataclass(frozen=True, slots=True)
class Owners:
    """What belongs to somebody who has no key in the database: fields as in `VirtualKey`."""

    team_scope: Scope | None = None
    team_aliases: Mapping[str, str] | None = None
    member: Scope | None = None
    user_scope: Scope | None = None
    organization: Scope | None = None
    access_groups: tuple[AccessGroup, ...] = ()
    windows: tuple[BudgetWindow, ...] = ()
    proxy_spend: float | None = None
    sdp_policy: str | None = None
    call_limits: CallLimits = NO_LIMITS
    session_lock: SessionLock = NO_LOCK

    def of(self, key: VirtualKey) -> VirtualKey:
        """Return a key that is held to them as well."""
        return replace(
            key,
            team_scope=self.team_scope,
            team_aliases=self.team_aliases or {},
            member=self.member,
            user_scope=self.user_scope,
            organization=self.organization,
            access_groups=(*key.access_groups, *self.access_groups),
            windows=(*key.windows, *self.windows),
            proxy_spend=self.proxy_spend,
            sdp_policy=join_policies(key.sdp_policy, self.sdp_policy),
            call_limits=strictest(key.call_limits, self.call_limits),
            session_lock=self.session_lock | key.session_lock,
        )


def parse_key(row: Mapping[str, Any], now: datetime) -> VirtualKey:
    """Return the key in a row.

    Args:
        row: Of `Query.key`, by column.
        now: The current time, with a time zone.

    Raises:
        BadRowError: If any value is not what LiteLLM writes: nobody can tell what the key may do.
    """
    values = RowValues(row)
    key_hash = values.text("key_token")
    if key_hash is None:
        raise BadRowError("key_token", "the hash of a key")
    metadata = _metadata(values, "key")
    key = VirtualKey(
        hash=key_hash,
        alias=values.text("key_key_alias"),
        masked=_masked(values.text("key_key_name")),
        models=values.names("key_models"),
        expires=values.time("key_expires"),
        blocked=values.flag("key_blocked"),
        team=values.text("key_team_id"),
        user=values.text("key_user_id"),
        sdp_policy=parse_sdp_policy(metadata, "key"),
        token_lifetime_s=parse_own_count(metadata, "token_lifetime_s"),
        max_open_calls=parse_own_count(metadata, "max_open_calls"),
        call_limits=parse_call_limits(metadata, "key"),
        session_lock=parse_session_lock(metadata, "key"),
        aliases=values.mapping("key_aliases", parse_text),
        allowed_routes=values.names("key_allowed_routes"),
        budget=_key_budget(values, metadata),
        windows=parse_windows(values, "key", now),
        model_budgets=_model_budgets(values),
        limits=Limits(
            rpm=_first(values.count("key_rpm_limit"), values.count("key_budget_rpm_limit")),
            # Not inherited from the budget, as in LiteLLM.
            parallel=values.count("key_max_parallel_requests"),
            model_rpm=_model_rpm(metadata, "key"),
        ),
        project=_project(values),
    )
    return parse_owners(row, now).of(key)


def parse_owners(row: Mapping[str, Any], now: datetime) -> Owners:
    """Return those to whom a row's team and user belong.

    Args:
        row: Of `Query.key` or `Query.owners`, by column.
        now: The current time, with a time zone.

    Raises:
        BadRowError: If any value is not what LiteLLM writes.
    """
    values = RowValues(row)
    team = _metadata(values, "team")
    return Owners(
        team_scope=_team(values, team),
        team_aliases=values.mapping("team_models_aliases", parse_text),
        member=_member(values),
        user_scope=_user(values),
        organization=_organization(values),
        access_groups=_access_groups(values),
        windows=parse_windows(values, "team", now),
        proxy_spend=parse_money(row.get("proxy_spend"), "proxy_spend"),
        sdp_policy=parse_sdp_policy(team, "team"),
        call_limits=parse_call_limits(team, "team"),
        session_lock=parse_session_lock(team, "team"),
    )


def _key_budget(values: RowValues, metadata: Mapping[str, Any]) -> Budget:
    increase = parse_money(
        metadata.get("temp_budget_increase"), "key_metadata.temp_budget_increase"
    )
    until = parse_iso_time(metadata.get("temp_budget_expiry"), "key_metadata.temp_budget_expiry")
    return Budget(
        values.spend("key_spend"),
        values.limit("key_max_budget", values.limit("key_budget_max_budget")),
        increase or 0.0,
        until if increase else None,
    )


def _model_budgets(values: RowValues) -> dict[str, Budget]:
    """Return budgets for single models; LiteLLM does not keep what was spent of them."""
    budgets = values.mapping("key_model_max_budget", _model_budget)
    return budgets or values.mapping("key_budget_model_max_budget", _model_budget)


def _model_budget(entry: Any, place: str) -> Budget | None:
    if isinstance(entry, dict):
        # Old and new names of one thing.
        entry = _first(entry.get("budget_limit"), entry.get("max_budget"))
    limit = parse_limit(entry, place)
    return None if limit is None else Budget(limit=limit)


def _team(values: RowValues, metadata: Mapping[str, Any]) -> Scope | None:
    team = values.text("key_team_id")
    if team is None:
        return None
    if values.text("team_team_id") is None:
        return Scope(team, exists=False)
    return Scope(
        team,
        models=values.names("team_models"),
        budget=Budget(values.spend("team_spend"), values.limit("team_max_budget")),
        limits=Limits(values.count("team_rpm_limit"), model_rpm=_model_rpm(metadata, "team")),
        blocked=values.flag("team_blocked"),
    )


def _member(values: RowValues) -> Scope | None:
    team, user = values.text("key_team_id"), values.text("member_user_id")
    if team is None or user is None:
        return None
    # For all members alike, 0 means that there is none; for one of them, that nothing is left.
    for_all = values.limit("default_budget_max_budget") or None
    limit = values.limit("member_budget_max_budget", for_all)
    increase = values.spend("member_budget_temp_budget_increase")
    until = values.time("member_budget_temp_budget_expiry")
    return Scope(
        f"{user}:{team}",
        models=values.names("member_budget_allowed_models"),
        budget=Budget(values.spend("member_spend"), limit, increase, until if increase else None),
        limits=Limits(values.count("member_budget_rpm_limit")),
    )


def _user(values: RowValues) -> Scope | None:
    user = values.text("key_user_id")
    if user is None:
        return None
    if values.text("user_user_id") is None:
        return Scope(user, exists=False)
    return Scope(
        user,
        models=values.names("user_models"),
        budget=Budget(values.spend("user_spend"), values.limit("user_max_budget")),
        limits=Limits(values.count("user_rpm_limit")),
        blocked=_is_inactive(_metadata(values, "user").get("scim_active")),
    )


def _is_inactive(scim_active: Any) -> bool:
    if isinstance(scim_active, str):
        return scim_active.strip().lower() == "false"
    if scim_active is not None and not isinstance(scim_active, bool):
        raise BadRowError("user_metadata.scim_active", "true or false")
    return scim_active is False


def _organization(values: RowValues) -> Scope | None:
    name = values.text("key_organization_id") or values.text("team_organization_id")
    if name is None:
        return None
    return Scope(
        name,
        budget=Budget(
            values.spend("organization_spend"), values.limit("organization_budget_max_budget")
        ),
        limits=Limits(values.count("organization_budget_rpm_limit")),
        exists=values.text("organization_organization_id") is not None,
    )


def _project(values: RowValues) -> Scope | None:
    name = values.text("key_project_id")
    if name is None:
        return None
    return Scope(
        name,
        models=values.names("project_models"),
        budget=Budget(values.spend("project_spend"), values.limit("project_budget_max_budget")),
        limits=Limits(
            values.count("project_budget_rpm_limit"),
            model_rpm=values.mapping("project_model_rpm_limit", parse_count),
        ),
        blocked=values.flag("project_blocked"),
        exists=values.text("project_project_id") is not None,
    )


def _access_groups(values: RowValues) -> tuple[AccessGroup, ...]:
    of_key = values.names("key_access_group_ids")
    of_team = values.names("team_access_group_ids")
    return tuple(
        AccessGroup(
            group["id"],
            models=parse_names(group["models"], "access_groups.models"),
            teams=parse_names(group["teams"], "access_groups.teams"),
            keys=parse_names(group["keys"], "access_groups.keys"),
            of_key=group["id"] in of_key,
            of_team=group["id"] in of_team,
        )
        for group in values.json("access_groups") or ()
    )


def _metadata(values: RowValues, owner: str) -> Mapping[str, Any]:
    return parse_mapping(values.json(f"{owner}_metadata"), f"{owner}_metadata", _as_is)


def _model_rpm(metadata: Mapping[str, Any], owner: str) -> dict[str, int]:
    place = f"{owner}_metadata.model_rpm_limit"
    return parse_mapping(metadata.get("model_rpm_limit"), place, parse_count)


def _masked(name: str | None) -> str | None:
    return name if name is not None and _MASKED.fullmatch(name) else None


def _as_is(value: Any, _place: str) -> Any:
    return value


def _first(own: _T | None, inherited: _T | None) -> _T | None:
    return inherited if own is None else own
