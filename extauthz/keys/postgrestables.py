"""What is read of LiteLLM's tables, and what does not work where a database lacks it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

KEYS: Final = "LiteLLM_VerificationToken"
DEPRECATED: Final = "LiteLLM_DeprecatedVerificationToken"
GROUPS: Final = "LiteLLM_AccessGroupTable"
WINDOWS: Final = "LiteLLM_BudgetWindowSpend"
USERS: Final = "LiteLLM_UserTable"
BUDGETS: Final = "LiteLLM_BudgetTable"
# The user to whom LiteLLM books what all keys spend.
PROXY_BUDGET_USER: Final = "litellm-proxy-budget"
ESSENTIAL: Final = ("token", "blocked", "expires", "models", "user_id", "team_id")


@dataclass(frozen=True, slots=True)
class Source:
    """A table in the query.

    Attributes:
        alias: What it is called there; its columns are ``alias_column`` in the result.
        table: Its name.
        on: For each of its columns that has to match, the columns of earlier sources that say
            what it has to be; the first that is not empty counts.
        columns: What is read, and what a database without the column does not do.
    """

    alias: str
    table: str
    on: Mapping[str, tuple[str, ...]]
    columns: Mapping[str, str]


_BUDGETS: Final = "has no budget"
_RATES: Final = "has no limit on requests in a minute"
KEY: Final = Source(
    "key",
    KEYS,
    {},
    {
        **dict.fromkeys(ESSENTIAL, "keys cannot be checked"),
        "key_name": "errors do not show which key it was",
        "key_alias": "keys have no names",
        "aliases": "keys have no aliases for models",
        "allowed_routes": "keys may call every route",
        "access_group_ids": "keys belong to no access group",
        "metadata": "keys have no limits for models, no temporary increase and no SDP policy",
        "spend": "a key's budget is never used up",
        "max_budget": "a key itself has no budget",
        "budget_limits": "keys have no budget windows",
        "model_max_budget": "keys have no budgets for models",
        "rpm_limit": f"a key itself {_RATES}",
        "max_parallel_requests": "keys have no limit on requests at once",
        "budget_id": "keys have no shared budgets",
        "project_id": "keys belong to no project",
        "organization_id": "keys belong to the organization of their team alone",
    },
)
JOINS: Final = (
    Source(
        "key_budget",
        BUDGETS,
        {"budget_id": ("key.budget_id",)},
        {
            "max_budget": f"a key's shared budget {_BUDGETS}",
            "model_max_budget": "a key's shared budget has none for models",
            "rpm_limit": f"a key's shared budget {_RATES}",
        },
    ),
    Source(
        "team",
        "LiteLLM_TeamTable",
        {"team_id": ("key.team_id",)},
        {
            "team_id": "keys of teams are refused",
            "blocked": "teams cannot be blocked",
            "models": "teams may use every model",
            "spend": "a team's budget is never used up",
            "max_budget": f"a team {_BUDGETS}",
            "budget_limits": "teams have no budget windows",
            "rpm_limit": f"a team {_RATES}",
            "metadata": "teams have no limits for models, no budget for members, no SDP policy",
            "access_group_ids": "teams belong to no access group",
            "organization_id": "teams belong to no organization",
            "model_id": "teams have no aliases for models",
        },
    ),
    Source(
        "team_models",
        "LiteLLM_ModelTable",
        {"id": ("team.model_id",)},
        {"aliases": "teams have no aliases for models"},
    ),
    Source(
        "member",
        "LiteLLM_TeamMembership",
        {"team_id": ("key.team_id",), "user_id": ("key.user_id",)},
        {
            "user_id": "members of teams have no limits of their own",
            "spend": "a member's budget is never used up",
            "budget_id": "members of teams have no limits of their own",
        },
    ),
    Source(
        "member_budget",
        BUDGETS,
        {"budget_id": ("member.budget_id",)},
        {
            "max_budget": f"a member of a team {_BUDGETS}",
            "temp_budget_increase": "members of teams have no temporary increase",
            "temp_budget_expiry": "members of teams have no temporary increase",
            "allowed_models": "members may use every model of their team",
            "rpm_limit": f"a member of a team {_RATES}",
        },
    ),
    Source(
        "default_budget",
        BUDGETS,
        {"budget_id": ("team.metadata",)},
        {"max_budget": "teams have no budget that holds for each member"},
    ),
    Source(
        "user",
        USERS,
        {"user_id": ("key.user_id",)},
        {
            "user_id": "users have no limits",
            "models": "users may use every model",
            "spend": "a user's budget is never used up",
            "max_budget": f"a user {_BUDGETS}",
            "rpm_limit": f"a user {_RATES}",
            "metadata": "users that SCIM has deactivated stay active",
        },
    ),
    Source(
        "organization",
        "LiteLLM_OrganizationTable",
        {"organization_id": ("key.organization_id", "team.organization_id")},
        {
            "organization_id": "organizations have no limits",
            "spend": "an organization's budget is never used up",
            "budget_id": "organizations have no limits",
        },
    ),
    Source(
        "organization_budget",
        BUDGETS,
        {"budget_id": ("organization.budget_id",)},
        {"max_budget": f"an organization {_BUDGETS}", "rpm_limit": f"an organization {_RATES}"},
    ),
    Source(
        "project",
        "LiteLLM_ProjectTable",
        {"project_id": ("key.project_id",)},
        {
            "project_id": "projects have no limits",
            "blocked": "projects cannot be blocked",
            "models": "projects may use every model",
            "spend": "a project's budget is never used up",
            "model_rpm_limit": "projects have no limits for models",
            "budget_id": "projects have no budget",
        },
    ),
    Source(
        "project_budget",
        BUDGETS,
        {"budget_id": ("project.budget_id",)},
        {"max_budget": f"a project {_BUDGETS}", "rpm_limit": f"a project {_RATES}"},
    ),
)
DEPRECATED_COLUMNS: Final = ("token", "active_token_id", "revoke_at")
GROUP_COLUMNS: Final = (
    *("access_group_id", "access_model_names"),
    *("assigned_team_ids", "assigned_key_ids"),
)
WINDOW_COLUMNS: Final = ("entity_type", "entity_id", "window_duration", "window_start", "spend")
# What each call of a key or a team is held to, by the names in their metadata.
CALL_LIMITS: Final = (
    *("ringback_max_call_duration_s", "ringback_max_call_idle_s"),
    "ringback_max_call_cost",
)
# Metadata may be large and secret; no more of it is read than this. What is not an object arrives
# as it is, so that it can be refused.
PICKED: Final[Mapping[str, tuple[str, ...]]] = {
    "key": (
        *("model_rpm_limit", "temp_budget_increase", "temp_budget_expiry"),
        *("ringback_sdp_policy", "ringback_token_lifetime_s", "ringback_max_open_calls"),
        "ringback_session_lock",
        *CALL_LIMITS,
    ),
    "team": ("model_rpm_limit", "ringback_sdp_policy", "ringback_session_lock", *CALL_LIMITS),
    "user": ("scim_active",),
}


def columns_read() -> dict[str, frozenset[str]]:
    """Return what a role has to be allowed to read, where it exists: columns by table."""
    found: dict[str, set[str]] = {
        DEPRECATED: set(DEPRECATED_COLUMNS),
        GROUPS: set(GROUP_COLUMNS),
        WINDOWS: set(WINDOW_COLUMNS),
    }
    for source in (KEY, *JOINS):
        found.setdefault(source.table, set()).update(source.columns, source.on)
    return {table: frozenset(columns) for table, columns in found.items()}
