from typing import Any

import pytest

from extauthz.deployments import Deployment
from extauthz.modellist import ModelList

INFO = "e.model_info"
PARAMS = "e.litellm_params"


def add(**changes: Any) -> ModelList:
    """Read one entry, with these litellm_params and, under ``info``, this model_info."""
    entry = {
        "model_name": changes.pop("model_name", "voice"),
        "model_info": changes.pop("info", {}),
        "litellm_params": {"model": "openai/gpt-realtime", "api_key": "k", **changes},
    }
    models = ModelList()
    models.add(entry, "e", {"WEIGHT": "3"})
    return models


def read(**changes: Any) -> Deployment:
    """Return the deployment of an entry without mistakes."""
    models = add(**changes)
    assert (models.problems, models.notes) == ([], [])
    (deployment,) = models.deployments
    return deployment


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Realistic
        pytest.param(
            {},
            {
                "weight": None,
                "rpm": None,
                "tpm": None,
                "order": None,
                "num_retries": None,
                "cooldown_s": None,
                "access_groups": (),
                "team": None,
                "blocked": False,
                "is_free": False,
            },
            id="nothing",
        ),
        pytest.param({"weight": 9, "rpm": 60, "tpm": 1000}, {"weight": 9, "rpm": 60, "tpm": 1000}),
        pytest.param({"order": 2, "num_retries": 0}, {"order": 2, "num_retries": 0}, id="order"),
        pytest.param({"cooldown_time": 30}, {"cooldown_s": 30}, id="cooldown"),
        pytest.param({"info": {"access_groups": ["a", "b"]}}, {"access_groups": ("a", "b")}),
        pytest.param({"info": {"blocked": True}}, {"blocked": True}, id="paused"),
        pytest.param(
            {"info": {"team_id": "t", "team_public_model_name": "theirs"}},
            {"team": "t", "model_name": "theirs"},
            id="of-a-team",
        ),
        pytest.param({"info": {"team_id": "t"}}, {"team": "t", "model_name": "voice"}, id="team"),
        pytest.param(
            {"input_cost_per_token": 0, "output_cost_per_token": 0.0}, {"is_free": True}, id="free"
        ),
        pytest.param(
            {"info": {"input_cost_per_token": 0, "output_cost_per_token": 0}},
            {"is_free": True},
            id="free-by-info",
        ),
        # Synthetic
        pytest.param({"input_cost_per_token": 0}, {"is_free": False}, id="free-by-half"),
        pytest.param(
            {"input_cost_per_token": 0, "output_cost_per_token": 1e-6},
            {"is_free": False},
            id="not-free",
        ),
        pytest.param({"weight": "os.environ/WEIGHT"}, {"weight": 3}, id="variable"),
        pytest.param({"weight": 0}, {"weight": 0}, id="drained"),
        pytest.param(
            {"info": {"team_public_model_name": "x"}}, {"team": None, "model_name": "voice"}
        ),
        pytest.param(
            {"model_name": "openai/*", "model": "openai/*"},
            {"model_name": "openai/*", "upstream_model": "*"},
            id="wildcard",
        ),
        pytest.param(
            {"model_name": "any-*"}, {"upstream_model": "gpt-realtime"}, id="wildcard-of-one-model"
        ),
    ],
)
def test_fields(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What an entry says about routing is in its deployment."""
    deployment = read(**changes)
    assert {name: getattr(deployment, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        # Realistic
        pytest.param(
            {"weight": -1, "order": "first", "num_retries": 1.5, "cooldown_time": []},
            [
                f"{PARAMS}.weight: expected a number from 0 on",
                f"{PARAMS}.order: expected a number from 0 on",
                f"{PARAMS}.num_retries: expected a whole number from 0 on",
                f"{PARAMS}.cooldown_time: expected text; put it in quotes",
            ],
            id="numbers",
        ),
        pytest.param(
            {"model": "openai/*"},
            [f"{PARAMS}.model: holds a * for which model_name has none; name the model"],
            id="star-for-nothing",
        ),
        # Synthetic
        pytest.param(
            {"info": {"access_groups": "a", "blocked": "yes"}},
            [
                f"{INFO}.access_groups: expected a list, one `- ` per entry",
                f"{INFO}.blocked: expected true or false",
            ],
            id="info",
        ),
        pytest.param(
            {"info": {"access_groups": [None]}},
            [f"{INFO}.access_groups[0]: is missing; write the name of a group, or remove it"],
            id="empty-name",
        ),
        pytest.param(
            {"input_cost_per_token": "free"},
            [f"{PARAMS}.input_cost_per_token: expected a number from 0 on"],
            id="cost",
        ),
        # Pathological
        pytest.param({"weight": float("nan")}, [f"{PARAMS}.weight: expected a number from 0 on"]),
        pytest.param({"rpm": float("inf")}, [f"{PARAMS}.rpm: expected a number from 0 on"]),
    ],
)
def test_mistakes(changes: dict[str, Any], problems: list[str]) -> None:
    """Every mistake is named by its place, and the entry is not used."""
    models = add(mode="realtime", **changes)
    assert models.problems == problems
    assert models.deployments == []


def test_changing_weights_keeps_the_id() -> None:
    """Tokens stay with their deployment when its routing changes, also where a wildcard has it."""
    wild = {"model_name": "openai/*", "model": "openai/*"}
    assert read(weight=1).id == read(weight=2, order=3, info={"access_groups": ["a"]}).id
    assert read(**wild).id == read(**wild, rpm=5).id
    assert read(**wild).id != read().id
