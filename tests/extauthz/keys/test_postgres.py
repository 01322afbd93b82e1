from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from extauthz.keys import (
    AccessGroup,
    Budget,
    BudgetWindow,
    KeyQuery,
    Limits,
    Scope,
    VirtualKey,
)
from helpers.litellmrows import hash_of
from helpers.postgres import Database
from helpers.postgressource import find, open_source
from ringback.calllimits import CallLimits
from ringback.sessionlock import parse_lock

THEN = datetime(2027, 1, 31, 12, 30, 15, 250_000, tzinfo=UTC)


async def found(database: Database, raw: str) -> VirtualKey:
    """Return a key that has to be there."""
    async with open_source(database.url) as source:
        key = await find(source, raw)
    assert key is not None
    return key


async def test_a_key_without_anything_may_do_everything(shared_database: Database) -> None:
    """A row with LiteLLM's defaults is a key without limits, teams or owners."""
    raw = shared_database.rows.key(key_name=None)
    assert await found(shared_database, raw) == VirtualKey(hash_of(raw))


async def test_all_columns_of_a_key_are_read(shared_database: Database) -> None:
    """What LiteLLM writes into the row of a key is what the key may do."""
    raw = shared_database.rows.key(
        key_alias="web",
        key_name="sk-...wxyz",
        models=["voice", "gpt-*"],
        expires=THEN,
        blocked=True,
        user_id="ada",
        aliases={"mine": "voice"},
        allowed_routes=["/v1/realtime"],
        spend=1.5,
        max_budget=2.5,
        model_max_budget={"voice": {"budget_limit": 3, "time_period": "1d"}, "other": 4.5},
        rpm_limit=60,
        max_parallel_requests=2,
        metadata={
            "model_rpm_limit": {"voice": 6},
            "temp_budget_increase": 10,
            "temp_budget_expiry": "2027-01-31T12:30:15.25Z",
            "ringback_sdp_policy": "kiosk",
            "ringback_token_lifetime_s": 600,
            "ringback_max_open_calls": 3,
            "ringback_max_call_idle_s": 30,
            "ringback_session_lock": {"tools": []},
            "else": ["whatever"],
        },
    )
    assert await found(shared_database, raw) == VirtualKey(
        hash_of(raw),
        alias="web",
        masked="sk-...wxyz",
        models=("voice", "gpt-*"),
        expires=THEN,
        blocked=True,
        user="ada",
        sdp_policy="kiosk",
        token_lifetime_s=600,
        max_open_calls=3,
        call_limits=CallLimits(idle_s=30),
        session_lock=parse_lock({"tools": []}),
        aliases={"mine": "voice"},
        allowed_routes=("/v1/realtime",),
        budget=Budget(1.5, 2.5, 10, THEN),
        model_budgets={"voice": Budget(limit=3), "other": Budget(limit=4.5)},
        limits=Limits(60, 2, {"voice": 6}),
        user_scope=Scope("ada", exists=False),
    )


async def test_a_shared_budget_fills_what_the_key_leaves_open(shared_database: Database) -> None:
    """A budget row supplies budgets and rates, and never the number of requests at once."""
    shared = shared_database.rows.budget(
        max_budget=5,
        rpm_limit=7,
        max_parallel_requests=1,
        model_max_budget={"voice": {"max_budget": 1}},
    )
    inherits = await found(shared_database, shared_database.rows.key(budget_id=shared))
    assert inherits.budget == Budget(0, 5)
    assert inherits.limits == Limits(7)
    assert inherits.model_budgets == {"voice": Budget(limit=1)}
    own = shared_database.rows.key(
        budget_id=shared, max_budget=0, rpm_limit=0, model_max_budget={"x": {"budget_limit": 9}}
    )
    has_own = await found(shared_database, own)
    assert has_own.budget == Budget(0, 0)
    assert has_own.limits == Limits(0)
    assert has_own.model_budgets == {"x": Budget(limit=9)}


async def test_all_of_a_team_is_read(shared_database: Database) -> None:
    """A key of a team carries the team's limits, aliases, windows, policy and organization."""
    rows = shared_database.rows
    organization = rows.organization(
        spend=8, budget_id=rows.budget(max_budget=9, rpm_limit=90), models=["not enforced"]
    )
    team = rows.team(
        aliases={"team-voice": "voice"},
        blocked=True,
        models=["voice"],
        spend=11,
        max_budget=10,
        rpm_limit=5,
        organization_id=organization,
        metadata={
            "model_rpm_limit": {"voice": 3},
            "ringback_sdp_policy": "privacy",
            "ringback_max_call_duration_s": 900,
            "ringback_max_call_cost": 0.5,
            "ringback_session_lock": {"instructions": "of the team"},
        },
        budget_limits=[{"budget_duration": "1d", "max_budget": 4, "reset_at": None}],
    )
    rows.window_spend(team, "1d", 2.5, entity_type="team")
    rows.window_spend(team, "1d", 99, entity_type="key")
    own = {
        "ringback_sdp_policy": "kiosk",
        "ringback_max_call_cost": 2,
        "ringback_session_lock": {"instructions": "of the key", "tools": []},
    }
    raw = rows.key(team_id=team, metadata=own)
    key = await found(shared_database, raw)
    assert key.team == team
    assert key.team_scope == Scope(
        team, ("voice",), Budget(11, 10), Limits(5, model_rpm={"voice": 3}), blocked=True
    )
    assert key.team_aliases == {"team-voice": "voice"}
    assert key.windows == (BudgetWindow("1d", Budget(2.5, 4), is_of_team=True),)
    assert key.organization == Scope(organization, budget=Budget(8, 9), limits=Limits(90))
    assert key.sdp_policy == "kiosk,privacy"
    assert key.call_limits == CallLimits(max_duration_s=900, max_cost_microdollars=500_000)
    assert key.session_lock == parse_lock({"instructions": "of the team", "tools": []})
    assert key.member is None


async def test_a_keys_own_organization_comes_before_its_teams(shared_database: Database) -> None:
    """The organization of the key counts; one that is gone is told as such."""
    rows = shared_database.rows
    own, teams = rows.organization(spend=1), rows.organization(spend=2)
    team = rows.team(organization_id=teams)
    own_key = await found(shared_database, rows.key(team_id=team, organization_id=own))
    assert own_key.organization == Scope(own, budget=Budget(1))
    empty = await found(shared_database, rows.key(team_id=team, organization_id=None))
    assert empty.organization == Scope(teams, budget=Budget(2))


@pytest.mark.parametrize(
    ("members", "default", "limit"),
    [
        pytest.param({"max_budget": 1.5}, 9, 1.5, id="the member's own comes first"),
        pytest.param({"max_budget": 0}, 9, 0, id="the member's own of 0 is a budget"),
        pytest.param({}, 9, 9, id="the team's for all members comes second"),
        pytest.param({}, 0, None, id="the team's of 0 is none"),
        pytest.param({}, None, None, id="none at all"),
        pytest.param(None, 9, 9, id="a membership without a budget row"),
    ],
)
async def test_the_budget_of_a_member(
    shared_database: Database,
    members: dict[str, Any] | None,
    default: float | None,
    limit: float | None,
) -> None:
    """A member's budget is its own, else the one that the team sets for every member."""
    rows = shared_database.rows
    metadata = {}
    if default is not None:
        metadata = {"team_member_budget_id": rows.budget(max_budget=default)}
    team, user = rows.team(metadata=metadata), rows.user()
    own = None
    if members is not None:
        own = rows.budget(
            **members,
            allowed_models=["voice"],
            rpm_limit=4,
            temp_budget_increase=2,
            temp_budget_expiry=THEN,
        )
    rows.member(user, team, spend=1, budget_id=own)
    member = (await found(shared_database, rows.key(team_id=team, user_id=user))).member
    assert member is not None
    assert member.id == f"{user}:{team}"
    assert (member.budget.spend, member.budget.limit) == (1, limit)
    if own is not None:
        assert member.models == ("voice",)
        assert member.limits == Limits(4)
        assert (member.budget.increase, member.budget.increase_until) == (2, THEN)


@pytest.mark.parametrize(
    ("metadata", "is_blocked"),
    [
        ({}, False),
        ({"scim_active": True}, False),
        ({"scim_active": False}, True),
        ({"scim_active": "false"}, True),
        ({"scim_active": None}, False),
    ],
)
async def test_all_of_a_user_is_read(
    shared_database: Database, metadata: dict[str, Any], is_blocked: bool
) -> None:
    """A user's models, budget and rate are read; SCIM's deactivation is a block."""
    user = shared_database.rows.user(
        models=["voice"], spend=2, max_budget=3, rpm_limit=4, metadata=metadata
    )
    key = await found(shared_database, shared_database.rows.key(user_id=user))
    assert key.user_scope == Scope(user, ("voice",), Budget(2, 3), Limits(4), blocked=is_blocked)


async def test_all_of_a_project_is_read(shared_database: Database) -> None:
    """A project's models, budget, rates and block are read; a project may be gone."""
    rows = shared_database.rows
    project = rows.project(
        models=["voice"],
        blocked=True,
        spend=2,
        model_rpm_limit={"voice": 5},
        budget_id=rows.budget(max_budget=3, rpm_limit=4),
    )
    key = await found(shared_database, rows.key(project_id=project))
    assert key.project == Scope(
        project, ("voice",), Budget(2, 3), Limits(4, model_rpm={"voice": 5}), blocked=True
    )


async def test_a_team_that_is_gone_is_told(shared_database: Database) -> None:
    """A key that names a team which nobody knows has a team that does not exist."""
    key = await found(shared_database, shared_database.rows.key(team_id="gone", user_id="gone"))
    assert key.team_scope == Scope("gone", exists=False)
    assert key.user_scope == Scope("gone", exists=False)
    assert key.member is None
    empty = await found(shared_database, shared_database.rows.key(team_id="", user_id=""))
    assert (empty.team, empty.team_scope, empty.user, empty.user_scope) == (None,) * 4


async def test_access_groups_of_key_and_team_are_read(shared_database: Database) -> None:
    """Groups that the key or its team name are read, and no others; unknown ids do not matter."""
    rows = shared_database.rows
    both, keys, teams = (rows.access_group(f"model-{n}") for n in range(3))
    rows.access_group("of nobody")
    listed = rows.access_group("l", assigned_team_ids=["t"], assigned_key_ids=["k"])
    team = rows.team(access_group_ids=[both, teams])
    raw = rows.key(team_id=team, access_group_ids=[both, keys, listed, "unknown"])
    groups = (await found(shared_database, raw)).access_groups
    assert set(groups) == {
        AccessGroup(both, ("model-0",), of_key=True, of_team=True),
        AccessGroup(keys, ("model-1",), of_key=True),
        AccessGroup(teams, ("model-2",), of_team=True),
        AccessGroup(listed, ("l",), ("t",), ("k",), of_key=True),
    }


@pytest.mark.parametrize(
    ("window", "begun", "spend"),
    [
        pytest.param({}, timedelta(hours=1), 3, id="this window"),
        pytest.param({}, timedelta(hours=25), 0, id="a window before"),
        pytest.param({"reset_at": 12}, timedelta(hours=11), 3, id="a fixed window"),
        pytest.param({"reset_at": 12}, timedelta(hours=13), 0, id="before a fixed window"),
    ],
)
async def test_budget_windows_count_what_was_spent_in_them(
    shared_database: Database, window: dict[str, Any], begun: timedelta, spend: float
) -> None:
    """Only the spend of the current window counts; it ends at ``reset_at``, else now."""
    now, begin = datetime.now(UTC), None
    if "reset_at" in window:
        reset_at = now + timedelta(hours=window["reset_at"])
        window, begin = (
            {"reset_at": reset_at.isoformat()},
            reset_at - timedelta(hours=24, seconds=1),
        )
    raw = shared_database.rows.key(
        budget_limits=[
            {"budget_duration": "24h", "max_budget": 5, **window},
            {"budget_duration": "1mo", "max_budget": 50},
            {"budget_duration": "1h", "max_budget": None},
        ]
    )
    shared_database.rows.window_spend(hash_of(raw), "24h", 3, window_start=now - begun)
    key = await found(shared_database, raw)
    assert key.windows == (
        BudgetWindow("24h", Budget(spend, 5), begin=begin),
        BudgetWindow("1mo", Budget(0, 50)),
    )


async def test_a_rotated_key_is_its_successor_for_the_time_of_grace(
    shared_database: Database,
) -> None:
    """An old key stands for the active one until ``revoke_at``, over one hop."""
    rows = shared_database.rows
    active = rows.key(key_alias="active")
    now = datetime.now(UTC)
    rows.deprecated("sk-in-grace", active)
    rows.deprecated("sk-over", active, revoke_at=now - timedelta(seconds=1))
    rows.deprecated("sk-two-hops", "sk-in-grace")
    rows.deprecated("sk-lost", "sk-gone")
    async with open_source(shared_database.url) as source:
        in_grace = await find(source, "sk-in-grace")
        assert in_grace is not None
        assert (in_grace.hash, in_grace.alias) == (hash_of(active), "active")
        for raw in ("sk-over", "sk-two-hops", "sk-lost"):
            assert await find(source, raw) is None


async def test_a_row_of_its_own_comes_before_a_successors(shared_database: Database) -> None:
    """A key that exists is itself, whatever is deprecated."""
    own, other = shared_database.rows.key(blocked=True), shared_database.rows.key()
    shared_database.rows.deprecated(own, other)
    assert (await found(shared_database, own)).blocked


async def test_what_all_keys_have_spent_is_known(database: Database) -> None:
    """LiteLLM books the spend of all keys to a user of its own."""
    raw = database.rows.key()
    assert (await found(database, raw)).proxy_spend is None
    database.rows.user(user_id="litellm-proxy-budget", spend=12.5)
    assert (await found(database, raw)).proxy_spend == 12.5


async def test_a_team_and_a_user_without_a_key_are_read(shared_database: Database) -> None:
    """For somebody without a key, the same is known of team, membership, user and organization."""
    rows = shared_database.rows
    group = rows.access_group("voice")
    team = rows.team(
        blocked=True, organization_id=rows.organization(spend=3), access_group_ids=[group]
    )
    user = rows.user(spend=2, max_budget=1)
    rows.member(user, team, budget_id=rows.budget(max_budget=1))
    async with open_source(shared_database.url) as source:
        owners = await source.scopes(team, user)
        key = owners.of(VirtualKey("jwt:ada"))
        assert key.team_scope is not None
        assert key.team_scope.blocked
        assert key.user_scope == Scope(user, budget=Budget(2, 1))
        assert key.member is not None
        assert key.member.budget == Budget(0, 1)
        assert key.organization is not None
        assert key.organization.budget == Budget(3)
        assert [group.of_team for group in key.access_groups] == [True]
        alone = await source.scopes(None, "unknown")
        assert alone.team_scope is None
        assert alone.user_scope == Scope("unknown", exists=False)


@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        'x\' UNION SELECT * FROM "LiteLLM_VerificationToken" --',
        '"; DROP TABLE "LiteLLM_VerificationToken"; --',
        "%",
        "\x00",
        "",
        "A" * 64,
        "é" * 64,
        "a" * 100_000,
    ],
    ids=range(9),
)
async def test_what_is_no_hash_is_an_unknown_key(shared_database: Database, text: str) -> None:
    """Whatever stands in the place of a hash, it is a value, and the key is unknown."""
    raw = shared_database.rows.key()
    async with open_source(shared_database.url) as source:
        assert await source.find(KeyQuery(text)) is None
        assert await find(source, text) is None
        assert await find(source, raw) is not None
