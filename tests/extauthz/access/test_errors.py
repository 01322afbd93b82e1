import json
from datetime import UTC, datetime

import pytest

from extauthz.access.errors import (
    AddressDeniedError,
    BudgetExceededError,
    KeyBlockedError,
    KeyExpiredError,
    ModelDeniedError,
    ProjectBlockedError,
    RouteDeniedError,
    TeamBlockedError,
    TeamUnknownError,
    UnknownKeyError,
    UserInactiveError,
)
from ringback.errors import ApiError

CHALLENGE = {"www-authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("error", "status", "kind", "param", "code", "headers", "message"),
    [
        pytest.param(
            UnknownKeyError(),
            401,
            "token_not_found_in_db",
            "key",
            "key_unknown",
            CHALLENGE,
            "This API key is not known. Check that you sent the whole key, or ask your platform "
            "team for a new one.",
            id="unknown",
        ),
        pytest.param(
            KeyBlockedError(),
            401,
            "auth_error",
            "key",
            "key_blocked",
            CHALLENGE,
            "This API key is blocked. Ask your platform team to unblock it.",
            id="blocked",
        ),
        pytest.param(
            KeyExpiredError(datetime(2027, 1, 31, tzinfo=UTC)),
            401,
            "expired_key",
            "key",
            "key_expired",
            CHALLENGE,
            "This API key expired at 2027-01-31T00:00:00Z. Ask your platform team for a new one.",
            id="expired",
        ),
        pytest.param(
            ModelDeniedError(),
            403,
            "key_model_access_denied",
            "model",
            "model_denied",
            {},
            "This API key may not use the requested model. Choose another model, or ask your "
            "platform team for access.",
            id="model-denied",
        ),
        pytest.param(
            UserInactiveError(),
            401,
            "auth_error",
            "key",
            "user_inactive",
            CHALLENGE,
            "The user of this API key is deactivated. "
            "Use a key of an active user, or ask your platform team to activate this one.",
            id="user-inactive",
        ),
        pytest.param(
            TeamUnknownError(),
            404,
            "auth_error",
            "key",
            "team_unknown",
            {},
            "The team of this API key does not exist any more. "
            "Ask your platform team for a key of another team.",
            id="team-unknown",
        ),
        pytest.param(
            TeamBlockedError(),
            401,
            "auth_error",
            "key",
            "team_blocked",
            CHALLENGE,
            "The team of this API key is blocked. Ask your platform team to unblock it.",
            id="team-blocked",
        ),
        pytest.param(
            ProjectBlockedError(),
            401,
            "auth_error",
            "key",
            "project_blocked",
            CHALLENGE,
            "The project of this API key is blocked. Ask your platform team to unblock it.",
            id="project-blocked",
        ),
        pytest.param(
            AddressDeniedError(),
            403,
            "auth_error",
            None,
            "address_denied",
            {},
            "API keys may not be used from this address. "
            "Call from another network, or ask your platform team to allow this one.",
            id="address-denied",
        ),
        pytest.param(
            RouteDeniedError(),
            403,
            "auth_error",
            "key",
            "route_denied",
            {},
            "This API key may not call this path. "
            "Use another key, or ask your platform team to add the path to its allowed routes.",
            id="route-denied",
        ),
        pytest.param(
            ModelDeniedError("team"),
            403,
            "team_model_access_denied",
            "model",
            "model_denied",
            {},
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access.",
            id="model-denied-by-team",
        ),
        pytest.param(
            ModelDeniedError("member"),
            403,
            "team_model_access_denied",
            "model",
            "model_denied",
            {},
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access.",
            id="model-denied-by-member",
        ),
        pytest.param(
            ModelDeniedError("user"),
            403,
            "user_model_access_denied",
            "model",
            "model_denied",
            {},
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access.",
            id="model-denied-by-user",
        ),
        pytest.param(
            ModelDeniedError("project"),
            403,
            "project_model_access_denied",
            "model",
            "model_denied",
            {},
            "This API key may not use the requested model. "
            "Choose another model, or ask your platform team for access.",
            id="model-denied-by-project",
        ),
        pytest.param(
            BudgetExceededError("key"),
            422,
            "budget_exceeded",
            None,
            "budget_exceeded",
            {},
            "The budget of this API key is used up. Ask your platform team to raise it.",
            id="key-budget",
        ),
        pytest.param(
            BudgetExceededError("key", 429, "sk-...1234"),
            429,
            "budget_exceeded",
            None,
            "budget_exceeded",
            {},
            "The budget of API key sk-...1234 is used up. Ask your platform team to raise it.",
            id="key-budget-429",
        ),
        pytest.param(
            BudgetExceededError("team", masked="sk-...1234"),
            422,
            "budget_exceeded",
            None,
            "budget_exceeded",
            {},
            "The budget of the team of API key sk-...1234 is used up. "
            "Ask your platform team to raise it.",
            id="team-budget",
        ),
        pytest.param(
            BudgetExceededError("team_window", masked="sk-...1234"),
            422,
            "budget_exceeded",
            None,
            "budget_exceeded",
            {},
            "The budget of the team of API key sk-...1234 for the current period is used up. "
            "Ask your platform team to raise it.",
            id="window-of-the-team",
        ),
        pytest.param(
            BudgetExceededError("proxy"),
            422,
            "budget_exceeded",
            None,
            "budget_exceeded",
            {},
            "The budget of the whole gateway is used up. Ask your platform team to raise it.",
            id="proxy-budget",
        ),
    ],
)
def test_what_the_downstream_is_told(
    *,
    error: ApiError,
    status: int,
    kind: str,
    param: str | None,
    code: str,
    headers: dict[str, str],
    message: str,
) -> None:
    """Each error has LiteLLM's status and type, a stable code, and says what to do next."""
    assert error.http_status == status
    assert dict(error.headers) == headers
    assert json.loads(error.to_body()) == {
        "error": {"message": message, "type": kind, "param": param, "code": code}
    }
