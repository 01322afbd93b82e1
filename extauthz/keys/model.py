"""What a virtual key and those it belongs to may do, as LiteLLM knows it. Data only; no rules."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ringback.calllimits import NO_LIMITS, CallLimits
from ringback.secrets import Secret
from ringback.sessionlock import NO_LOCK, SessionLock


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """Which key is looked for.

    Attributes:
        hash: As in `VirtualKey.hash`.
        secret: What the caller sent; None where a token names the key, at ``calls`` for example.
        team: Id of the team that the token names.
        user: Id of the user that the token names.
        max_age_s: How old, in seconds, what a source remembers may be; None leaves it to the
            source.
    """

    hash: str
    secret: Secret | None = None
    team: str | None = None
    user: str | None = None
    max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What was spent, and what may be, in US dollars.

    Attributes:
        spend: What was spent.
        limit: What may be, without the increase; None is no limit.
        increase: What may be spent beyond the limit for some time (``temp_budget_increase``).
        increase_until: The end of that time, in UTC; None if there is no increase.
    """

    spend: float = 0.0
    limit: float | None = None
    increase: float = 0.0
    increase_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """One of several budgets of a key or its team, each for a time of its own (``budget_limits``).

    Attributes:
        duration: As LiteLLM writes it: ``1h``, ``30d``.
        budget: What was spent in the current window, and what may be.
        is_of_team: Whether it is the team's and not the key's own.
        begin: When the current window has begun, to the second, in UTC; None if it slides.
    """

    duration: str
    budget: Budget
    is_of_team: bool = False
    begin: datetime | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How often, per minute, and how many at once; None is no limit.

    Attributes:
        rpm: Requests in a minute.
        parallel: Requests at once (``max_parallel_requests``).
        model_rpm: Requests in a minute for a model.
    """

    rpm: int | None = None
    parallel: int | None = None
    model_rpm: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Scope:
    """A team, a membership in it, a user, an organization or a project that a key belongs to.

    Attributes:
        id: Its id; of a membership ``user:team``.
        models: What it may use, in the forms of a key's list.
        budget: Its own.
        limits: Its own.
        blocked: Whether an administrator has switched it off; of a user, also by SCIM.
        exists: False if the key names it and nobody knows it.
    """

    id: str
    models: tuple[str, ...] = ()
    budget: Budget = Budget()
    limits: Limits = Limits()
    blocked: bool = False
    exists: bool = True


@dataclass(frozen=True, slots=True)
class AccessGroup:
    """A row of LiteLLM_AccessGroupTable that a key or its team names.

    Attributes:
        id: Its id.
        models: The models that it adds.
        teams: Ids of the teams that it is assigned to.
        keys: Hashes of the keys that it is assigned to.
        of_key: Whether the key itself names it.
        of_team: Whether the key's team names it.
    """

    id: str
    models: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    of_key: bool = False
    of_team: bool = False


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """What a key may do, without the key itself.

    Attributes:
        hash: sha256 of the whole key in hex, as in LiteLLM's database.
        alias: The name that people know it by.
        models: Groups and aliases that it may use; none means all, as in LiteLLM.
        expires: The first moment, in UTC, at which it is no longer valid.
        blocked: Whether an administrator has switched it off.
        team: Id of the team that it belongs to.
        user: Id of the user that it belongs to.
        sdp_policy: Names of SDP policies that its calls are held to beside those of the settings,
            separated by commas.
        token_lifetime_s: The longest life of its tokens; None leaves it to the settings.
        call_limits: What each of its calls is held to beside the settings.
        max_open_calls: How many of its calls may be open at once; None leaves it to the settings.
        session_lock: What its callers, or those of its team, cannot change of a session.
        is_master: Whether it is the master key, which has every right.
        masked: The key as it may be shown: ``sk-...last4``.
        aliases: Names that it may use for models.
        allowed_routes: Routes that it may call; none means all.
        budget: What it has spent and may spend.
        windows: Further budgets, each for a time of its own.
        model_budgets: Budgets for single models.
        limits: How often it may ask.
        team_scope: Its team.
        team_aliases: Names that the team may use for models.
        member: Its user's membership in the team.
        user_scope: Its user.
        organization: Its organization, else that of its team.
        project: Its project.
        access_groups: The access groups that it and its team name.
        proxy_spend: What all keys of the source have spent together, in US dollars; None if the
            source does not know.
        read_at: When its source was asked, in seconds since the epoch: whatever has changed since
            is not in here. None if the source is never behind.
    """

    hash: str
    alias: str | None = None
    models: tuple[str, ...] = ()
    expires: datetime | None = None
    blocked: bool = False
    team: str | None = None
    user: str | None = None
    sdp_policy: str | None = None
    token_lifetime_s: int | None = None
    call_limits: CallLimits = NO_LIMITS
    max_open_calls: int | None = None
    session_lock: SessionLock = NO_LOCK
    is_master: bool = False
    masked: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    allowed_routes: tuple[str, ...] = ()
    budget: Budget = Budget()
    windows: tuple[BudgetWindow, ...] = ()
    model_budgets: Mapping[str, Budget] = field(default_factory=dict, hash=False)
    limits: Limits = Limits()
    team_scope: Scope | None = None
    team_aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    member: Scope | None = None
    user_scope: Scope | None = None
    organization: Scope | None = None
    project: Scope | None = None
    access_groups: tuple[AccessGroup, ...] = ()
    proxy_spend: float | None = None
    read_at: float | None = field(default=None, compare=False)


def hash_key(raw: Secret) -> str:
    """Return a key's identity: sha256, in hex, of the whole key with its ``sk-``."""
    return hashlib.sha256(raw.to_bytes()).hexdigest()
