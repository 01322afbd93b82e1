"""Cases of budgets, and of tokens whose keys change."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from helpers.gatewayfiles import MASTER_KEY
from helpers.litellmrows import Rows, hash_of
from helpers.rulecases import (
    BUDGET,
    BUDGET_429,
    CUSTOM_HEADER,
    EXPIRED,
    NO_MODEL,
    NO_ROUTE,
    TEAM_BLOCKED,
    TOO_MANY,
    TOO_OFTEN,
    UNREACHABLE,
    Build,
    Case,
    TokenCase,
    budget_key,
    denied,
    header,
    hours,
    key,
    member_key,
    organization_key,
    project_key,
    team_key,
    team_user_key,
    update_key,
    update_owner,
    user_key,
)

_OVER: Final[Mapping[str, Any]] = {"spend": 2.0, "max_budget": 1.0}
_EVEN: Final[Mapping[str, Any]] = {"spend": 1.0, "max_budget": 1.0}
_LIMIT: Final[Mapping[str, Any]] = {"max_budget": 1.0}
_COMPANY: Final = header(CUSTOM_HEADER, "Bearer {}")


def _increase(amount: float, end_in_hours: float) -> dict[str, Any]:
    end = hours(end_in_hours).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"temp_budget_increase": amount, "temp_budget_expiry": end}


def _windows(*windows: tuple[str, float, float]) -> Build:
    """Return what inserts a key with windows: duration, limit and spend of each."""

    def build(rows: Rows) -> str:
        limits = [
            {"budget_duration": duration, "max_budget": limit} for duration, limit, _ in windows
        ]
        raw = rows.key(budget_limits=limits)
        for duration, _, spend in windows:
            rows.window_spend(hash_of(raw), duration, spend)
        return raw

    return build


def _spent_before(rows: Rows, ago: timedelta) -> str:
    """Insert a key whose window was used up some time ago."""
    raw = rows.key(budget_limits=[{"budget_duration": "1h", "max_budget": 1.0}])
    rows.window_spend(hash_of(raw), "1h", 5.0, window_start=datetime.now(UTC) - ago)
    return raw


def _team_window(limit: float, spend: float) -> Build:
    """Return what inserts a key of a team with a window."""

    def build(rows: Rows) -> str:
        team = rows.team(budget_limits=[{"budget_duration": "1d", "max_budget": limit}])
        rows.window_spend(team, "1d", spend, entity_type="team")
        return rows.key(team_id=team)

    return build


def _increased_member(end_in_hours: float) -> Build:
    """Return what inserts a member above the budget, which is raised for a time."""
    end = hours(end_in_hours)
    return member_key({**_LIMIT, "temp_budget_increase": 5.0, "temp_budget_expiry": end}, 2.0)


def _default_member(limit: float, spend: float) -> Build:
    """Return what inserts a member whose budget is the team's default."""

    def build(rows: Rows) -> str:
        default = rows.budget(max_budget=limit)
        team = rows.team(metadata={"team_member_budget_id": default})
        user = rows.user()
        rows.member(user, team, spend=spend)
        return rows.key(team_id=team, user_id=user)

    return build


BUDGET_CASES: Final = [
    Case("1.5 key below its budget", key(spend=0.99, max_budget=1.0)),
    Case("1.5 key at its budget", key(**_EVEN), BUDGET),
    Case("1.5 key above its budget", key(**_OVER), BUDGET),
    Case("1.5 key with a budget of 0", key(max_budget=0.0), BUDGET),
    Case("1.5 key without a budget", key(spend=1000.0)),
    Case("1.5 budget row of the key", budget_key(_LIMIT, spend=1.0), BUDGET),
    Case("1.5 below the budget row", budget_key(_LIMIT, spend=0.5)),
    Case("1.5 the key's own value wins: higher", budget_key(_LIMIT, spend=2.0, max_budget=3.0)),
    Case("1.5 the key's own value wins: lower", budget_key({"max_budget": 3.0}, **_OVER), BUDGET),
    Case("1.5 temporary increase", key(**_OVER, metadata=_increase(5.0, 1))),
    Case("1.5 temporary increase is over", key(**_OVER, metadata=_increase(5.0, -1)), BUDGET),
    Case("1.5 temporary increase used up", key(**_OVER, metadata=_increase(1.0, 1)), BUDGET),
    Case("1.5 window", _windows(("1h", 5.0, 1.0))),
    Case("1.5 window used up", _windows(("1h", 1.0, 1.0)), BUDGET),
    Case("1.5 one of two windows used up", _windows(("1h", 5.0, 1.0), ("30d", 8.0, 9.0)), BUDGET),
    Case(
        "1.5 window of before",
        lambda rows: _spent_before(rows, timedelta(hours=2)),
    ),
    Case("1.5 window of the team", _team_window(1.0, 0.5)),
    Case("1.5 window of the team used up", _team_window(1.0, 1.0), BUDGET),
    Case("1.5 soft budgets only alert", budget_key({"soft_budget": 1.0}, spend=2.0)),
    Case("1.5 budget_reset_at is not looked at", key(**_OVER, budget_reset_at=hours(-1)), BUDGET),
    Case(
        "1.5 model budget",
        key(model_max_budget={"voice": {"budget_limit": 10.0, "time_period": "1d"}}),
    ),
    Case(
        "1.5 model budget of 0",
        key(model_max_budget={"voice": {"budget_limit": 0, "time_period": "1d"}}),
        BUDGET,
    ),
    Case(
        "1.5 model budget of another model",
        key(model_max_budget={"chat": {"budget_limit": 0, "time_period": "1d"}}),
    ),
    Case(
        "1.5 model budget of the budget row",
        budget_key(
            {"model_max_budget": {"voice": {"budget_limit": 0, "time_period": "1d"}}},
            model_max_budget={},
        ),
        BUDGET,
    ),
    Case("1.5 team at its budget", team_key(_EVEN)),
    Case("1.5 team above its budget", team_key(_OVER), BUDGET),
    Case("1.5 member below the budget", member_key(_LIMIT, 0.5)),
    Case("1.5 member at the budget", member_key(_LIMIT, 1.0), BUDGET),
    Case("1.5 member at the team's default", _default_member(1.0, 1.0), BUDGET),
    Case("1.5 a default of 0 is none", _default_member(0.0, 1.0)),
    Case("1.5 member's own budget of 0", member_key({"max_budget": 0.0}), BUDGET),
    Case("1.5 member's temporary increase", _increased_member(1)),
    Case("1.5 member's temporary increase is over", _increased_member(-1), BUDGET),
    Case("1.5 user below the budget", user_key({"spend": 0.5, "max_budget": 1.0})),
    Case("1.5 user at the budget", user_key(_EVEN), BUDGET),
    Case("1.5 user of a team key", team_user_key({}, _OVER)),
    Case(
        "1.5 apply_user_budget_to_team_keys",
        team_user_key({}, _OVER),
        BUDGET_429,
        headers=_COMPANY,
        gateway="other",
    ),
    Case("1.5 organization below the budget", organization_key(_LIMIT, 0.5, by_team=False)),
    Case("1.5 organization of the key", organization_key(_LIMIT, 1.0, by_team=False), BUDGET),
    Case("1.5 organization of the team", organization_key(_LIMIT, 1.0, by_team=True), BUDGET),
    Case("1.5 project below the budget", project_key(_LIMIT, spend=0.5)),
    Case("1.5 project at the budget", project_key(_LIMIT, spend=1.0), BUDGET),
    Case("1.5 a model that costs nothing", key(**_OVER), asks="free", serves=("rt-free",)),
    Case(
        "1.5 a model that costs nothing beside one that may",
        key(**_OVER),
        BUDGET,
        body={
            "session": {
                "type": "realtime",
                "model": "free",
                "audio": {"input": {"transcription": {"model": "scribe"}}},
            }
        },
    ),
    Case("1.5 fallback of a model that costs nothing", key(), asks="free-down"),
    Case(
        "1.5 ours: no fallback that costs, with a budget that is used up",
        key(**_OVER),
        UNREACHABLE,
        asks="free-down",
    ),
    Case(
        "1.5 nor with that of the team",
        team_key(_OVER),
        UNREACHABLE,
        asks="free-down",
    ),
    Case(
        "1.5 admins' keys have budgets, too",
        user_key({"user_role": "proxy_admin"}, **_OVER),
        BUDGET,
    ),
    Case(
        "1.5 budget_exceeded_status_code",
        key(**_OVER),
        BUDGET_429,
        headers=_COMPANY,
        gateway="other",
    ),
    Case("1.5 litellm_settings.max_budget", key(), BUDGET, gateway="strict"),
    Case(
        "1.5 litellm_settings.max_budget, a model that costs nothing",
        key(),
        asks="free",
        serves=("rt-free",),
        gateway="strict",
    ),
    Case("1.5 litellm_settings.max_budget, master key", lambda _: MASTER_KEY, gateway="strict"),
    Case(
        "1.3 ours: the path comes before the budget",
        key(**_OVER, allowed_routes=["/x"]),
        NO_ROUTE,
    ),
    Case("1.3 the model comes before the budget", key(**_OVER, models=["chat"]), denied()),
    Case(
        "1.3 the team comes before the budget", team_key({"blocked": True}, **_OVER), TEAM_BLOCKED
    ),
    Case("1.3 the budget comes before an unknown model", key(**_OVER), BUDGET, asks="nope"),
    Case("1.3 expired comes before the team", team_key(_OVER, expires=hours(-1)), EXPIRED),
]

LIMIT_CASES: Final = [
    Case("1.6 rpm_limit", key(rpm_limit=1)),
    Case("1.6 rpm_limit of 0", key(rpm_limit=0), TOO_OFTEN),
    Case("1.6 rpm_limit of 0 of the team", team_key({"rpm_limit": 0}), TOO_OFTEN),
    Case("1.6 the key's own rpm_limit wins", budget_key({"rpm_limit": 0}, rpm_limit=5)),
    Case(
        "1.6 model_rpm_limit of another model",
        key(metadata={"model_rpm_limit": {"chat": 0}}),
    ),
    Case("1.6 max_parallel_requests", key(max_parallel_requests=1)),
    Case("1.6 max_parallel_requests of 0", key(max_parallel_requests=0), TOO_MANY),
    Case(
        "1.6 max_parallel_requests of the budget row is not the key's",
        budget_key({"max_parallel_requests": 0}),
    ),
    Case("1.6 ours: tpm_limit is not looked at", key(tpm_limit=0)),
    Case("1.6 the model comes before the limit", key(rpm_limit=0, models=["chat"]), denied()),
    Case("1.6 the budget comes before the limit", key(rpm_limit=0, **_OVER), BUDGET),
    Case("1.6 ours: an unknown model comes before the limit", key(rpm_limit=0), NO_MODEL, asks="x"),
]

_ADMITTED: Final = None

TOKEN_CASES: Final = [
    TokenCase("7.3 nothing happened", key(), expected=_ADMITTED),
    TokenCase("7.3 key blocked", key(), update_key(blocked=True)),
    TokenCase("7.3 key expired", key(), update_key(expires=hours(-1))),
    TokenCase(
        "7.3 key deleted",
        key(),
        lambda database, raw: database.rows.update(
            "LiteLLM_VerificationToken", {"token": hash_of(raw)}, token=f"gone-{hash_of(raw)}"
        ),
    ),
    TokenCase("7.3 model taken away", key(), update_key(models=["chat"])),
    TokenCase(
        "7.3 moved to another deployment", key(models=["grp-a"]), update_key(models=["grp-b"])
    ),
    TokenCase("7.3 routes taken away", key(), update_key(allowed_routes=["/chat/completions"])),
    TokenCase(
        "7.3 calls is not subject to allowed_routes",
        key(allowed_routes=["/v1/realtime/client_secrets"]),
        expected=_ADMITTED,
    ),
    TokenCase("7.8 key at its budget", key(max_budget=1.0), update_key(spend=1.0), BUDGET),
    TokenCase(
        "7.3 team blocked", team_key(), update_owner("LiteLLM_TeamTable", "team_id", blocked=True)
    ),
    TokenCase(
        "7.3 team deleted",
        team_key(),
        update_owner("LiteLLM_TeamTable", "team_id", team_id="t-left"),
    ),
    TokenCase(
        "7.3 team's model taken away",
        team_key(),
        update_owner("LiteLLM_TeamTable", "team_id", models=["chat"]),
    ),
    TokenCase(
        "7.8 team above its budget",
        team_key({"max_budget": 1.0}),
        update_owner("LiteLLM_TeamTable", "team_id", spend=1.5),
        BUDGET,
    ),
    TokenCase(
        "7.8 user at the budget",
        user_key({"max_budget": 1.0}),
        update_owner("LiteLLM_UserTable", "user_id", spend=1.0),
        BUDGET,
    ),
    TokenCase(
        "7.3 user off by SCIM",
        user_key({}),
        update_owner("LiteLLM_UserTable", "user_id", metadata={"scim_active": False}),
    ),
    TokenCase(
        "7.3 project blocked",
        project_key(),
        update_owner("LiteLLM_ProjectTable", "project_id", blocked=True),
    ),
    TokenCase("7.3 asked by a router alias", key(models=["fast"]), expected=_ADMITTED, asks="fast"),
    TokenCase(
        "7.3 asked by a key alias",
        key(models=["voice"], aliases={"my": "voice"}),
        expected=_ADMITTED,
        asks="my",
    ),
    TokenCase(
        "7.3 asked by a team alias",
        team_key({"aliases": {"team-rt": "voice"}, "models": ["chat"]}, models=["chat"]),
        expected=_ADMITTED,
        asks="team-rt",
    ),
    TokenCase(
        "7.3 team alias taken away",
        team_key({"aliases": {"team-rt": "voice"}}, models=["chat"]),
        update_owner("LiteLLM_TeamTable", "team_id", model_id=None),
        asks="team-rt",
    ),
    TokenCase(
        "7.3 asked by a name that a wildcard serves",
        key(models=["openai/gpt-x"]),
        expected=_ADMITTED,
        asks="openai/gpt-x",
    ),
]
