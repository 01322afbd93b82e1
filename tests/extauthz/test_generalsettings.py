from ipaddress import ip_address
from typing import Any

import pytest

from extauthz.fields import Field
from extauthz.generalsettings import GeneralSettings, parse_general
from ringback.secrets import Secret

ENVIRON = {"DATABASE_URL": "postgresql://env/litellm", "DB": "postgresql://db/litellm"}


def parse(general: Any, litellm: Any = None, **environ: str) -> tuple[GeneralSettings, list[str]]:
    """Return what both sections say, and the problems."""
    problems: list[str] = []
    settings = parse_general(
        Field(general, "f: general_settings", problems, environ),
        Field(litellm, "f: litellm_settings", problems, environ),
    )
    return settings, problems


def test_nothing_is_restricted_by_default() -> None:
    """Absent sections leave LiteLLM's defaults."""
    assert parse(None) == (GeneralSettings(), [])


def test_all_fields_are_read() -> None:
    """Each field is read; a header's name becomes lower case."""
    general = {
        "database_url": "os.environ/DB",
        "user_api_key_cache_ttl": 30,
        "litellm_key_header_name": "X-Foo",
        "apply_user_budget_to_team_keys": True,
        "allowed_ips": ["203.0.113.7", "::ffff:192.0.2.1", "2001:db8::1"],
        "something_else": [1],
    }
    litellm = {"budget_exceeded_status_code": 429, "max_budget": 100.5, "drop_params": True}
    assert parse(general, litellm, **ENVIRON) == (
        GeneralSettings(
            database_url=Secret("postgresql://db/litellm"),
            cache_ttl_s=30,
            key_header="x-foo",
            user_budget_for_team_keys=True,
            budget_status=429,
            max_budget=100.5,
            allowed_ips=frozenset(map(ip_address, ("203.0.113.7", "192.0.2.1", "2001:db8::1"))),
        ),
        [],
    )


@pytest.mark.parametrize(
    ("general", "litellm", "expected"),
    [
        # Realistic
        pytest.param(
            None,
            None,
            GeneralSettings(database_url=Secret("postgresql://env/litellm")),
            id="url-of-the-environment",
        ),
        # Synthetic
        pytest.param(
            {"database_url": "x", "user_api_key_cache_ttl": 0},
            {"max_budget": 0},
            GeneralSettings(database_url=Secret("x"), cache_ttl_s=0),
            id="zeros",
        ),
        pytest.param(
            {"database_url": "x", "user_api_key_cache_ttl": "1.5"},
            {"max_budget": 0.0, "budget_exceeded_status_code": "429"},
            GeneralSettings(database_url=Secret("x"), cache_ttl_s=1.5, budget_status=429),
            id="numbers-as-text",
        ),
    ],
)
def test_other_forms_are_read(general: Any, litellm: Any, expected: GeneralSettings) -> None:
    """DATABASE_URL stands in, 0 is no proxy budget, and numbers may be text."""
    assert parse(general, litellm, **ENVIRON) == (expected, [])


@pytest.mark.parametrize(
    ("general", "litellm", "problem"),
    [
        # Realistic
        pytest.param(
            {"litellm_key_header_name": "X Foo"},
            None,
            "f: general_settings.litellm_key_header_name: expected the name of an HTTP header",
            id="header",
        ),
        pytest.param(
            {"user_api_key_cache_ttl": "soon"},
            None,
            "f: general_settings.user_api_key_cache_ttl: expected a number above 0",
            id="ttl",
        ),
        pytest.param(
            {"apply_user_budget_to_team_keys": "yes"},
            None,
            "f: general_settings.apply_user_budget_to_team_keys: expected true or false",
            id="flag",
        ),
        pytest.param(
            None,
            {"budget_exceeded_status_code": 200},
            "f: litellm_settings.budget_exceeded_status_code: expected a status from 400 to 499, "
            "such as 422 or 429",
            id="status",
        ),
        # Synthetic
        pytest.param(
            None,
            {"budget_exceeded_status_code": 422.5},
            "f: litellm_settings.budget_exceeded_status_code: expected a status from 400 to 499, "
            "such as 422 or 429",
            id="status-with-a-fraction",
        ),
        pytest.param(
            None,
            {"max_budget": -1},
            "f: litellm_settings.max_budget: expected a number above 0",
            id="budget",
        ),
        pytest.param(
            {"allowed_ips": ["10.0.0.0/8"]},
            None,
            "f: general_settings.allowed_ips[0]: expected one IP address, as in LiteLLM; no "
            "network and no name",
            id="network",
        ),
        # Pathological
        pytest.param(None, [1], "f: litellm_settings: expected `name: value` lines", id="list"),
        pytest.param(
            {"user_api_key_cache_ttl": "0.0.0"},
            None,
            "f: general_settings.user_api_key_cache_ttl: expected a number above 0",
            id="dots",
        ),
    ],
)
def test_mistakes_are_noted(general: Any, litellm: Any, problem: str) -> None:
    """Each mistake is noted with its place."""
    assert parse(general, litellm)[1] == [problem]


def test_a_database_url_is_secret() -> None:
    """It holds a password, so no log shows it."""
    settings, _ = parse({"database_url": "postgresql://user:marker@db/litellm"})
    assert "marker" not in repr(settings)
