import math
from typing import Any

import pytest

from extauthz.errors import KeySourceUnavailableError
from extauthz.keys import Budget, Limits
from helpers.postgres import Database
from helpers.postgressource import find, open_source

SECRET = "value-that-no-log-shows"


@pytest.mark.parametrize(
    ("columns", "place"),
    [
        # Realistic
        pytest.param({"metadata": f'{{"a": "{SECRET}"}}'}, "key_metadata", id="JSON as text"),
        pytest.param({"spend": math.nan}, "key_spend", id="spend that is not a number"),
        pytest.param({"max_budget": math.nan}, "key_max_budget", id="budget not a number"),
        pytest.param({"models": ["voice", None]}, "key_models", id="a model that is NULL"),
        pytest.param(
            {"model_max_budget": {SECRET: {"budget_limit": "5"}}},
            "key_model_max_budget.*",
            id="a budget as text",
        ),
        pytest.param(
            {"metadata": {"temp_budget_increase": 5, "temp_budget_expiry": "tomorrow"}},
            "key_metadata.temp_budget_expiry",
            id="an expiry that is no time",
        ),
        pytest.param(
            {"metadata": {"temp_budget_increase": "5"}},
            "key_metadata.temp_budget_increase",
            id="an increase as text",
        ),
        pytest.param(
            {"metadata": {"ringback_max_open_calls": "3"}},
            "key_metadata.ringback_max_open_calls",
            id="open calls as text",
        ),
        pytest.param(
            {"metadata": {"model_rpm_limit": {SECRET: "6"}}},
            "key_metadata.model_rpm_limit.*",
            id="a rate as text",
        ),
        pytest.param(
            {"budget_limits": [{"budget_duration": "weekly", "max_budget": 1}]},
            "key_budget_limits.budget_duration",
            id="an unknown duration",
        ),
        # Synthetic
        pytest.param({"metadata": [SECRET]}, "key_metadata", id="metadata as a list"),
        pytest.param({"metadata": True}, "key_metadata", id="metadata as true"),
        pytest.param({"aliases": [SECRET]}, "key_aliases", id="aliases as a list"),
        pytest.param({"aliases": {SECRET: 1}}, "key_aliases.*", id="an alias of a number"),
        pytest.param({"aliases": {SECRET: ["a"]}}, "key_aliases.*", id="an alias of a list"),
        pytest.param({"budget_limits": {"a": 1}}, "key_budget_limits", id="windows as an object"),
        pytest.param({"budget_limits": [SECRET]}, "key_budget_limits", id="a window as text"),
        pytest.param(
            {"budget_limits": [{"max_budget": 1}]},
            "key_budget_limits.budget_duration",
            id="a window without a duration",
        ),
        pytest.param(
            {"budget_limits": [{"budget_duration": "1d", "max_budget": 1, "reset_at": 5}]},
            "key_budget_limits.reset_at",
            id="a reset that is no time",
        ),
        pytest.param({"model_max_budget": SECRET}, "key_model_max_budget", id="budgets as text"),
        pytest.param(
            {"model_max_budget": {"a": True}}, "key_model_max_budget.*", id="a budget of true"
        ),
        pytest.param(
            {"metadata": {"model_rpm_limit": 5}},
            "key_metadata.model_rpm_limit",
            id="rates as a number",
        ),
        pytest.param(
            {"metadata": {"model_rpm_limit": {"a": 1.5}}},
            "key_metadata.model_rpm_limit.*",
            id="half a request",
        ),
        pytest.param(
            {"metadata": {"ringback_sdp_policy": {"a": SECRET}}},
            "key_metadata.ringback_sdp_policy",
            id="a policy that is no name",
        ),
        pytest.param(
            {"metadata": {"ringback_max_call_cost": 0}},
            "key_metadata.ringback_max_call_cost",
            id="calls for nothing",
        ),
        pytest.param(
            {"metadata": {"ringback_session_lock": {"model": SECRET}}},
            "key_metadata.ringback_session_lock",
            id="a session lock that cannot be held",
        ),
        # Pathological
        pytest.param(
            {"metadata": {"temp_budget_increase": 10**400}},
            "key_metadata.temp_budget_increase",
            id="an increase beyond all numbers",
        ),
        pytest.param(
            {"model_max_budget": {"a": {"budget_limit": {"b": 1}}}},
            "key_model_max_budget.*",
            id="a budget in a budget",
        ),
    ],
)
async def test_an_odd_row_admits_nobody(
    shared_database: Database,
    capfd: pytest.CaptureFixture[str],
    columns: dict[str, Any],
    place: str,
) -> None:
    """A value that LiteLLM would not write is 503; the log names the column and not the value."""
    raw = shared_database.rows.key(**columns)
    async with open_source(shared_database.url) as source:
        with pytest.raises(KeySourceUnavailableError):
            await find(source, raw)
    log = capfd.readouterr()
    assert f"column={place}" in log.out + log.err or f'"{place}"' in log.out + log.err
    assert SECRET not in log.out + log.err


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("team", {"metadata": [1]}),
        ("team", {"spend": math.nan}),
        ("team", {"max_budget": math.nan}),
        ("team", {"models": [None]}),
        ("team", {"budget_limits": 5}),
        ("team", {"aliases": {"a": 5}}),
        ("user", {"metadata": "text"}),
        ("user", {"metadata": {"scim_active": 0}}),
        ("user", {"spend": math.nan}),
        ("organization", {"spend": math.nan}),
        ("project", {"spend": math.nan}),
        ("project", {"model_rpm_limit": ["a"]}),
    ],
)
async def test_an_odd_owner_admits_nobody(
    shared_database: Database, table: str, columns: dict[str, Any]
) -> None:
    """What a key belongs to has to be in order as well, else 503."""
    owner = getattr(shared_database.rows, table)(**columns)
    raw = shared_database.rows.key(**{f"{table}_id": owner})
    async with open_source(shared_database.url) as source:
        with pytest.raises(KeySourceUnavailableError):
            await find(source, raw)


async def test_numbers_beyond_use_are_limits_all_the_same(shared_database: Database) -> None:
    """Infinite budgets are none, infinite spend is all; huge rates are huge, negative ones 0."""
    unlimited = shared_database.rows.key(max_budget=math.inf, rpm_limit=2**63 - 1)
    spent = shared_database.rows.key(spend=math.inf, max_budget=1e308, rpm_limit=-5)
    negative = shared_database.rows.key(max_budget=-1.0, max_parallel_requests=-(2**31))
    async with open_source(shared_database.url) as source:
        keys = [await find(source, raw) for raw in (unlimited, spent, negative)]
    assert [key and key.budget for key in keys] == [
        Budget(0, None),
        Budget(math.inf, 1e308),
        Budget(0, -1),
    ]
    assert [key and key.limits for key in keys] == [Limits(10**12), Limits(0), Limits(None, 0)]


async def test_times_at_the_ends_of_the_calendar_are_read(shared_database: Database) -> None:
    """An expiry of infinity is far away, one of minus infinity long past."""
    forever = shared_database.rows.key(key_alias="forever")
    never = shared_database.rows.key(key_alias="never")
    for alias, time in (("forever", "infinity"), ("never", "-infinity")):
        shared_database.execute(
            'UPDATE "LiteLLM_VerificationToken" SET expires = %s::timestamp WHERE key_alias = %s',
            time,
            alias,
        )
    async with open_source(shared_database.url) as source:
        keys = [await find(source, raw) for raw in (forever, never)]
    assert [key and key.expires and key.expires.year for key in keys] == [9999, 1]


async def test_large_rows_are_read(shared_database: Database) -> None:
    """Thousands of models and a megabyte of metadata are no trouble."""
    models = [f"model-{number}" for number in range(10_000)]
    raw = shared_database.rows.key(models=models, metadata={"notes": "x" * 1_000_000})
    async with open_source(shared_database.url) as source:
        key = await find(source, raw)
    assert key is not None
    assert list(key.models) == models
