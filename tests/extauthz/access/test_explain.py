from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from extauthz.access.explain import Step, explain
from extauthz.catalogue import Catalogue
from extauthz.generalsettings import GeneralSettings
from extauthz.keys import AccessGroup, Budget, BudgetWindow, Limits, Scope, VirtualKey
from helpers.authz import NOW, OPENAI, Config
from ringback.calllimits import CallLimits

REALTIME = replace(OPENAI, mode="realtime")
CATALOGUE = Catalogue(
    Config(
        (REALTIME, replace(OPENAI, id="c", model_name="chat", upstream_model="gpt-4o")),
        {"fast": "voice"},
    )
)
KEY = VirtualKey("ab" * 32)
NAMES = ["key", "route", "owners", "model", "budgets", "deployments", "limits"]


def steps_of(key: VirtualKey, model: str | None = "voice", **settings: Any) -> dict[str, Step]:
    """Return what each rule says."""
    now = datetime.fromtimestamp(NOW, UTC)
    steps = explain(key, model, CATALOGUE, now, GeneralSettings(**settings))
    return {step.name: step for step in steps}


def test_a_key_without_any_restriction() -> None:
    """Every rule is asked, in the order of the service, and says what it looked at."""
    steps = steps_of(KEY)
    assert [(step.name, step.outcome) for step in steps.values()] == [(n, "ok") for n in NAMES]
    assert [step.text for step in steps.values()] == [
        "not blocked; never expires",
        "every path",
        "belongs to nobody",
        "voice is group voice; lists: key all",
        "none",
        "d-openai at https://api.openai.com",
        "none",
    ]


@pytest.mark.parametrize(
    ("changes", "name", "text"),
    [
        # Realistic
        pytest.param(
            {"expires": datetime(2027, 1, 31, tzinfo=UTC)},
            "key",
            "not blocked; expires at 2027-01-31T00:00:00Z",
            id="expiry",
        ),
        pytest.param(
            {"team": "web", "user": "ada", "user_scope": Scope("ada")},
            "owners",
            "user ada; team web, of which nothing else is known",
            id="team-that-the-source-does-not-know",
        ),
        pytest.param(
            {"team": "web", "team_scope": Scope("web", models=("voice", "chat"))},
            "model",
            "voice is group voice; lists: key all; team voice, chat",
            id="list-of-the-team",
        ),
        pytest.param(
            {"models": ("voice",), "access_groups": (AccessGroup("g1", of_key=True),)},
            "model",
            "voice is group voice; lists: key voice; access groups g1",
            id="access-groups",
        ),
        pytest.param(
            {
                "budget": Budget(1.5, 10),
                "windows": (BudgetWindow("1d", Budget(0.25, 1)),),
                "model_budgets": {"voice": Budget(0, 3)},
                "team_scope": Scope("web", budget=Budget(7, 100)),
            },
            "budgets",
            (
                "key 1.5 of 10 USD; key for 1d 0.25 of 1 USD; key for voice 0 of 3 USD; "
                "team 7 of 100 USD"
            ),
            id="budgets",
        ),
        pytest.param(
            {
                "limits": Limits(rpm=60, parallel=2, model_rpm={"voice": 5}),
                "user_scope": Scope("ada", limits=Limits(rpm=9)),
                "max_open_calls": 3,
            },
            "limits",
            "key 60 per minute; key 5 per minute for the model; user 9 per minute; key 2 at once; "
            "key 3 open calls, where they are supervised",
            id="limits",
        ),
        pytest.param(
            {"call_limits": CallLimits(None, 900, 60, 500_000)},
            "limits",
            "each call 900 s; each call 60 s of silence; each call 0.5 USD",
            id="limits-of-calls",
        ),
        pytest.param(
            {"allowed_routes": ("/v1/realtime/calls",)},
            "route",
            "only /v1/realtime/calls",
            id="one-path",
        ),
        # Synthetic
        pytest.param(
            {"models": (*(f"m{n}" for n in range(20)), "*")},
            "model",
            (
                "voice is group voice; lists: key m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, "
                "m11 and 9 more"
            ),
            id="long-list",
        ),
    ],
)
def test_what_is_allowed(changes: dict[str, Any], name: str, text: str) -> None:
    """A rule that admits says what it looked at."""
    assert steps_of(replace(KEY, **changes))[name] == Step(name, "ok", text)


@pytest.mark.parametrize(
    ("changes", "model", "name", "code", "words"),
    [
        # Realistic
        pytest.param({"blocked": True}, "voice", "key", "key_blocked", "is blocked", id="blocked"),
        pytest.param(
            {"team_scope": Scope("web", blocked=True)},
            "voice",
            "owners",
            "team_blocked",
            "The team of this API key is blocked",
            id="team-blocked",
        ),
        pytest.param(
            {"models": ("chat",), "team_scope": Scope("web")},
            "voice",
            "model",
            "model_denied",
            "Refused by the list of the key: key chat; team all",
            id="not-in-the-list",
        ),
        pytest.param({}, "nope", "deployments", "model_unknown", "No deployment", id="unknown"),
        pytest.param(
            {"team_scope": Scope("web", budget=Budget(7, 5))},
            "voice",
            "budgets",
            "budget_exceeded",
            "Spent: team 7 of 5 USD.",
            id="budget-of-the-team",
        ),
        pytest.param(
            {"allowed_routes": ("/chat",)}, "voice", "route", "route_denied", "path", id="routes"
        ),
        pytest.param(
            {"limits": Limits(parallel=0)},
            "voice",
            "limits",
            "too_many_at_once",
            "0 requests at a time",
            id="none-at-once",
        ),
        pytest.param(
            {"limits": Limits(rpm=0)}, "voice", "limits", "rate_limited", "0 per", id="no-requests"
        ),
    ],
)
def test_what_is_refused(
    changes: dict[str, Any], model: str, name: str, code: str, words: str
) -> None:
    """A rule that refuses gives its error and whose list or sum it was; the others go on."""
    steps = steps_of(replace(KEY, **changes), model)
    assert [step.code for step in steps.values() if step.outcome == "refused"] == [code]
    assert steps[name].code == code
    assert words in steps[name].text
    assert list(steps) == NAMES


def test_no_model_is_named() -> None:
    """Without a name the one realtime group is meant; several are no choice of ours."""
    assert steps_of(KEY, None)["model"].text.startswith("voice is group voice")
    other = replace(REALTIME, id="o", model_name="other")
    catalogue = Catalogue(Config((REALTIME, other)))
    (*_, last) = explain(KEY, None, catalogue, datetime.fromtimestamp(NOW, UTC), GeneralSettings())
    assert (last.name, last.code) == ("model", "model_required")
